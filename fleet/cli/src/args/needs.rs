//! Flags of `fleet run` about where workers may go and what a job waits for.

use clap::Args;

/// Where its workers may go.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Where its workers may go")]
pub struct NeedsArgs {
    /// Only nodes whose labels say so: 'zone=eu', 'zone!=eu', 'zone in (eu,us)', 'ssd', '!spot'. May be repeated
    #[arg(long, value_name = "REQUIREMENT")]
    pub require: Vec<String>,
    /// Such nodes first. May be repeated
    #[arg(long, value_name = "REQUIREMENT")]
    pub prefer: Vec<String>,
    /// Also nodes with this taint. May be repeated
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub tolerate: Vec<String>,
    /// Only GPUs of these models, like A100,H100
    #[arg(long, value_delimiter = ',', value_name = "MODEL")]
    pub gpu_model: Vec<String>,
    /// Only GPUs with at least so much memory, like 40GiB
    #[arg(long, value_name = "SIZE")]
    pub gpu_memory: Option<String>,
    /// Only a part of one GPU, like 50% (nodes lend whole GPUs only so far)
    #[arg(long, value_name = "PERCENT")]
    pub gpu_share: Option<String>,
    /// Space on the node's own disks (no node lends any so far)
    #[arg(long, value_name = "SIZE")]
    pub scratch: Option<String>,
    /// single: a worker's CPUs and memory fit one NUMA node [default: any]
    #[arg(long, value_name = "any|single")]
    pub numa: Option<String>,
    /// Spread the workers evenly over all nodes, or over the values of a label; those without a place wait
    #[arg(long, value_name = "node|LABEL")]
    pub spread: Option<String>,
    /// The same as far as there is room
    #[arg(long, value_name = "node|LABEL")]
    pub prefer_spread: Option<String>,
    /// As few nodes, or values of a label, as there is room
    #[arg(long, value_name = "node|LABEL")]
    pub pack: Option<String>,
    /// Only on nodes with a worker of this job of yours or your team's, by name or number. May be repeated
    #[arg(long, value_name = "JOB")]
    pub near: Vec<String>,
    /// Only on nodes without one. May be repeated
    #[arg(long, value_name = "JOB")]
    pub away_from: Vec<String>,
    /// All workers start together, as close to each other as there is room, or none does
    #[arg(long)]
    pub gang: bool,
}

/// What it waits for.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "What it waits for")]
pub struct WaitsArgs {
    /// Start once this job has ended well. May be repeated
    #[arg(long, value_name = "JOB")]
    pub after: Vec<String>,
    /// Start once it has ended, in any way. May be repeated
    #[arg(long, value_name = "JOB")]
    pub after_any: Vec<String>,
    /// Start once it has failed or was cancelled. May be repeated
    #[arg(long, value_name = "JOB")]
    pub after_failed: Vec<String>,
    /// Not before: 2h from now, or a time like 2026-12-01T22:00:00+01:00
    #[arg(long, value_name = "TIME")]
    pub start_after: Option<String>,
    /// The tasks of an array, like 1-1000 (arrays cannot run yet)
    #[arg(long, value_name = "FIRST-LAST")]
    pub array: Option<String>,
}
