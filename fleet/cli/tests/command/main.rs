//! The real `fleet` program against a fleet in this process: what it prints, what it asks, how it ends.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod authority;
mod following;
mod prove;
mod sharing;
mod trust;
mod wire;
mod words;

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use authority::{Authority, GOOD};
use tokio::process::{Child, Command};
use wire::{Fake, Script};

/// A whole command may take so long on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a command went.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A fleet, and a person who is logged in to it.
pub(crate) struct World {
    pub(crate) fake: Fake,
    pub(crate) home: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new(script: Script) -> Self {
        let authority = Arc::new(Authority::new());
        let fake = Fake::start(Arc::clone(&authority), Some(&authority), script).await;
        let home = tempfile::tempdir().unwrap();
        authority.enrol(home.path(), fake.address, &GOOD);
        Self { fake, home }
    }

    pub(crate) async fn fleet(&self, words: &str) -> Ran {
        fleet(self.home.path(), words.split_whitespace()).await
    }
}

pub(crate) fn start(home: &Path, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Child {
    Command::new(env!("CARGO_BIN_EXE_fleet"))
        .args(words)
        .env_clear()
        .env("LOADLINE_CONFIG", home)
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

pub(crate) async fn ended(child: Child) -> Ran {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.expect("the command is still running").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

pub(crate) async fn fleet(home: &Path, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ran {
    ended(start(home, words)).await
}
