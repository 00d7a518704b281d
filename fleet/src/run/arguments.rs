//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{DEFAULT_PATH, ReachableName};

/// Loadline's fleet manager: places jobs on nodes, keeps the truth, signs certificates and orders.
#[derive(Debug, Parser)]
#[command(name = "fleetd", version, max_term_width = 100)]
pub struct Arguments {
    /// The configuration; without the default file, defaults hold.
    #[arg(long, global = true, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a fleet on this machine: its authority, its order key, its store and its first administrator.
    ///
    /// Refuses where a fleet exists already. Prints the one command with which the administrator logs in.
    Init(Init),
    /// Run the fleet manager. Started by systemd as fleetd.service.
    Run,
    /// Check configuration, keys and audit log, and say what is wrong.
    Check,
    /// Let an administrator in again: a new login token, made while fleetd is stopped.
    ///
    /// For a store that was lost or restored, or an administrator who cannot log in any more.
    Admin(Admin),
    /// Work with the audit log.
    #[command(subcommand)]
    Audit(Audit),
}

/// Options of `init`.
#[derive(Debug, Args)]
pub struct Init {
    /// A name or address at which nodes and people reach this machine; repeat for several, the first goes into
    /// tokens [default: this machine's host name].
    #[arg(long = "name", value_name = "HOST[:7718]")]
    pub names: Vec<ReachableName>,
    /// The state directory [default: the configuration's, /var/lib/loadline-fleet].
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The first administrator.
    #[command(flatten)]
    pub admin: AdminName,
}

/// Options of `admin`.
#[derive(Debug, Args)]
pub struct Admin {
    /// The state directory [default: the configuration's, /var/lib/loadline-fleet].
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The administrator; added if the store does not know them.
    #[command(flatten)]
    pub admin: AdminName,
}

/// Who the administrator is.
#[derive(Debug, Clone, Args)]
pub struct AdminName {
    /// The administrator's name in the fleet.
    #[arg(long = "admin", value_name = "NAME", default_value = "admin")]
    pub name: String,
    /// The account their jobs run as [default: the same as the name].
    #[arg(long, value_name = "ACCOUNT")]
    pub unix_account: Option<String>,
}

/// What to do with the audit log.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Read the whole chain and name the first line that was changed, dropped or moved.
    Verify {
        /// The log, or a copy of it.
        file: PathBuf,
    },
}
