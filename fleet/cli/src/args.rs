//! What can be typed. Only words are told apart here; their meaning is checked later, all mistakes at once.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

mod needs;

pub use needs::{NeedsArgs, WaitsArgs};

mod sharing;

pub use sharing::{Period, QuotaCommand, QuotaFlags, TeamCommand};

/// Load every machine to its line, never past it.
#[derive(Debug, Parser)]
#[command(
    name = "fleet",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(after_help = "\
Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 denied, 5 unreachable.
`fleet run` and `fleet wait` pass on the job's own code.

First steps: `fleet login TOKEN`, then `fleet run -- echo hello`.")]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// How to print: tables for people, JSON for programs
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    pub output: Format,
    /// Where your identity lies [default: ~/.config/loadline]
    #[arg(
        long,
        global = true,
        env = "LOADLINE_CONFIG",
        value_name = "DIR",
        hide_env_values = true
    )]
    pub config: Option<PathBuf>,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables.
    Table,
    /// JSON; one object a line where results arrive one by one.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Get your certificate with the one-time token an operator gave you
    Login {
        /// Begins with LLP1.; `-` reads it from standard input
        token: String,
    },
    /// Run a command on the fleet and stay with it until it ends
    Run(Box<RunArgs>),
    /// List jobs
    Jobs {
        /// Also the ended ones
        #[arg(short, long)]
        all: bool,
        /// Only this person's
        #[arg(short, long, value_name = "NAME")]
        user: Option<String>,
    },
    /// Show one job: what was asked, where each worker ran, how it ended
    Job {
        /// Its number, like 412, or its id
        job: String,
    },
    /// Print what a job's workers wrote, and on standard error as `loadline: …` what was done to them
    Logs {
        /// A job, like 412, or one worker of it, like 412.3
        job: String,
        /// Only this worker
        #[arg(short, long, value_name = "N")]
        worker: Option<u32>,
        /// Go on until the job ends
        #[arg(short, long)]
        follow: bool,
        /// Only the last lines of each worker
        #[arg(short = 'n', long, value_name = "LINES")]
        tail: Option<u32>,
    },
    /// Wait until a job ends, and end with its exit code
    Wait {
        /// Its number or id
        job: String,
        /// Give up after so long, like 30s or 2h
        #[arg(long, value_name = "TIME")]
        timeout: Option<String>,
    },
    /// End a job and its workers
    Cancel {
        /// Its number or id
        job: String,
    },
    /// Say why a job waits and what would start it
    Explain {
        /// Its number or id
        job: String,
    },
    /// List nodes
    Nodes,
    /// Show what each node keeps for production, lends of the rest, and what that has cost
    Headroom {
        /// Only this node
        node: Option<String>,
    },
    /// Test whether lent work, held at the line, costs production on a node anything
    Prove(Box<ProveArgs>),
    /// Show what was done to workers and limits on nodes, each with its reason
    Receipts {
        /// A node's name, or a job's number or id; without it, all nodes
        of: Option<String>,
        /// How many of the newest
        #[arg(long, default_value_t = 50, value_name = "N")]
        last: u32,
    },
    /// Show and steer one node
    #[command(subcommand)]
    Node(NodeCommand),
    /// One-time tokens for nodes and people
    #[command(subcommand)]
    Token(TokenCommand),
    /// People who may use the fleet
    #[command(subcommand)]
    User(UserCommand),
    /// Teams: who is in them, their part of the fleet
    #[command(subcommand)]
    Team(TeamCommand),
    /// What a team may hold and spend
    #[command(subcommand)]
    Quota(Box<QuotaCommand>),
    /// Check identity, connection, clock and fleet, and say what to do
    Doctor,
    /// Print the completion script of a shell
    Completions {
        /// Which
        shell: Shell,
    },
    /// Write man pages or completions into a folder, for packages
    #[command(hide = true)]
    Generate {
        /// What
        what: Generated,
        /// Where to
        dir: PathBuf,
    },
}

/// What packages ship besides the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Generated {
    /// One page a command.
    Man,
    /// One script a shell.
    Completions,
}

