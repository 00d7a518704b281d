//! `testbed`: guests by hand and guest tests, from one command.

use std::process::ExitCode;

use clap::Parser;
use loadline_tests::cli::Arguments;

fn main() -> ExitCode {
    match loadline_tests::cli::run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("testbed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
