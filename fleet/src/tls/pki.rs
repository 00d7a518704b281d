//! The certificates in force: the fleet's own authority, or the site's PKI as files.
//!
//! A [`Pki`] is immutable; renewing and reloading make a new one, and every new connection uses the newest.

use std::path::PathBuf;
use std::sync::Arc;

use loadline_model::{FleetId, Span, WallTime};
use rcgen::KeyPair;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::TimeProvider;
use rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::verifier::PeerVerifier;
use crate::ca::{Authority, IssueError, KeysError, KeysLayout, Subject};
use crate::clock::Clock;
use crate::trust::DirectorySource;

/// The site's own PKI. The signing certificate is usually an intermediate made for Loadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PkiFiles {
    /// The signing certificate first, then whatever else is to be trusted.
    pub ca: PathBuf,
    /// The signing certificate's key.
    pub ca_key: PathBuf,
    /// fleetd's own certificate chain and key; none: signed by the authority above.
    pub server: Option<(PathBuf, PathBuf)>,
}

/// Where certificates come from.
#[derive(Debug, Clone)]
pub struct PkiSource {
    /// Whose they are.
    pub fleet: FleetId,
    /// The keys made by `fleetd init`.
    pub layout: KeysLayout,
    /// The site's own instead of them.
    pub files: Option<PkiFiles>,
    /// Names and addresses for fleetd's own certificate.
    pub names: Vec<String>,
    /// The time.
    pub clock: Clock,
    /// Who is known and who is banned.
    pub directory: DirectorySource,
}

/// Everything TLS needs, belonging together.
#[derive(Debug)]
pub struct Pki {
    /// Signs certificates.
    pub authority: Authority,
    /// Port 7717.
    pub session: Arc<ServerConfig>,
    /// Port 7718.
    pub access: Arc<ServerConfig>,
    /// When fleetd's own certificate ends.
    pub server_expires: WallTime,
    /// When it was made; none if it is the site's.
    made_at: Option<WallTime>,
}

impl Pki {
    /// True if fleetd has to make its own certificate anew: half of its life is over, or the clock was set back to
    /// before it was made. A machine may start with a clock that is years off and set it a minute later.
    pub fn is_stale(&self, now: WallTime) -> bool {
        self.made_at
            .is_some_and(|made_at| is_stale(made_at, self.server_expires, now))
    }
}

fn is_stale(made_at: WallTime, expires: WallTime, now: WallTime) -> bool {
    let half = Span(expires.since(made_at).0 / 2);
    now < made_at || now >= made_at.plus(half)
}

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file cannot be read.
    #[error("the certificates' files")]
    Files(#[from] KeysError),
    /// The authority cannot be used.
    #[error("the certificate authority {}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: crate::ca::AuthorityError,
    },
    /// fleetd's own certificate could not be signed.
    #[error("signing fleetd's own certificate")]
    Sign(#[source] IssueError),
    /// fleetd's own key could not be made.
    #[error("making fleetd's own key")]
    Key(#[source] rcgen::Error),
    /// A PEM file holds nothing usable.
    #[error("{} holds no usable PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The site's certificate for fleetd misses the name that clients verify.
    #[error("{} does not carry the DNS name `fleetd.loadline` that clients verify: have it added as a subject alternative name", .0.display())]
    ServerName(PathBuf),
    /// rustls refused the whole.
    #[error("the certificates do not make a TLS configuration")]
    Tls(#[source] rustls::Error),
    /// The client verifier could not be built.
    #[error("the authority cannot verify clients")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

#[derive(Debug)]
struct ClockProvider(Clock);

impl TimeProvider for ClockProvider {
    fn current_time(&self) -> Option<UnixTime> {
        let micros = u64::try_from(self.0.now().0).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_micros(
            micros,
        )))
    }
}

struct ServerIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    expires: WallTime,
    made_at: Option<WallTime>,
}

