//! A fleet's certificate authority for tests, with a clock of the test's own.

use std::sync::Arc;

use loadline_model::{FleetId, NodeId, WallTime};
use loadline_node::agent::{Clock, FLEET_NAME};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateSigningRequestParams,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls::RootCertStore;
use rustls::pki_types::{PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

/// Wall time that goes on with tokio's clock, which tests can pause and advance.
#[derive(Debug, Clone)]
pub(crate) struct TestClock {
    origin: WallTime,
    start: Instant,
}

impl TestClock {
    /// Begins at the real time, because the agent's own TLS checks use that.
    pub(crate) fn new() -> Self {
        let real = loadline_node::agent::SystemClock;
        Self {
            origin: Clock::now(&real),
            start: Instant::now(),
        }
    }
}

impl Clock for TestClock {
    fn now(&self) -> WallTime {
        let passed = i64::try_from(self.start.elapsed().as_micros()).unwrap();
        WallTime(self.origin.0 + passed)
    }
}

impl TimeProvider for TestClock {
    fn current_time(&self) -> Option<UnixTime> {
        let secs = u64::try_from(Clock::now(self).0 / 1_000_000).unwrap();
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(secs)))
    }
}

/// The CA of a fleet.
pub(crate) struct Ca {
    pub(crate) certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
    pub(crate) fleet: FleetId,
    pub(crate) clock: TestClock,
}

impl Ca {
    pub(crate) fn new(clock: TestClock) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let fleet = FleetId::from_uuid(uuid::Uuid::new_v4());
        Self {
            certificate,
            issuer: Issuer::new(params, key),
            fleet,
            clock,
        }
    }

    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(self.certificate.der()).into()
    }

    /// A certificate for a node's request, from now (a second ago, as whole seconds are all it can say).
    pub(crate) fn certify(&self, request_der: &[u8], node: NodeId, life_secs: i64) -> String {
        let mut request = CertificateSigningRequestParams::from_der(&request_der.into()).unwrap();
        let now = self.clock.now();
        request.params.subject_alt_names = vec![SanType::URI(
            format!("spiffe://{}/node/{node}", self.fleet).try_into().unwrap(),
        )];
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let at = |time: i64| {
            let since_1970 = std::time::Duration::from_secs(u64::try_from(time).unwrap());
            rcgen::date_time_ymd(1970, 1, 1) + since_1970
        };
        let now = now.0 / 1_000_000;
        request.params.not_before = at(now - 1);
        request.params.not_after = at(now - 1 + life_secs);
        request.signed_by(&self.issuer).unwrap().pem()
    }

    /// What fleetd serves TLS with; `clients` asks for node certificates.
    pub(crate) fn server_config(&self, clients: bool, names: &[&str]) -> Arc<rustls::ServerConfig> {
        let mut params =
            CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let chain = vec![leaf.der().clone(), self.certificate.der().clone()];
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let time: Arc<dyn TimeProvider> = Arc::new(self.clock.clone());
        let builder = rustls::ServerConfig::builder_with_details(Arc::clone(&provider), time)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap();
        let builder = if clients {
            let mut roots = RootCertStore::empty();
            roots.add(self.certificate.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder
            .with_single_cert(chain, PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }

    pub(crate) fn session_config(&self) -> Arc<rustls::ServerConfig> {
        self.server_config(true, &[FLEET_NAME])
    }
}
