//! `fleetd init`: a fleet from nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use loadline_model::FleetId;
use uuid::Uuid;

use super::account;
use super::admin::{AdminError, let_in};
use super::arguments::{AdminName, Init};
use crate::ca::{KeysError, KeysLayout};
use crate::clock::Clock;
use crate::config::{Config, NameProblem, ReachableName};

/// The store's file in the state directory.
pub(super) const STORE: &str = "store.db";
/// The audit log's file in the state directory.
pub(super) const AUDIT: &str = "audit.log";

/// What a new fleet is made of.
#[derive(Debug)]
pub struct InitOptions {
    /// Where.
    pub state_dir: PathBuf,
    /// At least one.
    pub names: Vec<ReachableName>,
    /// The first administrator.
    pub admin: AdminName,
}

/// A fleet that was made.
#[derive(Debug)]
pub struct Made {
    /// Its id.
    pub fleet: FleetId,
    /// What the first administrator types.
    pub login_command: String,
    /// The token alone.
    pub login_token: String,
}

/// Why no fleet was made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is a store already.
    #[error("{} exists: this machine holds a fleet already, or the rest of one; move it aside to make a new one", .0.display())]
    StoreExists(PathBuf),
    /// The machine has no host name to be reached by.
    #[error("this machine's host name cannot be used: give `--name`")]
    HostName(#[source] NameProblem),
    /// The machine's host name could not be read.
    #[error("reading this machine's host name")]
    HostNameUnread(#[source] nix::Error),
    /// The keys could not be made.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The first administrator could not be made; what was made before was removed.
    #[error("making the store and the first administrator")]
    Admin(#[source] AdminError),
    /// Removing a half-made fleet failed as well.
    #[error("removing the half-made fleet in {}", path.display())]
    CleanUp {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

pub(super) fn command(config: &Path, options: Init) -> Result<(), super::Failure> {
    let config = Config::load(config)?;
    let mut names = options.names;
    if names.is_empty() {
        names.clone_from(&config.names);
    }
    if names.is_empty() {
        names.push(host_name()?);
    }
    let state_dir = options.dir.unwrap_or(config.state_dir);
    account::make(&state_dir)?;
    account::become_owner(&state_dir)?;
    let first = names[0].clone();
    let made = init(
        &InitOptions {
            state_dir: state_dir.clone(),
            names,
            admin: options.admin,
        },
        &Clock::system(),
    )?;
    println!("Fleet {} is made in {}.", made.fleet, state_dir.display());
    println!("Start it: sudo systemctl enable --now fleetd");
    println!();
    println!("Then log in as its administrator, within 24 hours, on a machine that reaches {first}:");
    println!();
    println!("  {}", made.login_command);
    Ok(())
}

fn host_name() -> Result<ReachableName, InitError> {
    let name = nix::unistd::gethostname().map_err(InitError::HostNameUnread)?;
    name.to_string_lossy().parse().map_err(InitError::HostName)
}

/// Makes a fleet: keys, store, first administrator. All of it or nothing.
///
/// # Errors
/// When there is one already, or it cannot be made.
pub fn init(options: &InitOptions, clock: &Clock) -> Result<Made, InitError> {
    let store = options.state_dir.join(STORE);
    let layout = KeysLayout::of(&options.state_dir);
    if !layout.folder().exists() && store.exists() {
        return Err(InitError::StoreExists(store));
    }
    let fleet = FleetId::from_uuid(Uuid::from_bytes(random_v4()));
    let names = options.names.iter().map(ReachableName::to_string).collect();
    layout.create(fleet, names, clock.now())?;
    match let_in(&options.state_dir, &options.admin, clock) {
        Ok(login) => Ok(Made {
            fleet,
            login_command: login.command,
            login_token: login.token,
        }),
        Err(error) => {
            remove(layout.folder(), &options.state_dir)?;
            Err(InitError::Admin(error))
        }
    }
}

/// Version 4, variant 1, of RFC 9562.
fn random_v4() -> [u8; 16] {
    let mut bytes: [u8; 16] = rand::random();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    bytes
}

fn remove(keys: &Path, state_dir: &Path) -> Result<(), InitError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| InitError::CleanUp { path, source }
    };
    fs::remove_dir_all(keys).map_err(failed(keys))?;
    for entry in fs::read_dir(state_dir).map_err(failed(state_dir))? {
        let path = entry.map_err(failed(state_dir))?.path();
        let ours = path.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name.starts_with(STORE) || name == AUDIT
        });
        if ours {
            fs::remove_file(&path).map_err(failed(&path))?;
        }
    }
    Ok(())
}
