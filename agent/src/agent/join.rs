//! `loadline-agent join TOKEN`, run by root, once: this node makes its key, gets its certificate, and pins the
//! fleet's CA and order key where the agent cannot change them.
//!
//! Order: everything that can fail locally is tried before the token is used up; then the one call; then all
//! files are written beside their places; then they are renamed, `ca.pem` last, because the units start only
//! once it is there. A failure leaves things as they were.

mod files;

use std::path::PathBuf;
use std::time::Duration;

use data_encoding::HEXLOWER;
use loadline_model::{FleetId, NodeId};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use self::files::{Prepared, Written};
use super::durable::{Owner, WriteError};
use super::identity::{Draft, IdentityError, spiffe};
use super::settings::{Places, Timing};
use super::tls::{self, DialError, Network, TlsSettingsError};
use super::token::JoinToken;
use super::trust::{CA, FleetFile};
use super::wire::{self, Joined, Keepalive, Refusal};

/// What to join, as whom, and where to write it.
#[derive(Debug)]
pub struct JoinPlan {
    /// The token.
    pub token: JoinToken,
    /// The name that the caller expects; none: the token's.
    pub name: Option<String>,
    /// This node has joined before, and that shall be replaced.
    pub rejoin: bool,
    /// Where the files go.
    pub places: Places,
    /// The agent's user and group; none: whoever runs this.
    pub owner: Option<(u32, u32)>,
    /// How long each step may take.
    pub timing: Timing,
}

/// What was joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinOutcome {
    /// The node's name.
    pub node: String,
    /// Its id.
    pub node_id: NodeId,
    /// Its fleet.
    pub fleet_id: FleetId,
    /// Its pool.
    pub pool: String,
    /// Where its sessions go.
    pub session_address: String,
}

/// The node did not join; nothing was changed unless the variant says so.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// There is trust already.
    #[error(
        "this node has joined a fleet already ({path} is there): add --rejoin to replace its identity and trust"
    )]
    AlreadyJoined {
        /// The file that says so.
        path: PathBuf,
    },
    /// The token is another node's.
    #[error(
        "this token is for the node `{token}`, not for `{asked}`: use that name, or make one with `fleet token node {asked}`"
    )]
    AnotherName {
        /// The node it is for.
        token: String,
        /// The name that was asked for.
        asked: String,
    },
    /// The fleet's port cannot be spoken to.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The TLS settings cannot be made.
    #[error(transparent)]
    TlsSettings(#[from] TlsSettingsError),
    /// The fleet said no.
    #[error("the fleet refuses: {}: {}", .0.message, next_step(.0))]
    Refused(Refusal),
    /// The fleet gave no answer.
    #[error("the fleet at {address} gave no answer within {}s: try again; if the token is used by now, make a new one with `fleet token node`", after.as_secs())]
    TimedOut {
        /// What was dialled.
        address: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// What the fleet answered does not fit together.
    #[error(
        "the fleet's answer does not fit together ({0}): nothing was changed; check that fleetd and loadline-node are of versions that fit"
    )]
    Answer(&'static str),
    /// The key or certificate cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A file cannot be written, and nothing was asked of the fleet yet.
    #[error("nothing was changed and the token was not used")]
    Unwritable(#[source] WriteError),
    /// A file cannot be written after the token was used.
    #[error(
        "the files could not be written and the token is used up: make room, and join again with a new one from `fleet token node`"
    )]
    Write(#[source] WriteError),
}

fn next_step(refusal: &Refusal) -> String {
    if refusal.next_step.is_empty() {
        "make a new token with `fleet token node NAME`".to_owned()
    } else {
        refusal.next_step.clone()
    }
}

