//! What the node trusts, pinned by root at the join: the fleet's CA, its order key, and which fleet and node
//! this is. The agent only reads it.

use std::path::PathBuf;

use loadline_model::{FleetId, NodeId};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use super::settings::Places;

/// File names within the trust folder.
pub(crate) const CA: &str = "ca.pem";
pub(crate) const ORDER_KEY: &str = "order.pub.pem";
pub(crate) const FLEET: &str = "fleet.json";

/// `fleet.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FleetFile {
    pub(crate) fleet_id: FleetId,
    pub(crate) node_id: NodeId,
    pub(crate) node: String,
    pub(crate) pool: String,
    pub(crate) session_address: String,
    pub(crate) order_key_id: String,
}

/// What the agent needs of the trust folder.
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    pub(crate) ca: CertificateDer<'static>,
    pub(crate) fleet: FleetFile,
}

/// The trust folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// This node has not joined.
    #[error("cannot read {path}: has this node joined? (`loadline-agent join TOKEN`, as root)")]
    Read {
        /// The file.
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// `ca.pem` is none.
    #[error("{path} holds no certificate: join again with `loadline-agent join --rejoin TOKEN`")]
    Ca {
        /// The file.
        path: PathBuf,
    },
    /// `fleet.json` is wrong.
    #[error("{path} is not what a join writes: join again with `loadline-agent join --rejoin TOKEN`")]
    Fleet {
        /// The file.
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

impl Trust {
    pub(crate) fn load(places: &Places) -> Result<Self, TrustError> {
        let read = |name: &str| {
            let path = places.trust().join(name);
            match std::fs::read(&path) {
                Ok(bytes) => Ok((path, bytes)),
                Err(source) => Err(TrustError::Read { path, source }),
            }
        };
        let (path, pem) = read(CA)?;
        let ca = CertificateDer::from_pem_slice(&pem).map_err(|_| TrustError::Ca { path })?;
        let (path, json) = read(FLEET)?;
        let fleet = serde_json::from_slice(&json).map_err(|source| TrustError::Fleet { path, source })?;
        Ok(Self { ca, fleet })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_has_not_joined_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places {
            config: dir.path().to_owned(),
            ..Places::default()
        };
        let said = Trust::load(&places).unwrap_err().to_string();
        assert!(said.contains("loadline-agent join TOKEN"), "{said}");
        std::fs::create_dir(places.trust()).unwrap();
        std::fs::write(places.trust().join(CA), "nothing").unwrap();
        let said = Trust::load(&places).unwrap_err().to_string();
        assert!(said.contains("holds no certificate"), "{said}");
    }
}
