//! What can be typed about teams and quotas.

use clap::{Args, Subcommand, ValueEnum};

/// Teams.
#[derive(Debug, Subcommand)]
pub enum TeamCommand {
    /// List teams: what they hold of what they may, and what they have had lately
    List,
    /// Show one team
    Show {
        /// Its name
        team: String,
    },
    /// Make a team, or change it; what is not said stays as it is
    Set {
        /// Its name
        team: String,
        /// Its part of the fleet, by the sum of the weights of all teams that want something [default: 100]
        #[arg(long, value_name = "N")]
        weight: Option<u32>,
        /// Let a person use it. May be repeated
        #[arg(long, value_name = "USER")]
        add: Vec<String>,
        /// Let a person use it no longer; what runs goes on. May be repeated
        #[arg(long, value_name = "USER")]
        remove: Vec<String>,
        /// When its work may start, by UTC, like "Mon-Fri 19:00-07:00". May be repeated
        #[arg(long, value_name = "WHEN", conflicts_with = "always")]
        window: Vec<String>,
        /// Its work may start at any time again
        #[arg(long)]
        always: bool,
    },
    /// Remove a team that has no open jobs
    Remove {
        /// Its name
        team: String,
    },
}

/// Quotas.
#[derive(Debug, Subcommand)]
pub enum QuotaCommand {
    /// Show what a team may hold and spend, and what is used of it
    Show {
        /// The team
        team: String,
    },
    /// Change what a team may hold and spend; what is not said stays as it is, `none` lifts a limit
    #[command(after_help = "\
A limit below what is held ends nothing: nothing that needs more of it starts until there is less.
A budget of hours is paid beforehand, by each job's time limit, and what was not used is given back: a team that has
one has to say how long its jobs may run. Periods begin at midnight UTC; weeks on Monday, months on the first.

Examples:
  fleet quota set vision --cpus 64 --memory 256GiB --gpus 4
  fleet quota set vision --user-cpus 16 --workers 200
  fleet quota set vision --gpu-hours 500 --per month
  fleet quota set vision --gpus none")]
    Set {
        /// The team
        team: String,
        /// The limits.
        #[command(flatten)]
        limits: Box<QuotaFlags>,
    },
    /// Lift all limits of a team
    Remove {
        /// The team
        team: String,
    },
}

/// When a new budget begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Period {
    /// Each midnight.
    Day,
    /// Each Monday.
    Week,
    /// Each first of a month.
    Month,
}

impl Period {
    /// The word used in files and tables.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }
}

/// Limits.
#[derive(Debug, Clone, Default, Args)]
pub struct QuotaFlags {
    /// CPUs that all its workers hold together
    #[arg(long, value_name = "N|none", help_heading = "At once, the whole team")]
    pub cpus: Option<String>,
    /// Memory that all its workers hold together
    #[arg(long, value_name = "SIZE|none", help_heading = "At once, the whole team")]
    pub memory: Option<String>,
    /// GPUs that all its workers hold together
    #[arg(long, value_name = "N|none", help_heading = "At once, the whole team")]
    pub gpus: Option<String>,
    /// Workers
    #[arg(long, value_name = "N|none", help_heading = "At once, the whole team")]
    pub workers: Option<String>,
    /// CPUs
    #[arg(long, value_name = "N|none", help_heading = "At once, each user")]
    pub user_cpus: Option<String>,
    /// Memory
    #[arg(long, value_name = "SIZE|none", help_heading = "At once, each user")]
    pub user_memory: Option<String>,
    /// GPUs
    #[arg(long, value_name = "N|none", help_heading = "At once, each user")]
    pub user_gpus: Option<String>,
    /// Workers
    #[arg(long, value_name = "N|none", help_heading = "At once, each user")]
    pub user_workers: Option<String>,
    /// CPU-hours
    #[arg(long, value_name = "N|none", help_heading = "In each period")]
    pub cpu_hours: Option<String>,
    /// GiB-hours of memory
    #[arg(long, value_name = "N|none", help_heading = "In each period")]
    pub memory_hours: Option<String>,
    /// GPU-hours
    #[arg(long, value_name = "N|none", help_heading = "In each period")]
    pub gpu_hours: Option<String>,
    /// How long a period is [default: month]
    #[arg(long, value_enum, value_name = "PERIOD", help_heading = "In each period")]
    pub per: Option<Period>,
}
