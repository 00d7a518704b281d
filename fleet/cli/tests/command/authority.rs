//! A fleet's authority for tests: certificates for fleetd and for people, good and bad ones.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};

pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// How long a person's certificate holds, in hours from now.
pub(crate) struct Life {
    pub(crate) from: i64,
    pub(crate) until: i64,
}

pub(crate) const GOOD: Life = Life { from: -1, until: 12 };

fn hours(params: &mut CertificateParams, life: &Life) {
    let at = |hours: i64| {
        let now = loadline_cli::clock::now().0 / 1_000_000;
        rcgen::date_time_ymd(1970, 1, 1)
            + std::time::Duration::from_secs(u64::try_from(now + hours * 3600).unwrap())
    };
    params.not_before = at(life.from);
    params.not_after = at(life.until);
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for the key in a request, as fleetd makes it.
    pub(crate) fn sign(&self, csr_der: &[u8]) -> String {
        let der = CertificateSigningRequestDer::from(csr_der);
        let mut request = CertificateSigningRequestParams::from_der(&der).unwrap();
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        hours(&mut request.params, &GOOD);
        request.signed_by(&self.issuer).unwrap().pem()
    }

    /// Puts an identity into a folder, as a login would have.
    pub(crate) fn enrol(&self, dir: &Path, address: SocketAddr, life: &Life) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        hours(&mut params, life);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let json = format!(r#"{{"session_address":"{address}","user":"ada","role":"user"}}"#);
        for (name, text) in [
            ("identity.key", key.serialize_pem()),
            ("identity.crt", certificate.pem()),
            ("ca.pem", self.pem()),
            ("fleet.json", json),
        ] {
            std::fs::write(dir.join(name), text).unwrap();
        }
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(dir.join("identity.key"), mode).unwrap();
    }

    pub(crate) fn login_token(&self, address: SocketAddr) -> String {
        let der = CertificateDer::from_pem_slice(self.pem().as_bytes()).unwrap();
        let fingerprint = HEXLOWER.encode(&Sha256::digest(&der));
        let json = format!(r#"{{"a":"{address}","f":"{fingerprint}","s":"secret","n":"ada"}}"#);
        format!("LLP1.{}", BASE64URL_NOPAD.encode(json.as_bytes()))
    }

    /// fleetd's side of TLS; `people`: whose certificates are asked for, none: nobody's.
    pub(crate) fn server(&self, people: Option<&Self>) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["fleetd.loadline".into()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let authority = CertificateDer::from_pem_slice(self.pem().as_bytes()).unwrap();
        let chain = vec![certificate.der().clone(), authority];
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap();
        let builder = match people {
            None => builder.with_no_client_auth(),
            Some(people) => {
                let mut roots = RootCertStore::empty();
                roots
                    .add(CertificateDer::from_pem_slice(people.pem().as_bytes()).unwrap())
                    .unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }
}
