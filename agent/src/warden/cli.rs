//! The command line of `loadline-warden`.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use loadline_model::{PerMille, Span};
use loadline_policy::node_policy::Mode;
use tokio::runtime;
use tracing_subscriber::EnvFilter;

use super::check_protect::protected;
use super::control;
use super::drain::drain;
use super::record_end::record_end;
use super::run::{Paths, look, run};
use crate::host::cgroup::CgroupFs;
use crate::host::clock::SystemClock;
use crate::host::systemd::LiveSystemd;
use crate::prove::{self, antagonist, stand_in};
use crate::sentence::{chain, say};

/// Enough for the loop, the socket and the bus; more would cost memory for nothing.
const THREADS: usize = 2;

/// Holds the line between production and lent work on one node.
#[derive(Debug, Parser)]
#[command(name = "loadline-warden", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Hold the line until told to end; workers go on after that.
    Run,
    /// Say which of Loadline's requirements this host meets.
    Check {
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Show what this node may do, what it does, and who runs.
    Status {
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Let lent work have at most so much of this node's line: 0 ends it all at once, 100 gives it back.
    Line {
        /// Of the line that node.toml leaves.
        #[arg(value_parser = clap::value_parser!(u16).range(0..=100))]
        percent: u16,
    },
    /// Let this node do no more than this, within what node.toml allows.
    Mode {
        /// off, shadow or enforce.
        #[arg(value_parser = mode)]
        mode: Mode,
    },
    /// Write down how a worker ended; run by loadline-ended@.service.
    RecordEnd {
        /// The attempt, 32 hexadecimal digits.
        attempt: String,
    },
    /// Test on this machine whether lent work, held at the line, costs production anything; run as root.
    Prove(prove::Arguments),
    /// Press one resource, for `prove`.
    #[command(hide = true)]
    ProveAntagonist(antagonist::Arguments),
    /// Stand in for production, for `prove`.
    #[command(hide = true)]
    ProveStandIn(stand_in::Arguments),
    /// End all workers on this node by name, each with its grace.
    Drain {
        /// How long to wait for them.
        #[arg(long, default_value = "10m")]
        timeout: Span,
        /// Only say which workers run, and fail if any does.
        #[arg(long)]
        refuse: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// The command line, for those who check what documents say about it.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Parses the command line, runs it, and says how it went.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_env("LOADLINE_LOG").unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .without_time()
        .with_ansi(false)
        .init();
    match arguments.command {
        Command::RecordEnd { attempt } => {
            let variable = |name: &str| std::env::var(name).ok();
            told(record_end(
                &Paths::default().ended(),
                &attempt,
                &SystemClock,
                variable,
            ))
        }
        Command::Run => told(blocking(run(Paths::default()))),
        Command::Check { output } => blocking(check(output)),
        Command::Status { output } => {
            let status = blocking(control::status(&Paths::default()));
            told(status.map(|status| match output {
                Output::Table => say(status.table().trim_end()),
                Output::Json => say(status.json()),
            }))
        }
        Command::Line { percent } => set(None, Some(PerMille(percent * 10))),
        Command::Mode { mode } => set(Some(mode), None),
        Command::Prove(arguments) => blocking(prove::main(arguments)),
        Command::ProveAntagonist(arguments) => told(antagonist::run(&arguments)),
        Command::ProveStandIn(arguments) => told(stand_in::run(&arguments)),
        Command::Drain { timeout, refuse } => {
            let drained = blocking(drain(Paths::default(), timeout, refuse));
            told(drained.map(|count| say(format_args!("workers ended: {count}"))))
        }
    }
}

fn mode(text: &str) -> Result<Mode, String> {
    Mode::from_word(text).ok_or_else(|| "there are off, shadow and enforce".to_owned())
}

fn set(mode: Option<Mode>, line: Option<PerMille>) -> ExitCode {
    let status = blocking(control::set(&Paths::default(), mode, line));
    told(status.map(|status| say(status.table().trim_end())))
}

fn blocking<T>(work: impl Future<Output = T>) -> T {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(work),
        // No threads, no descriptors: nothing can be done here.
        Err(error) => panic!("the runtime cannot be made: {error}"),
    }
}

async fn check(output: Output) -> ExitCode {
    let systemd = LiveSystemd::connect().await;
    let machine = match &systemd {
        Ok((systemd, _)) => look(&Paths::default(), Ok(systemd)).await,
        Err(problem) => look(&Paths::default(), Err(chain(problem))).await,
    };
    let mut report = machine.report();
    if let (Ok((systemd, _)), Some(policy)) = (&systemd, machine.policy()) {
        report
            .requirements
            .extend(protected(&policy, systemd, &CgroupFs::default()).await);
    }
    match output {
        Output::Table => say(report.table().trim_end()),
        Output::Json => say(report.json()),
    }
    if report.passed().is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn told<T>(result: Result<T, impl std::error::Error>) -> ExitCode {
    match result {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadline-warden: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}
