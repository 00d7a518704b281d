//! TLS 1.3 to fleetd: pinned authority, fixed name, no resumption.
//!
//! The name that is verified is always [`SERVER_NAME`], whatever address is dialled, so addresses may change.

mod frank;
mod pinned;

pub use frank::Verdict;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use loadline_model::WallTime;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::identity::Identity;
use crate::token::LoginToken;

/// A connection to fleetd.
pub type Stream = frank::Frank<tokio_rustls::client::TlsStream<TcpStream>>;

/// The name in fleetd's certificate.
const SERVER_NAME: &str = "fleetd.loadline";
/// A packet that is lost and sent again twice takes about 3 s on Linux; a slow link as much again.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The certificate's time is over.
    #[error("your certificate has expired")]
    Expired {
        /// Whose.
        user: String,
        /// When.
        at: WallTime,
    },
    /// The address leads nowhere.
    #[error("cannot reach the fleet at {address}")]
    Tcp {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody answered.
    #[error("no answer from the fleet at {address} within {} s", CONNECT_TIME.as_secs())]
    Silent {
        /// Where.
        address: String,
    },
    /// Whoever answers is not the fleet, or does not speak TLS 1.3.
    #[error("no trusted connection to the fleet at {address}")]
    Tls {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The identity cannot be used.
    #[error("your identity cannot be used for TLS")]
    Identity {
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

impl ConnectError {
    /// What to do about it.
    pub fn next_step(&self) -> String {
        match self {
            Self::Expired { user, .. } => format!(
                "ask an operator for a new token (`fleet token login {user}`), then type `fleet login TOKEN`"
            ),
            Self::Tcp { source, .. } => match source.kind() {
                io::ErrorKind::ConnectionRefused => {
                    "is fleetd running there? `systemctl status fleetd` says".into()
                }
                _ => "check the network and the name, or try `fleet doctor`".into(),
            },
            Self::Silent { .. } => "check the network and firewalls, or try `fleet doctor`".into(),
            Self::Tls { source, .. } => tls_step(source),
            Self::Identity { .. } => "log in again: `fleet login TOKEN`".into(),
        }
    }
}

/// What a failed handshake means to the person.
fn tls_step(error: &io::Error) -> String {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
            | CertificateError::Expired
            | CertificateError::ExpiredContext { .. },
        )) => "compare this machine's clock with the fleet's: `date -u` on both".into(),
        Some(rustls::Error::InvalidCertificate(_)) => {
            "whoever answers there is not the fleet you logged in to; if it was set up anew, log in again with a new token".into()
        }
        _ => "whatever answers there is not fleetd, or something in between interferes: check the address".into(),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Connects with the person's certificate to the mutual port.
///
/// # Errors
/// When the certificate has expired, nobody answers, or who answers is not the fleet.
pub async fn connect_mutual(identity: &Identity, now: WallTime) -> Result<Stream, ConnectError> {
    if identity.expires <= now {
        let user = identity.membership.user.clone();
        return Err(ConnectError::Expired {
            user,
            at: identity.expires,
        });
    }
    let mut roots = RootCertStore::empty();
    roots
        .add(identity.ca.clone())
        .map_err(|source| ConnectError::Identity { source })?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| {
            builder
                .with_root_certificates(roots)
                .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
        })
        .map_err(|source| ConnectError::Identity { source })?;
    handshake(config, &identity.membership.session_address).await
}

/// Connects to the access port, trusting the authority that the token names.
///
/// # Errors
/// When nobody answers, or who answers is not the fleet of the token.
pub async fn connect_pinned(token: &LoginToken) -> Result<Stream, ConnectError> {
    let verifier = Arc::new(pinned::Pinned::new(token.fingerprint, provider()));
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|source| ConnectError::Identity { source })?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    handshake(config, &token.address).await
}

async fn handshake(mut config: ClientConfig, address: &str) -> Result<Stream, ConnectError> {
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from(SERVER_NAME).map_err(|_| ConnectError::Identity {
        source: rustls::Error::General(format!("{SERVER_NAME} is not a name")),
    })?;
    let owned = || address.to_string();
    let both = async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|source| ConnectError::Tcp {
                address: owned(),
                source,
            })?;
        // Small messages are answered one by one; waiting to fill packets only adds latency.
        stream.set_nodelay(true).map_err(|source| ConnectError::Tcp {
            address: owned(),
            source,
        })?;
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .map(frank::Frank::new)
            .map_err(|source| ConnectError::Tls {
                address: owned(),
                source,
            })
    };
    timeout(CONNECT_TIME, both)
        .await
        .map_err(|_| ConnectError::Silent { address: owned() })?
}