impl PkiSource {
    /// Reads and checks everything anew.
    ///
    /// # Errors
    /// When anything is missing or does not fit together; whatever was in force stays so.
    pub fn load(&self) -> Result<Pki, PkiError> {
        let authority = self.authority()?;
        let server = match self.files.as_ref().and_then(|files| files.server.as_ref()) {
            Some((chain, key)) => site_server(chain, key)?,
            None => self.own_server(&authority)?,
        };
        let roots = Arc::new(roots(&authority)?);
        let provider = Arc::new(ring::default_provider());
        let verifier = PeerVerifier::new(roots, provider.clone(), self.fleet, self.directory.clone())
            .map_err(PkiError::Verifier)?;
        let build = || {
            ServerConfig::builder_with_details(provider.clone(), Arc::new(ClockProvider(self.clock.clone())))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .map_err(PkiError::Tls)
        };
        let finish = |builder: rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>| {
            let mut config = builder
                .with_single_cert(server.chain.clone(), server.key.clone_key())
                .map_err(PkiError::Tls)?;
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            config.alpn_protocols = vec![b"h2".to_vec()];
            Ok::<_, PkiError>(Arc::new(config))
        };
        let session = finish(build()?.with_client_cert_verifier(Arc::new(verifier)))?;
        let access = finish(build()?.with_no_client_auth())?;
        Ok(Pki {
            authority,
            session,
            access,
            server_expires: server.expires,
            made_at: server.made_at,
        })
    }

    fn authority(&self) -> Result<Authority, PkiError> {
        let Some(files) = &self.files else {
            return Ok(self.layout.read()?.authority);
        };
        let ca = crate::ca::read(&files.ca)?;
        let key = crate::ca::read_secret(&files.ca_key)?;
        Authority::read(self.fleet, &ca, &key).map_err(|source| PkiError::Authority {
            path: files.ca.clone(),
            source,
        })
    }

    fn own_server(&self, authority: &Authority) -> Result<ServerIdentity, PkiError> {
        let key = KeyPair::generate().map_err(PkiError::Key)?;
        let now = self.clock.now();
        let issued = authority
            .issue(Subject::Server { names: &self.names }, &key, now)
            .map_err(PkiError::Sign)?;
        // Leaf and authority: a client that knows only the authority's fingerprint needs both.
        let chain = std::iter::once(issued.der)
            .chain(authority.certificates().first().cloned())
            .collect();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(ServerIdentity {
            chain,
            key,
            expires: issued.expires,
            made_at: Some(now),
        })
    }
}

fn roots(authority: &Authority) -> Result<RootCertStore, PkiError> {
    let mut roots = RootCertStore::empty();
    for certificate in authority.certificates() {
        roots.add(certificate.clone()).map_err(PkiError::Tls)?;
    }
    Ok(roots)
}

fn site_server(chain_path: &PathBuf, key_path: &PathBuf) -> Result<ServerIdentity, PkiError> {
    let bad = |path: &PathBuf| {
        let path = path.clone();
        move |source| PkiError::Pem { path, source }
    };
    let chain = CertificateDer::pem_slice_iter(crate::ca::read(chain_path)?.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(bad(chain_path))?;
    let key =
        PrivateKeyDer::from_pem_slice(crate::ca::read_secret(key_path)?.as_bytes()).map_err(bad(key_path))?;
    let missing = || PkiError::ServerName(chain_path.clone());
    let leaf = chain.first().ok_or_else(missing)?;
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| missing())?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let named = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .any(|name| *name == GeneralName::DNSName(crate::ca::SERVER_NAME));
    if !named {
        return Err(missing());
    }
    let expires = WallTime(
        certificate
            .validity()
            .not_after
            .timestamp()
            .saturating_mul(1_000_000),
    );
    Ok(ServerIdentity {
        chain,
        key,
        expires,
        made_at: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_life_or_a_clock_set_back_make_it_stale() {
        let at = |seconds: i64| WallTime(seconds * 1_000_000);
        let stale = |now| is_stale(at(1000), at(2000), at(now));
        assert!(!stale(1000) && !stale(1499));
        assert!(stale(1500) && stale(9_000_000));
        assert!(stale(999));
    }
}
