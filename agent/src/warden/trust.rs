//! Whose orders this node obeys: what `loadline-agent join` pinned as root, in a folder the agent cannot write.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::pkcs8::DecodePublicKey;
use loadline_model::{FleetId, NodeId};
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// How many hexadecimal digits of the key's SHA-256 name it.
const KEY_ID_DIGITS: usize = 16;

/// The fleet this node belongs to, and the key that signs its orders.
#[derive(Debug, Clone)]
pub struct Trust {
    /// The fleet.
    pub fleet: FleetId,
    /// This node.
    pub node: NodeId,
    /// Its name.
    pub node_name: String,
    /// The key's id, as orders name it.
    pub key_id: String,
    pub(super) key: VerifyingKey,
}

/// Why the pinned trust cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file cannot be read.
    #[error("reading {} failed: join this node to a fleet first (`loadline-agent join TOKEN`)", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// `fleet.json` is not as join writes it.
    #[error("{} is not as join writes it: join this node again", path.display())]
    FleetFile {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The key is no Ed25519 public key.
    #[error("{} is no Ed25519 public key: join this node again", path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: ed25519_dalek::pkcs8::spki::Error,
    },
    /// `fleet.json` names another key than the one that lies beside it.
    #[error("fleet.json names the order key {named} and the key beside it is {found}: join this node again")]
    KeyId {
        /// As named.
        named: String,
        /// As found.
        found: String,
    },
}

/// The part of `fleet.json` that the warden needs; the rest is the agent's.
#[derive(Deserialize)]
struct FleetFile {
    fleet_id: FleetId,
    node_id: NodeId,
    node: String,
    order_key_id: String,
}

impl Trust {
    /// Reads what join pinned.
    ///
    /// # Errors
    /// When a file is missing or not as join writes it.
    pub fn load(folder: &Path) -> Result<Self, TrustError> {
        let read = |name: &str| {
            let path = folder.join(name);
            let text = fs::read_to_string(&path);
            text.map_err(|source| TrustError::Read {
                path: path.clone(),
                source,
            })
            .map(|text| (path, text))
        };
        let (path, text) = read("fleet.json")?;
        let file: FleetFile =
            serde_json::from_str(&text).map_err(|source| TrustError::FleetFile { path, source })?;
        let (path, text) = read("order.pub.pem")?;
        let key =
            VerifyingKey::from_public_key_pem(&text).map_err(|source| TrustError::Key { path, source })?;
        let found = key_id(&key);
        if found != file.order_key_id {
            return Err(TrustError::KeyId {
                named: file.order_key_id,
                found,
            });
        }
        Ok(Self {
            fleet: file.fleet_id,
            node: file.node_id,
            node_name: file.node,
            key_id: found,
            key,
        })
    }
}

/// The first digits of the SHA-256 of the 32-byte public key.
pub fn key_id(key: &VerifyingKey) -> String {
    let mut id = HEXLOWER.encode(&Sha256::digest(key.as_bytes()));
    id.truncate(KEY_ID_DIGITS);
    id
}