/// One node.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Show what it is, what it lends and what runs there
    Show {
        /// Its name
        node: String,
    },
    /// Place nothing new there; what runs goes on
    Drain {
        /// Its name
        node: String,
    },
    /// End a drain
    Resume {
        /// Its name
        node: String,
    },
    /// Only watch there: decide and record, start nothing, touch nothing
    Shadow {
        /// Its name
        node: String,
    },
    /// Lend there again, as far as its owner allows
    Enforce {
        /// Its name
        node: String,
    },
    /// Lend nothing there: what runs is evicted
    Off {
        /// Its name
        node: String,
    },
    /// Lend at most this part of its line: 0 ends all lent work at once, 100 gives it back
    Line {
        /// Its name
        node: String,
        /// In per cent of what its owner lends
        #[arg(value_parser = clap::value_parser!(u16).range(0..=100))]
        percent: u16,
    },
    /// Set labels of a node, or take them away: jobs may require or prefer them
    Label {
        /// Its name
        node: String,
        /// KEY=VALUE sets a label, KEY one without a value, KEY- takes it away
        #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
        labels: Vec<String>,
    },
    /// Keep a node for jobs that tolerate a taint; what runs goes on
    Taint {
        /// Its name
        node: String,
        /// KEY=VALUE or KEY sets a taint, KEY- takes it away
        #[arg(required = true, value_name = "KEY[=VALUE]|KEY-")]
        taints: Vec<String>,
    },
    /// Give up a lost node: what waits for it goes on elsewhere
    Forget {
        /// Its name
        node: String,
    },
    /// Shut it out: its certificate is refused and its connections are closed
    Ban {
        /// Its name
        node: String,
    },
}

/// What to test and how. What is left out is as `loadline-warden prove` does it by itself.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
The node presses one resource after the other as lent work would, within its line, in rounds that take turns with
production alone, and compares production's latency. It ends by itself at the first sign of danger. Its owner may
refuse (lend.prove in node.toml).

Exit codes: 0 a whole report in which lent work cost production nothing that is sure; 1 it did, or the test was ended
before its end, or there is no report.")]
pub struct ProveArgs {
    /// The node's name
    pub node: String,
    /// Probe the test's own service instead of the first promise (slo) in the node's node.toml
    #[arg(long)]
    pub stand_in: bool,
    /// Requests a second, at most 100 [default: 100]
    #[arg(long, value_name = "N")]
    pub rate: Option<u32>,
    /// What lent work presses, one after the other [default: cpu,memory,cache,disk]
    #[arg(long, value_delimiter = ',', value_name = "RESOURCE")]
    pub resource: Vec<String>,
    /// Length of a round [default: 10s]
    #[arg(long, value_name = "TIME")]
    pub round: Option<String>,
    /// Pairs of rounds for each resource, one alone and one with lent work [default: 5]
    #[arg(long, value_name = "N")]
    pub rounds: Option<u32>,
    /// The whole test ends after this, at most 30m [default: 10m]
    #[arg(long, value_name = "TIME")]
    pub limit: Option<String>,
    /// Test although workers run there; they blur what production does alone
    #[arg(long)]
    pub with_workers: bool,
    /// Begin it and leave; `--last` shows what it came to
    #[arg(short, long, conflicts_with = "html")]
    pub detach: bool,
    /// Also write the report there, as a page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Begin nothing: show the node's last report
    #[arg(long, conflicts_with_all = ["stop", "detach"])]
    pub last: bool,
    /// Begin nothing: end the test that runs there, at once
    #[arg(long)]
    pub stop: bool,
}

/// Tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make the token that lets one machine join, and print what to type there
    Node {
        /// The name the node will have
        node: String,
        /// The pool it will belong to
        #[arg(long, value_name = "NAME")]
        pool: Option<String>,
        /// How long the token may be used; at most 10m
        #[arg(long, value_name = "TIME")]
        life: Option<String>,
    },
    /// Make the token with which a person logs in
    Login {
        /// Who
        user: String,
    },
    /// List tokens
    List,
    /// Make a token useless
    Revoke {
        /// Its id, as `fleet token list` shows it
        token: String,
    },
}

/// People.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a person
    Add {
        /// The name they log in with
        name: String,
        /// What they may do: admin, operator, user or viewer
        #[arg(long, default_value = "user", value_name = "ROLE")]
        role: String,
        /// The Unix account their jobs run as [default: the same name]
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        /// The team whose quota they share
        #[arg(long, value_name = "NAME")]
        team: Option<String>,
    },
    /// List people
    List,
    /// Show a person: their teams, their jobs, what their workers hold
    Show {
        /// Who
        name: String,
    },
    /// Change a person's team or role
    Set {
        /// Who
        name: String,
        /// The team that pays for their jobs from now on; `none`: no team
        #[arg(long, value_name = "NAME")]
        team: Option<String>,
        /// What they may do: admin, operator, user or viewer
        #[arg(long, value_name = "ROLE", required_unless_present = "team")]
        role: Option<String>,
    },
    /// Shut a person out, open connections included
    Ban {
        /// Who
        name: String,
    },
    /// Let a banned person in again
    Unban {
        /// Who
        name: String,
    },
}

