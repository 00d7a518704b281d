//! Reads `node.toml`, the owner's local policy, and reports all its mistakes at once.
//!
//! Touches the file and its last good copy, needs root only to write the copy. Invalid at start: the last good
//! copy, else lend nothing. Invalid on reload: the caller keeps what it has (design §4).

mod local_time;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use loadline_model::Topology;
use loadline_policy::node_policy::{NodePolicy, PolicyMistake, PolicyMistakes, RawNodePolicy};

pub use local_time::{ZoneError, local_times};

/// Where the owner's policy stands.
pub const NODE_TOML: &str = "/etc/loadline/node.toml";
/// Where the last good one is kept.
pub const NODE_TOML_GOOD: &str = "/var/lib/loadline/warden/node.toml.good";

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It could not be read.
    #[error("reading {} failed", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no TOML.
    #[error("{} is not TOML", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// It is TOML, and not a policy for this machine.
    #[error("{} has {} mistakes", path.display(), source.0.len())]
    Mistakes {
        /// The file.
        path: PathBuf,
        /// All of them.
        #[source]
        source: PolicyMistakes,
    },
}

/// Keeping the last good copy failed.
#[derive(Debug, thiserror::Error)]
#[error("keeping a copy of the policy as {} failed", path.display())]
pub struct KeepError {
    /// The copy.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// A valid policy and the text it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The policy.
    pub policy: NodePolicy,
    /// The file's text.
    pub text: String,
}

/// What holds after a start.
#[derive(Debug)]
pub enum AtStart {
    /// The file.
    File(Loaded),
    /// The last good copy, because of the file's error.
    LastGood(Loaded, ConfigError),
    /// Nothing is lent, because of the file's error.
    Nothing(ConfigError),
}

impl AtStart {
    /// The policy that holds.
    pub fn policy(&self) -> NodePolicy {
        match self {
            Self::File(loaded) | Self::LastGood(loaded, _) => loaded.policy.clone(),
            Self::Nothing(_) => NodePolicy::lend_nothing(),
        }
    }

    /// Why it is not the file, if it is not.
    pub const fn error(&self) -> Option<&ConfigError> {
        match self {
            Self::File(_) => None,
            Self::LastGood(_, error) | Self::Nothing(error) => Some(error),
        }
    }
}

/// Reads and checks a policy for this machine.
///
/// # Errors
/// When the file cannot be read, is no TOML, or has mistakes: all of them at once.
pub fn load(path: &Path, topology: &Topology) -> Result<Loaded, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.into(),
        source,
    })?;
    let policy = parse(path, &text)?;
    let mut mistakes = policy.mistakes_on(topology);
    mistakes.extend(unknown_zones(&policy));
    if mistakes.is_empty() {
        Ok(Loaded { policy, text })
    } else {
        Err(ConfigError::Mistakes {
            path: path.into(),
            source: PolicyMistakes(mistakes),
        })
    }
}

/// Checks a text, whatever the machine. `path` names it in errors.
///
/// # Errors
/// When it is no TOML, or has mistakes.
pub fn parse(path: &Path, text: &str) -> Result<NodePolicy, ConfigError> {
    let raw: RawNodePolicy = toml::from_str(text).map_err(|source| ConfigError::Syntax {
        path: path.into(),
        source: Box::new(source),
    })?;
    NodePolicy::new(raw).map_err(|source| ConfigError::Mistakes {
        path: path.into(),
        source,
    })
}

fn unknown_zones(policy: &NodePolicy) -> Vec<PolicyMistake> {
    let zones = policy
        .zones()
        .into_iter()
        .filter(|zone| !local_time::is_known(zone));
    let mistake = |zone| PolicyMistake {
        key: "lend.windows".into(),
        problem: format!("`{zone}` is not a time zone of this machine; write one like \"Europe/Berlin\""),
    };
    zones.map(mistake).collect()
}

/// What holds at a start: the file, else the last good copy, else nothing.
pub fn at_start(path: &Path, good: &Path, topology: &Topology) -> AtStart {
    match load(path, topology) {
        Ok(loaded) => AtStart::File(loaded),
        Err(error) => match load(good, topology) {
            Ok(loaded) => AtStart::LastGood(loaded, error),
            Err(_) => AtStart::Nothing(error),
        },
    }
}

/// Keeps a valid policy as the last good one; whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub fn keep_good(good: &Path, loaded: &Loaded) -> Result<(), KeepError> {
    let failed = |source| KeepError {
        path: good.into(),
        source,
    };
    let new = good.with_extension("new");
    let mut file = fs::File::create(&new).map_err(failed)?;
    file.write_all(loaded.text.as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&new, good).map_err(failed)?;
    // The rename itself must survive a power cut.
    let folder = good.parent().unwrap_or(Path::new("/"));
    fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed)
}

#[cfg(test)]
mod tests;
