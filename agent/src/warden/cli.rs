//! The command line of `loadline-warden`.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use loadline_model::Span;
use tokio::runtime;
use tracing_subscriber::EnvFilter;

use super::check_protect::protected;
use super::drain::drain;
use super::record_end::record_end;
use super::run::{Paths, look, run};
use crate::host::cgroup::CgroupFs;
use crate::host::clock::SystemClock;
use crate::host::systemd::LiveSystemd;
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
    /// Write down how a worker ended; run by loadline-ended@.service.
    RecordEnd {
        /// The attempt, 32 hexadecimal digits.
        attempt: String,
    },
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
        Command::Drain { timeout, refuse } => {
            let drained = blocking(drain(Paths::default(), timeout, refuse));
            told(drained.map(|count| say(format_args!("workers ended: {count}"))))
        }
    }
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
