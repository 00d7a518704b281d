//! `fleetd check` and `fleetd audit verify`: look, touch nothing.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::sync::watch;

use super::account;
use super::arguments::Audit;
use super::init::AUDIT;
use super::pki::source;
use crate::api::failure::chain;
use crate::audit::verify_file;
use crate::ca::KeysLayout;
use crate::clock::Clock;
use crate::config::Config;
use crate::trust::Directory;

pub(super) fn command(path: &Path) -> ExitCode {
    let mut good = true;
    let mut say = |what: &str, result: Result<String, String>| match result {
        Ok(detail) => println!("ok       {what}: {detail}"),
        Err(problem) => {
            good = false;
            println!("problem  {what}: {problem}");
        }
    };
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => {
            say("configuration", Err(chain(&error)));
            return ExitCode::FAILURE;
        }
    };
    say("configuration", Ok(path.display().to_string()));
    let owner = account::become_owner(&config.state_dir);
    say(
        "state directory",
        owner
            .map(|()| config.state_dir.display().to_string())
            .map_err(|e| chain(&e)),
    );
    let layout = KeysLayout::of(&config.state_dir);
    match layout.read() {
        Err(error) => say("keys", Err(chain(&error))),
        Ok(keys) => {
            say(
                "keys",
                Ok(format!("fleet {}, order key {}", keys.fleet, keys.order.id())),
            );
            let directory = watch::channel(Arc::new(Directory::default())).1;
            let pki = source(&config, &keys, Clock::system(), directory).load();
            let shown = pki.map(|pki| format!("authority {}", pki.authority.fingerprint()));
            say("certificates", shown.map_err(|error| chain(&error)));
        }
    }
    let log = config.state_dir.join(AUDIT);
    if log.exists() {
        let verified = verify_file(&log).map(|head| format!("{} records", head.seq));
        say("audit log", verified.map_err(|error| chain(&error)));
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

pub(super) fn audit(audit: &Audit) -> ExitCode {
    let Audit::Verify { file } = audit;
    match verify_file(file) {
        Ok(head) => {
            println!(
                "{}: {} records, unbroken; newest hash {}",
                file.display(),
                head.seq,
                head.hash
            );
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("fleetd: {}: {}", file.display(), chain(&problem));
            ExitCode::FAILURE
        }
    }
}
