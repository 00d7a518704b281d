//! The program: reads the arguments, runs the command on one thread, turns the result into an exit code. Here and not
//! in the binary, which would compile every command a second time: a future is compiled where it is waited for.

use std::io::Write;
use std::process::ExitCode;

use crate::args::{Cli, Format};
use crate::commands;
use crate::exit::Exit;
use crate::problem::Problem;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

/// Runs `fleet` with the arguments of this process.
#[must_use]
pub fn main() -> ExitCode {
    if std::env::args_os().len() < 2 {
        // clap would only say that a command is missing: a variable may stand for an option.
        let _ = Cli::command().print_help();
        return Exit::Usage.into();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let output = cli.global.output;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(source) => return report(&Problem::Runtime { source }, output),
    };
    // Left without waiting for lookups and signal handlers that nobody needs any more.
    let done = runtime.block_on(commands::run(cli));
    runtime.shutdown_background();
    match done {
        Ok(exit) => exit.into(),
        Err(problem) => report(&problem, output),
    }
}

fn report(problem: &Problem, output: Format) -> ExitCode {
    // With standard error gone there is nobody left to tell; the exit code still says it.
    let _ = writeln!(std::io::stderr(), "{}", problem.told(output));
    problem.exit().into()
}

/// Asked-for help and versions are no mistake; everything else is a usage error (design §7: 2).
fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done.into(),
        _ => Exit::Usage.into(),
    }
}
