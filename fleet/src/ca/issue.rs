//! Signs certificates. Of a request only the public key is taken; the name comes from the token or from the
//! identity that asks, so a request cannot choose whom it is.

use std::fmt;

use loadline_model::{FleetId, NodeId, Span, WallTime};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use sha2::{Digest, Sha256};

use crate::trust::{Identity, spiffe_uri};

/// Clocks of freshly installed machines are off by minutes.
const BACKDATE: Span = Span::from_secs(5 * 60);
/// A stolen node key is useful for at most a day (design §6); renewed at half its life.
const NODE_LIFE: Span = Span::from_secs(24 * 3600);
/// One working day for people.
const PERSON_LIFE: Span = Span::from_secs(12 * 3600);
/// fleetd makes its own anew long before, see [`crate::tls`].
const SERVER_LIFE: Span = Span::from_secs(7 * 24 * 3600);
/// Replacing the authority means joining every node again.
const CA_LIFE: Span = Span::from_secs(10 * 366 * 24 * 3600);
/// The name every client verifies, whatever address it dials.
pub(crate) const SERVER_NAME: &str = "fleetd.loadline";

/// Whom a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// A node.
    Node {
        /// Its id, which goes into the URI.
        id: NodeId,
        /// Its name, for people who read certificates.
        name: &'a str,
    },
    /// A person.
    Person {
        /// The name in this fleet.
        name: &'a str,
    },
    /// fleetd, under the fixed name and those it is reached by.
    Server {
        /// Host names or addresses without ports.
        names: &'a [String],
    },
}

/// A certificate request that is well-formed and signed by the key it names. Only that key is ever taken of it.
#[derive(Debug)]
pub struct CertificateRequest(CertificateSigningRequestParams);

impl CertificateRequest {
    /// Reads and checks a request.
    ///
    /// # Errors
    /// When it is malformed or its key is of a kind that is not accepted.
    pub fn read(csr_der: &[u8]) -> Result<Self, IssueError> {
        let der = CertificateSigningRequestDer::from(csr_der);
        let request = CertificateSigningRequestParams::from_der(&der).map_err(IssueError::Request)?;
        let accepted = [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ED25519,
        ];
        if !accepted.contains(&request.public_key.algorithm()) {
            return Err(IssueError::KeyKind);
        }
        Ok(Self(request))
    }
}