/// Joins.
///
/// # Errors
/// When it could not; see [`JoinError`].
pub async fn join(plan: JoinPlan, network: &dyn Network) -> Result<JoinOutcome, JoinError> {
    let JoinPlan {
        token,
        name,
        rejoin,
        places,
        owner,
        timing,
    } = plan;
    let pinned = places.trust().join(CA);
    if pinned.exists() && !rejoin {
        return Err(JoinError::AlreadyJoined { path: pinned });
    }
    if let Some(asked) = name.filter(|asked| *asked != token.node) {
        return Err(JoinError::AnotherName {
            token: token.node,
            asked,
        });
    }
    let prepared = Prepared::new(&places, owner).map_err(JoinError::Unwritable)?;
    let draft = Draft::new()?;
    let JoinToken {
        address,
        fingerprint,
        secret,
        node,
    } = token;
    let stream = tls::connect(network, &address, tls::join_config(fingerprint)?, timing.connect).await?;
    let keepalive = Keepalive {
        every: timing.ping,
        answer: timing.ping_answer,
    };
    let call = wire::join(stream, keepalive, secret, node.clone(), draft.request(&node)?);
    let patience = 2 * timing.connect;
    let joined = tokio::time::timeout(patience, call)
        .await
        .map_err(|_| JoinError::TimedOut {
            address,
            after: patience,
        })?
        .map_err(JoinError::Refused)?;
    check(&joined, fingerprint)?;
    let outcome = JoinOutcome {
        node,
        node_id: joined.node,
        fleet_id: joined.fleet,
        pool: joined.pool.clone(),
        session_address: joined.session_address.clone(),
    };
    let expected = spiffe(joined.fleet, joined.node);
    write(&places, &draft, &joined, &outcome, &expected, owner)?;
    prepared.keep();
    Ok(outcome)
}

/// The CA is the token's, and the order key is the one its id names.
fn check(joined: &Joined, fingerprint: [u8; 32]) -> Result<(), JoinError> {
    let ca = CertificateDer::from_pem_slice(joined.ca.as_bytes())
        .map_err(|_| JoinError::Answer("its CA is not a certificate"))?;
    if Sha256::digest(&ca)[..] != fingerprint {
        return Err(JoinError::Answer("its CA is not the token's"));
    }
    if joined.order_key.len() != 32 {
        return Err(JoinError::Answer("its order key is not an Ed25519 key"));
    }
    if HEXLOWER.encode(&Sha256::digest(&joined.order_key)[..8]) != joined.order_key_id {
        return Err(JoinError::Answer("its order key is not the one it names"));
    }
    Ok(())
}

fn write(
    places: &Places,
    draft: &Draft,
    joined: &Joined,
    outcome: &JoinOutcome,
    expected: &str,
    owner: Owner,
) -> Result<(), JoinError> {
    let fleet = FleetFile {
        fleet_id: joined.fleet,
        node_id: joined.node,
        node: outcome.node.clone(),
        pool: joined.pool.clone(),
        session_address: joined.session_address.clone(),
        order_key_id: joined.order_key_id.clone(),
    };
    let (_, identity) = draft.stage(places, &joined.certificate, expected, owner)?;
    Written::stage(places, &joined.ca, &joined.order_key, &fleet)
        .and_then(|trust| trust.commit(places, identity))
        .map_err(JoinError::Write)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(ca: &str, key: Vec<u8>, key_id: &str) -> Joined {
        Joined {
            node: NodeId::from_slice(&[1; 16]).unwrap(),
            fleet: FleetId::from_slice(&[2; 16]).unwrap(),
            certificate: String::new(),
            ca: ca.to_owned(),
            order_key_id: key_id.to_owned(),
            order_key: key,
            session_address: "h:1".into(),
            pool: "default".into(),
        }
    }

    #[test]
    fn answers_that_do_not_fit_together_are_refused() {
        let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let ca = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let print: [u8; 32] = Sha256::digest(ca.der()).into();
        let id = HEXLOWER.encode(&Sha256::digest([7; 32])[..8]);
        assert!(check(&joined(&ca.pem(), vec![7; 32], &id), print).is_ok());
        for (wrong, print) in [
            (joined("no certificate", vec![7; 32], &id), print),
            (joined(&ca.pem(), vec![7; 32], &id), [0; 32]),
            (joined(&ca.pem(), vec![7; 31], &id), print),
            (joined(&ca.pem(), vec![8; 32], &id), print),
        ] {
            assert!(
                matches!(check(&wrong, print), Err(JoinError::Answer(_))),
                "{wrong:?}"
            );
        }
    }
}
