//! `fleet`: see the library's `program` module.

use std::process::ExitCode;

fn main() -> ExitCode {
    loadline_cli::program::main()
}
