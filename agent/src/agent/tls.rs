//! TLS towards the fleet: version 1.3 only, no resumption (it would skip checks), and a CA that is pinned: the
//! one root wrote at the join, or, while joining, the one whose fingerprint the token carries.
//!
//! Whatever address is dialled, the fleet proves the name [`FLEET_NAME`].

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::identity::Identity;

/// The name in the fleet's certificate.
pub const FLEET_NAME: &str = "fleetd.loadline";

/// A connection, of whatever kind.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A future that a trait returns.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The way to the fleet's machine.
pub trait Network: fmt::Debug + Send + Sync {
    /// Opens a connection to `host:port`.
    fn dial<'a>(&'a self, address: &'a str) -> Pending<'a, io::Result<Box<dyn Io>>>;
}

/// TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Network for Tcp {
    fn dial<'a>(&'a self, address: &'a str) -> Pending<'a, io::Result<Box<dyn Io>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}

/// The fleet cannot be spoken to; split by what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nothing answers.
    #[error("cannot reach the fleet at {address}: is fleetd running, and is the port open from here?")]
    Unreachable {
        /// What was dialled.
        address: String,
        #[source]
        source: io::Error,
    },
    /// Nothing answers in time.
    #[error("no answer from the fleet at {address} within {}s: is fleetd running, and is the port open from here?", after.as_secs())]
    TimedOut {
        /// What was dialled.
        address: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// Another CA.
    #[error(
        "{address} is not the fleet this node should trust: its CA is another one; check the address, or make a new token on the right fleet"
    )]
    AnotherCa {
        /// What was dialled.
        address: String,
    },
    /// The certificate does not hold now.
    #[error(
        "the fleet's certificate at {address} does not hold at this machine's time: check the clock here and there"
    )]
    Clock {
        /// What was dialled.
        address: String,
    },
    /// The fleet refused this node's certificate.
    #[error(
        "the fleet at {address} refuses this node's certificate ({alert:?}): it is expired or banned; join again with `loadline-agent join --rejoin TOKEN`"
    )]
    Refused {
        /// What was dialled.
        address: String,
        /// What it said.
        alert: AlertDescription,
    },
    /// Anything else between TCP and TLS.
    #[error("no secure connection to {address}: is it a fleet's port?")]
    Tls {
        /// What was dialled.
        address: String,
        #[source]
        source: io::Error,
    },
}

/// The TLS settings cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("the node's TLS settings cannot be made from its key and certificates")]
pub struct TlsSettingsError(#[source] rustls::Error);

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn finish(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// For the session: the pinned CA, and this node's certificate.
pub(crate) fn session_config(
    ca: &CertificateDer<'static>,
    identity: &Identity,
) -> Result<Arc<ClientConfig>, TlsSettingsError> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).map_err(TlsSettingsError)?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsSettingsError)?
        .with_root_certificates(roots)
        .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(TlsSettingsError)?;
    Ok(finish(config))
}

/// For the join: the CA is the one with this fingerprint, and this node has no certificate yet.
pub(crate) fn join_config(fingerprint: [u8; 32]) -> Result<Arc<ClientConfig>, TlsSettingsError> {
    let verifier = PinnedCa {
        fingerprint,
        provider: provider(),
    };
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsSettingsError)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(finish(config))
}

/// Dials and shakes hands.
pub(crate) async fn connect(
    network: &dyn Network,
    address: &str,
    config: Arc<ClientConfig>,
    patience: Duration,
) -> Result<TlsStream<Box<dyn Io>>, DialError> {
    let both = async {
        let io = network
            .dial(address)
            .await
            .map_err(|source| DialError::Unreachable {
                address: address.to_owned(),
                source,
            })?;
        let name = ServerName::try_from(FLEET_NAME)
            .map_err(|error| explain(address, io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        TlsConnector::from(config)
            .connect(name, io)
            .await
            .map_err(|error| explain(address, error))
    };
    tokio::time::timeout(patience, both).await.unwrap_or_else(|_| {
        Err(DialError::TimedOut {
            address: address.to_owned(),
            after: patience,
        })
    })
}

/// Finds out what a TLS failure means.
pub(crate) fn explain(address: &str, source: io::Error) -> DialError {
    let address = address.to_owned();
    match tls_cause(&source) {
        Some(rustls::Error::InvalidCertificate(wrong)) => match wrong {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => DialError::Clock { address },
            _ => DialError::AnotherCa { address },
        },
        Some(rustls::Error::AlertReceived(alert)) => DialError::Refused {
            address,
            alert: *alert,
        },
        _ => DialError::Tls { address, source },
    }
}

/// The TLS error within an error, however deep.
pub(crate) fn tls_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // io::Error shows the source of its inner error, not the inner error itself.
        if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref)
            && let Some(found) = tls_cause(inner)
        {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// No certificate of the presented chain has the fingerprint.
#[derive(Debug, thiserror::Error)]
#[error("no certificate with the pinned fingerprint was presented")]
struct NotPinned;

/// Believes a chain only if it ends in the CA whose SHA-256 is known beforehand.
#[derive(Debug)]
struct PinnedCa {
    fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let other = |error: OtherError| rustls::Error::InvalidCertificate(CertificateError::Other(error));
        let ca = intermediates
            .iter()
            .find(|certificate| Sha256::digest(certificate)[..] == self.fingerprint)
            .ok_or_else(|| other(OtherError(Arc::new(NotPinned))))?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| other(OtherError(Arc::new(error))))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