/// What to run and how. Flags win over the file.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
The command stands behind `--`; there is no shell in between. Or a file says all of it:

  # job.toml
  version = 1
  name = \"train\"
  command = [\"python\", \"train.py\"]       # argv, no shell
  dir = \"~\"                              # default: the account's home
  env = { EPOCHS = \"3\" }                 # nothing is inherited from here
  workers = 4                            # or { min = 1, max = 8 }
  tier = \"standard\"                      # or \"burst\": starts sooner, yields first
  retries = 0
  time = \"2h\"                            # the limit of each attempt
  grace = \"30s\"                          # how long a worker may take to end when asked
  on_node_lost = \"wait\"                  # or \"replace\"
  nodes = []                             # only on these; empty: any
  require = [\"zone in (eu,us)\"]          # labels of its nodes; prefer = [] for what is only better
  tolerate = []                          # taints that do not keep it away
  spread = \"node\"                        # or the key of a label; or prefer_spread, pack
  near = []                              # jobs of yours or your team's; away_from for the opposite
  after = []                             # jobs that have to end well first; after_any, after_failed
  start_after = \"2h\"                     # or \"2026-12-01T22:00:00Z\"
  gang = false                           # true: all workers start together, or none
  priority = \"normal\"                  # or \"low\", \"high\", a number: the higher first within the tier
  team = \"vision\"                      # which of your teams pays; default: your own
  [worker]                               # each of them
  cpus = \"2\"                             # whole: its own; \"500m\": a share
  memory = \"4GiB\"
  gpus = 0                               # with them gpu_model = [\"A100\"], gpu_memory = \"40GiB\"
  numa = \"any\"                           # or \"single\": it fits one NUMA node

A worker finds its place in LOADLINE_JOB, LOADLINE_JOB_NUMBER, LOADLINE_WORKER (from 0), LOADLINE_WORKERS (how
many there may be), LOADLINE_ATTEMPT and LOADLINE_ATTEMPT_NUMBER (from 1).

Examples:
  fleet run -- echo hello
  fleet run --cpus 2 --memory 4GiB --time 2h -- python train.py
  fleet run --workers 1-8 --tier burst --cpus 500m -- ./sweep
  fleet run --require zone=eu --workers 2 --spread node -- ./serve
  fleet run --after 412 -- ./report
  fleet run job.toml --detach")]
pub struct RunArgs {
    /// A job.toml (see below)
    #[arg(value_name = "JOB.TOML")]
    pub file: Option<PathBuf>,
    /// CPUs of each worker: 2 are its own, 500m is a share [default: 1]
    #[arg(long, value_name = "N|Nm", help_heading = "Each worker gets")]
    pub cpus: Option<String>,
    /// Memory of each worker, like 4GiB [default: 512MiB]
    #[arg(long, value_name = "SIZE", help_heading = "Each worker gets")]
    pub memory: Option<String>,
    /// GPUs of each worker [default: 0]
    #[arg(long, value_name = "N", help_heading = "Each worker gets")]
    pub gpus: Option<String>,
    /// How many workers, or between how many: 4, 1-8 [default: 1]
    #[arg(long, value_name = "N|MIN-MAX")]
    pub workers: Option<String>,
    /// standard, or burst: starts sooner, yields first [default: standard]
    #[arg(long, value_name = "TIER")]
    pub tier: Option<String>,
    /// The time limit of each attempt, like 90m or 2h [default: none]
    #[arg(long, value_name = "TIME")]
    pub time: Option<String>,
    /// How long a worker may take to end when asked [default: 30s]
    #[arg(long, value_name = "TIME")]
    pub grace: Option<String>,
    /// How often a worker may be tried again after it failed [default: 0]
    #[arg(long, value_name = "N")]
    pub retries: Option<String>,
    /// A name for tables [default: the command's]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where the command starts: an absolute path, ~ or ~/… [default: ~]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<String>,
    /// A variable for the command; without a value it is taken from here. May be repeated
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub env: Vec<String>,
    /// Only on this node. May be repeated
    #[arg(long, value_name = "NAME")]
    pub node: Vec<String>,
    /// Where its workers may go.
    #[command(flatten)]
    pub needs: NeedsArgs,
    /// What it waits for.
    #[command(flatten)]
    pub waits: WaitsArgs,
    /// low, normal, high, or a number: the higher goes first within its tier, the lower yields [default: normal]
    #[arg(long, value_name = "WORD|NUMBER", allow_hyphen_values = true)]
    pub priority: Option<String>,
    /// Which of your teams pays [default: your own]
    #[arg(long, value_name = "NAME")]
    pub team: Option<String>,
    /// What to do when a node falls silent: wait for it, or replace its workers
    #[arg(long, value_name = "wait|replace")]
    pub on_node_lost: Option<String>,
    /// Submit, print the job's number and leave
    #[arg(short, long)]
    pub detach: bool,
    /// Say nothing but what the job says
    #[arg(short, long)]
    pub quiet: bool,
    /// What to run, behind `--`
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}