/// A signed certificate.
#[derive(Debug, Clone)]
pub struct Issued {
    /// As text.
    pub pem: String,
    /// As bytes.
    pub der: CertificateDer<'static>,
    /// When it ends.
    pub expires: WallTime,
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The request is malformed, or not signed by the key it names.
    #[error("the certificate request cannot be read")]
    Request(#[source] rcgen::Error),
    /// RSA and exotic curves are not accepted.
    #[error("the certificate request has a key of a kind that is not accepted")]
    KeyKind,
    /// A name that cannot stand in a certificate.
    #[error("`{name}` cannot stand in a certificate")]
    Name {
        /// The name.
        name: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// The signature could not be made.
    #[error("the certificate could not be signed")]
    Sign(#[source] rcgen::Error),
}

/// Why a certificate and key are no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The certificate text holds none.
    #[error("no certificate was found in the text")]
    NoCertificate(#[source] rustls::pki_types::pem::Error),
    /// The key text holds none.
    #[error("the authority's key cannot be read")]
    Key(#[source] rcgen::Error),
    /// The certificate cannot be used.
    #[error("the authority's certificate cannot be used")]
    Certificate(#[source] rcgen::Error),
    /// The two do not belong together.
    #[error("the authority's key does not belong to its certificate")]
    Mismatch,
    /// A leaf certificate was given.
    #[error("the certificate is not one of an authority (basic constraints say CA: false)")]
    NotAnAuthority,
}

/// A certificate authority: its certificate, its key, and what else is trusted beside it.
pub struct Authority {
    fleet: FleetId,
    issuer: Issuer<'static, KeyPair>,
    certificates: Vec<CertificateDer<'static>>,
    pem: String,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new authority for a fleet: P-256, path length 0, so that it can sign leaves only.
    ///
    /// # Errors
    /// When the key cannot be made or used.
    pub fn generate(fleet: FleetId, now: WallTime) -> Result<(String, String), IssueError> {
        let key = KeyPair::generate().map_err(IssueError::Sign)?;
        let mut params = blank(now, CA_LIFE);
        params
            .distinguished_name
            .push(DnType::CommonName, format!("Loadline fleet {fleet}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(IssueError::Sign)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// Reads an authority. The first certificate signs; further ones are trusted beside it, for instance the
    /// former one while it is being replaced.
    ///
    /// # Errors
    /// When text, key or both together are no authority.
    pub fn read(fleet: FleetId, certificates_pem: &str, key_pem: &str) -> Result<Self, AuthorityError> {
        let certificates = CertificateDer::pem_slice_iter(certificates_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(AuthorityError::NoCertificate)?;
        let first = certificates.first().ok_or(AuthorityError::NoCertificate(
            rustls::pki_types::pem::Error::NoItemsFound,
        ))?;
        let key = KeyPair::from_pem(key_pem).map_err(AuthorityError::Key)?;
        check_authority(first, &key)?;
        let issuer = Issuer::from_ca_cert_der(first, key).map_err(AuthorityError::Certificate)?;
        Ok(Self {
            fleet,
            issuer,
            certificates,
            pem: certificates_pem.to_owned(),
        })
    }

    /// Everything that is trusted, the signing certificate first.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// The same as text.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Whose authority it is.
    pub fn fleet(&self) -> FleetId {
        self.fleet
    }

    /// SHA-256 of the signing certificate, in hexadecimal digits: what tokens pin.
    pub fn fingerprint(&self) -> String {
        self.certificates
            .first()
            .map(|der| fingerprint(der))
            .unwrap_or_default()
    }

    /// Signs the key of a request for `subject`.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
    pub fn issue_for(
        &self,
        subject: Subject<'_>,
        request: &CertificateRequest,
        now: WallTime,
    ) -> Result<Issued, IssueError> {
        self.issue(subject, &request.0.public_key, now)
    }

    /// Signs a key for `subject`.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
    pub fn issue(
        &self,
        subject: Subject<'_>,
        key: &impl PublicKeyData,
        now: WallTime,
    ) -> Result<Issued, IssueError> {
        let params = self.leaf(subject, now)?;
        let expires = now.plus(subject.life());
        let certificate = params.signed_by(key, &self.issuer).map_err(IssueError::Sign)?;
        Ok(Issued {
            pem: certificate.pem(),
            der: certificate.der().clone(),
            expires,
        })
    }

    fn leaf(&self, subject: Subject<'_>, now: WallTime) -> Result<CertificateParams, IssueError> {
        let mut params = blank(now, subject.life());
        let (identity, common_name, usage) = match subject {
            Subject::Node { id, name } => (Identity::Node(id), name, ExtendedKeyUsagePurpose::ClientAuth),
            Subject::Person { name } => (
                Identity::Person(name.to_owned()),
                name,
                ExtendedKeyUsagePurpose::ClientAuth,
            ),
            Subject::Server { .. } => (Identity::Fleetd, SERVER_NAME, ExtendedKeyUsagePurpose::ServerAuth),
        };
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = vec![SanType::URI(ia5(&spiffe_uri(self.fleet, &identity))?)];
        if let Subject::Server { names } = subject {
            params.subject_alt_names.push(SanType::DnsName(ia5(SERVER_NAME)?));
            for name in names {
                params.subject_alt_names.push(match name.parse() {
                    Ok(address) => SanType::IpAddress(address),
                    Err(_) => SanType::DnsName(ia5(name)?),
                });
            }
        }
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}

impl Subject<'_> {
    const fn life(self) -> Span {
        match self {
            Self::Node { .. } => NODE_LIFE,
            Self::Person { .. } => PERSON_LIFE,
            Self::Server { .. } => SERVER_LIFE,
        }
    }
}

/// SHA-256 of a certificate in hexadecimal digits.
pub fn fingerprint(der: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(der))
}

fn ia5(name: &str) -> Result<rcgen::string::Ia5String, IssueError> {
    name.try_into().map_err(|source| IssueError::Name {
        name: name.to_owned(),
        source,
    })
}

fn blank(now: WallTime, life: Span) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // Serial numbers must differ also between two certificates of one key, which renewals are.
    params.serial_number = Some(SerialNumber::from_slice(&rand::random::<[u8; 16]>()));
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since_epoch = |at: WallTime| std::time::Duration::from_micros(u64::try_from(at.0).unwrap_or(0));
    params.not_before = epoch + since_epoch(WallTime(now.0.saturating_sub_unsigned(BACKDATE.0)));
    params.not_after = epoch + since_epoch(now.plus(life));
    params
}

fn check_authority(der: &CertificateDer<'_>, key: &KeyPair) -> Result<(), AuthorityError> {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let unreadable = || AuthorityError::Certificate(rcgen::Error::CouldNotParseCertificate);
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| unreadable())?;
    if !certificate.is_ca() {
        return Err(AuthorityError::NotAnAuthority);
    }
    if certificate.public_key().raw != key.subject_public_key_info().as_slice() {
        return Err(AuthorityError::Mismatch);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::PeerCertificate;
    use x509_parser::prelude::{FromDer, X509Certificate};

    const FLEET: &str = "00000000-0000-0000-0000-0000000000f1";
    const NODE: &str = "00000000-0000-0000-0000-00000000000a";
    const NOW: WallTime = WallTime(1_800_000_000_000_000);

    fn authority() -> Authority {
        let fleet = FLEET.parse().unwrap();
        let (pem, key) = Authority::generate(fleet, NOW).unwrap();
        Authority::read(fleet, &pem, &key).unwrap()
    }

    fn request(key: &KeyPair, names: &[&str]) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        CertificateParams::new(names)
            .unwrap()
            .serialize_request(key)
            .unwrap()
            .der()
            .to_vec()
    }

    #[test]
    fn the_name_comes_from_the_subject_and_only_the_key_from_the_request() {
        let authority = authority();
        let key = KeyPair::generate().unwrap();
        let csr = request(&key, &["fleetd.loadline", "evil.example"]);
        let subject = Subject::Node {
            id: NODE.parse().unwrap(),
            name: "n1",
        };
        let csr = CertificateRequest::read(&csr).unwrap();
        let issued = authority.issue_for(subject, &csr, NOW).unwrap();
        let peer = PeerCertificate::read(FLEET.parse().unwrap(), &issued.der).unwrap();
        assert_eq!(peer.identity, Identity::Node(NODE.parse().unwrap()));
        let (_, certificate) = X509Certificate::from_der(&issued.der).unwrap();
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names.len(), 1);
        assert_eq!(
            certificate.public_key().raw,
            key.subject_public_key_info().as_slice()
        );
        assert!(!certificate.is_ca());
        let usage = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
    }

    #[test]
    fn lives_are_24_hours_for_nodes_and_12_for_people_backdated_by_5_minutes() {
        let authority = authority();
        let key = KeyPair::generate().unwrap();
        let hours = |subject| {
            let issued = authority.issue(subject, &key, NOW).unwrap();
            let (_, certificate) = X509Certificate::from_der(&issued.der).unwrap();
            let validity = certificate.validity();
            let now = NOW.0 / 1_000_000;
            assert_eq!(now - validity.not_before.timestamp(), 300);
            assert_eq!(issued.expires.0 / 1_000_000, validity.not_after.timestamp());
            (validity.not_after.timestamp() - now) / 3600
        };
        assert_eq!(
            hours(Subject::Node {
                id: NODE.parse().unwrap(),
                name: "n1"
            }),
            24
        );
        assert_eq!(hours(Subject::Person { name: "ada" }), 12);
    }

    #[test]
    fn the_authority_may_sign_leaves_only() {
        let authority = authority();
        let (_, certificate) = X509Certificate::from_der(&authority.certificates()[0]).unwrap();
        let constraints = certificate.basic_constraints().unwrap().unwrap().value;
        assert_eq!((constraints.ca, constraints.path_len_constraint), (true, Some(0)));
        assert_eq!(authority.fingerprint().len(), 64);
    }

    #[test]
    fn requests_that_are_broken_are_refused() {
        assert!(matches!(
            CertificateRequest::read(b"nonsense"),
            Err(IssueError::Request(_))
        ));
        let mut tampered = request(&KeyPair::generate().unwrap(), &["x"]);
        let last = tampered.len() - 1;
        tampered[last] ^= 1;
        assert!(matches!(
            CertificateRequest::read(&tampered),
            Err(IssueError::Request(_))
        ));
    }

    #[test]
    fn a_key_of_another_certificate_or_a_leaf_is_no_authority() {
        let fleet = FLEET.parse().unwrap();
        let (pem, _) = Authority::generate(fleet, NOW).unwrap();
        let (_, other_key) = Authority::generate(fleet, NOW).unwrap();
        assert!(matches!(
            Authority::read(fleet, &pem, &other_key),
            Err(AuthorityError::Mismatch)
        ));
        let key = KeyPair::generate().unwrap();
        let leaf = authority()
            .issue(Subject::Person { name: "ada" }, &key, NOW)
            .unwrap();
        let refused = Authority::read(fleet, &leaf.pem, &key.serialize_pem());
        assert!(matches!(refused, Err(AuthorityError::NotAnAuthority)));
        assert!(Authority::read(fleet, "", &other_key).is_err());
    }
}
