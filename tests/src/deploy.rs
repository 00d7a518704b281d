//! Loadline on a fleet of guests, installed the way IT would: packages, one command for the first admin, one token
//! a node.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::testbed::{Fleet, Guest};

/// `apt-get` in an emulated guest unpacks a few MB a second, on a busy host less.
const INSTALL_LIMIT: Duration = Duration::from_secs(240);
/// Two round trips, two services started, one session.
const READY_LIMIT: Duration = Duration::from_secs(90);

/// The packages under test.
#[derive(Debug, Clone)]
pub struct Packages {
    folder: PathBuf,
}

impl Packages {
    /// The packages of a folder.
    ///
    /// # Errors
    /// When one of the three is missing; the error says how to build them.
    pub fn of(folder: &Path) -> Result<Self> {
        let packages = Self {
            folder: folder.to_owned(),
        };
        for name in ["loadline-node", "loadline-fleet", "loadline-cli"] {
            packages.file(name)?;
        }
        Ok(packages)
    }

    /// The newest file of a package.
    ///
    /// # Errors
    /// When there is none.
    pub fn file(&self, name: &str) -> Result<PathBuf> {
        let list = std::fs::read_dir(&self.folder).with_context(|| {
            format!(
                "read {}: `make packages` builds the packages",
                self.folder.display()
            )
        })?;
        let begin = format!("{name}_");
        let mut found: Vec<PathBuf> = list
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|end| end == "deb"))
            .filter(|path| {
                path.file_name()
                    .is_some_and(|file| file.to_string_lossy().starts_with(begin.as_str()))
            })
            .collect();
        found.sort();
        found.pop().with_context(|| {
            format!(
                "no {name}_*.deb in {}: `make packages` builds it",
                self.folder.display()
            )
        })
    }

    /// Installs packages in a guest with apt, in one call.
    ///
    /// # Errors
    /// When apt refuses.
    pub fn install(&self, guest: &Guest, names: &[&str]) -> Result<()> {
        let mut files = String::new();
        for name in names {
            let target = format!("/var/tmp/{name}.deb");
            guest.put(&self.file(name)?, &target)?;
            files.push_str(&target);
            files.push(' ');
        }
        let command = format!("DEBIAN_FRONTEND=noninteractive apt-get install -q -y --reinstall {files}");
        guest.ok_within(&command, INSTALL_LIMIT).map(drop)
    }
}

/// The guest that runs fleetd and where operators sit.
pub const FLEET_GUEST: &str = "fleet";

/// Installs and starts fleetd on a guest and makes root there the first admin, with exactly the command that
/// `fleetd init` prints.
///
/// # Errors
/// When a step fails.
pub fn start_fleetd(guest: &Guest, packages: &Packages) -> Result<()> {
    packages.install(guest, &["loadline-fleet", "loadline-cli"])?;
    let printed = guest.ok(&format!("fleetd init --name {}", guest.name()))?;
    let login = printed
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("fleet login "))
        .with_context(|| format!("`fleetd init` named no `fleet login` command:\n{printed}"))?
        .to_owned();
    guest.ok("systemctl enable --now fleetd")?;
    guest.wait_ok("fleetd is up", "systemctl is-active fleetd", READY_LIMIT)?;
    guest.ok(&login).map(drop)
}

/// A fleet of one machine that is its own manager.
///
/// # Errors
/// When a step fails.
pub fn start_alone(guest: &Guest, packages: &Packages) -> Result<()> {
    start_fleetd(guest, packages)?;
    packages.install(guest, &["loadline-node"])?;
    join(guest, guest)?;
    await_ready(guest, guest.name())
}

/// Installs fleetd on the guest `fleet` and the node package on every other one, all at once, and joins each node with
/// a token of its own.
///
/// # Errors
/// When a step fails.
pub fn start_fleet(fleet: &Fleet, packages: &Packages) -> Result<()> {
    fleet.each(|guest| match guest.name() {
        FLEET_GUEST => start_fleetd(guest, packages),
        _ => packages.install(guest, &["loadline-node"]),
    })?;
    let admin = fleet.guest(FLEET_GUEST)?;
    fleet.each(|guest| match guest.name() {
        FLEET_GUEST => Ok(()),
        name => {
            join(admin, guest)?;
            await_ready(admin, name)
        }
    })
}

/// Joins one node with a fresh token.
///
/// # Errors
/// When the token cannot be made or the node is refused.
pub fn join(admin: &Guest, node: &Guest) -> Result<()> {
    let token = token(admin, &format!("fleet token node {}", node.name()))?;
    node.ok(&format!("loadline-agent join {token}")).map(drop)
}

/// Makes a token with the given command and gives its text.
///
/// # Errors
/// When there is none in the answer.
pub fn token(admin: &Guest, command: &str) -> Result<String> {
    let answer = admin.ok(&format!("{command} -o json"))?;
    let answer: serde_json::Value =
        serde_json::from_str(&answer).with_context(|| format!("`{command} -o json` printed {answer}"))?;
    let token = answer["token"]
        .as_str()
        .with_context(|| format!("no token in {answer}"))?;
    ensure!(token.starts_with("LL"), "an odd token: {token}");
    Ok(token.to_owned())
}

/// Waits until the fleet calls a node ready.
///
/// # Errors
/// On time-out; the error shows what the fleet said last.
pub fn await_ready(admin: &Guest, node: &str) -> Result<()> {
    let look = format!("fleet nodes | tee /dev/stderr | grep -E '^{node} +.*ready'");
    admin
        .wait_ok(&format!("node {node} is ready"), &look, READY_LIMIT)
        .map(drop)
}

/// Makes a person of the fleet out of a Unix account of the guest where operators sit, logged in there.
///
/// # Errors
/// When a step fails.
pub fn add_person(admin: &Guest, account: &str, role: &str) -> Result<()> {
    admin.ok(&format!("fleet user add {account} --role {role}"))?;
    let token = token(admin, &format!("fleet token login {account}"))?;
    admin
        .ok(&as_person(account, &format!("fleet login {token}")))
        .map(drop)
}

/// A command as an account of the guest, in its home.
#[must_use]
pub fn as_person(account: &str, command: &str) -> String {
    let command = command.replace('\'', r"'\''");
    format!(
        "cd ~{account} && setpriv --reuid {account} --regid {account} --init-groups --reset-env -- bash -c '{command}'"
    )
}
