//! `loadline-agent`: see the library's `agent` module.

use std::process::ExitCode;

fn main() -> ExitCode {
    loadline_node::agent::main()
}
