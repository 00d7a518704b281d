//! The fleet manager's program: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use loadline_fleet::run::{Arguments, execute};

fn main() -> ExitCode {
    execute(Arguments::parse())
}
