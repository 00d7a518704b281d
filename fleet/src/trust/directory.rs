//! The people and bans that every handshake, every call and every open connection is checked against.
//!
//! The fleet's state is the truth; this is the latest copy of the few facts that trust needs, behind a watch
//! channel: a ban reaches every open connection as soon as it is durable (promise P10).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use loadline_model::NodeId;
use tokio::sync::watch;

use super::{Actor, Identity, Role};

/// What trust knows of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// What they may do.
    pub role: Role,
    /// The account their jobs run as.
    pub unix_account: String,
    /// Whose quota they use; empty: nobody's.
    pub team: String,
    /// Refused until unbanned.
    pub banned: bool,
}

/// Everyone trust knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    /// People by name.
    pub people: BTreeMap<String, Person>,
    /// Nodes that are refused.
    pub banned_nodes: BTreeSet<NodeId>,
}

/// Why someone with a good certificate is refused all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Banned by an administrator or operator.
    #[error("{0} is banned from this fleet")]
    Banned(String),
    /// Not, or no longer, in this fleet.
    #[error("this fleet knows nobody called {0}")]
    Unknown(String),
    /// fleetd's own certificate was presented as a client's.
    #[error("fleetd's own certificate is not for clients")]
    Server,
}

/// Where the newest directory is found.
pub type DirectorySource = watch::Receiver<Arc<Directory>>;

impl Directory {
    /// True if open connections of this identity must be closed.
    pub fn is_banned(&self, identity: &Identity) -> bool {
        match identity {
            Identity::Node(node) => self.banned_nodes.contains(node),
            Identity::Person(name) => self.people.get(name).is_some_and(|person| person.banned),
            Identity::Fleetd => true,
        }
    }

    /// The identity with its role, if it may act at all.
    ///
    /// # Errors
    /// When it is banned or unknown.
    pub fn actor(&self, identity: &Identity) -> Result<Actor, Refusal> {
        match identity {
            Identity::Node(node) if self.banned_nodes.contains(node) => {
                Err(Refusal::Banned(node.to_string()))
            }
            Identity::Node(node) => Ok(Actor::Node(*node)),
            Identity::Person(name) => match self.people.get(name) {
                None => Err(Refusal::Unknown(name.clone())),
                Some(person) if person.banned => Err(Refusal::Banned(name.clone())),
                Some(person) => Ok(Actor::Person {
                    name: name.clone(),
                    role: person.role,
                }),
            },
            Identity::Fleetd => Err(Refusal::Server),
        }
    }
}
