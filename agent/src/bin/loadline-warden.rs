//! `loadline-warden`: see the library's `warden` module.

use std::process::ExitCode;

fn main() -> ExitCode {
    loadline_node::warden::main()
}
