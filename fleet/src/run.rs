//! fleetd's commands: what the command line asks for, and the outside world they need.

mod account;
mod admin;
mod arguments;
mod check;
mod init;
mod notify;
mod pki;
mod serve;

use std::process::ExitCode;

pub use account::AccountError;
pub use admin::AdminError;
pub use arguments::{AdminName, Arguments, Command};
pub use init::{InitError, InitOptions, Made, init};
pub use serve::{Addresses, ServeError, Serving, Threads, start};

/// A command was used wrongly; like the `fleet` command line.
const USAGE: u8 = 2;

/// Runs a command and says how it went.
pub fn execute(arguments: Arguments) -> ExitCode {
    account::close_to_others();
    let done = match arguments.command {
        Command::Init(options) => init::command(&arguments.config, options),
        Command::Admin(options) => admin::command(&arguments.config, &options),
        Command::Run => serve::command(&arguments.config),
        Command::Check => return check::command(&arguments.config),
        Command::Audit(audit) => return check::audit(&audit),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("fleetd: {}", crate::api::failure::chain(&*failure));
            match failure.downcast_ref::<crate::config::ConfigError>() {
                Some(_) => ExitCode::from(USAGE),
                None => ExitCode::FAILURE,
            }
        }
    }
}

/// What a command can fail with: printed once, with its causes.
type Failure = Box<dyn std::error::Error + Send + Sync>;
