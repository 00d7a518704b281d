//! The node's key and certificate on disk. The key is made here and never leaves.
//!
//! Two files cannot be renamed as one. The order is: both new files beside the old ones (durable), certificate
//! renamed, key renamed. After a crash in between, the certificate fits the key that still waits beside, and
//! [`Identity::load`] finishes the exchange.

use std::path::{Path, PathBuf};

use loadline_model::{FleetId, NodeId, WallTime};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::durable::{Owner, Staged, WriteError, beside, stage, sync_folder_of};
use super::renewal::Validity;
use super::settings::Places;

/// The identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file is missing or unreadable.
    #[error("cannot read {path}: has this node joined? (`loadline-agent join TOKEN`, as root)")]
    Read {
        /// The file.
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The certificate is none.
    #[error("{what} is not a certificate that can be used: {why}")]
    Certificate {
        /// Which.
        what: String,
        /// Why.
        why: String,
    },
    /// The key is none.
    #[error("the node's key cannot be used")]
    Key(#[source] rcgen::Error),
    /// Key and certificate are not a pair.
    #[error(
        "the node's certificate does not belong to its key: join again with `loadline-agent join --rejoin TOKEN`"
    )]
    Mismatch,
    /// It names someone else.
    #[error("the certificate is for `{found}`, not for `{expected}`")]
    AnotherName {
        /// Whom it names.
        found: String,
        /// Whom it should name.
        expected: String,
    },
    /// It could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// An interrupted exchange could not be finished.
    #[error("cannot finish the exchange of the node's key at {path}")]
    Finish {
        /// The file.
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// A key and the certificate that belongs to it.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) validity: Validity,
    /// The SPIFFE name in it.
    pub(crate) name: String,
}

/// The SPIFFE name of a node.
pub(crate) fn spiffe(fleet: FleetId, node: NodeId) -> String {
    format!("spiffe://{fleet}/node/{node}")
}

/// What a certificate says that matters here.
pub(crate) struct Read {
    pub(crate) validity: Validity,
    pub(crate) name: String,
    public_key: Vec<u8>,
}

/// Reads one certificate.
pub(crate) fn read(what: &str, der: &CertificateDer<'_>) -> Result<Read, IdentityError> {
    let wrong = |why: String| IdentityError::Certificate {
        what: what.to_owned(),
        why,
    };
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| wrong(error.to_string()))?;
    let micros = |time: x509_parser::time::ASN1Time| WallTime(time.timestamp().saturating_mul(1_000_000));
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| wrong(error.to_string()))?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    let [uri] = uris.as_slice() else {
        return Err(wrong(format!("it has {} URI names instead of one", uris.len())));
    };
    Ok(Read {
        validity: Validity {
            from: micros(certificate.validity().not_before),
            until: micros(certificate.validity().not_after),
        },
        name: (*uri).to_owned(),
        public_key: certificate.public_key().raw.to_vec(),
    })
}

impl Identity {
    /// Reads the pair, finishing an exchange that a crash interrupted.
    pub(crate) fn load(places: &Places) -> Result<Self, IdentityError> {
        let (key_path, certificate_path) = (places.key(), places.certificate());
        let certificate = read_text(&certificate_path)?;
        match Self::from_pem(&read_text(&key_path)?, &certificate) {
            Err(IdentityError::Mismatch) => {}
            other => return other,
        }
        let waiting = beside(&key_path);
        let Ok(key) = std::fs::read_to_string(&waiting) else {
            return Err(IdentityError::Mismatch);
        };
        let identity = Self::from_pem(&key, &certificate)?;
        std::fs::rename(&waiting, &key_path)
            .and_then(|()| sync_folder_of(&key_path))
            .map_err(|source| IdentityError::Finish {
                path: key_path,
                source,
            })?;
        Ok(identity)
    }

    pub(crate) fn from_pem(key: &str, certificate: &str) -> Result<Self, IdentityError> {
        let what = "the node's certificate";
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| IdentityError::Certificate {
                what: what.into(),
                why: error.to_string(),
            })?;
        let leaf = chain.first().ok_or_else(|| IdentityError::Certificate {
            what: what.into(),
            why: "the file has none".into(),
        })?;
        let Read {
            validity,
            name,
            public_key,
        } = read(what, leaf)?;
        let key = KeyPair::from_pem(key).map_err(IdentityError::Key)?;
        if key.subject_public_key_info() != public_key {
            return Err(IdentityError::Mismatch);
        }
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Ok(Self {
            chain,
            key,
            validity,
            name,
        })
    }

    /// Refuses a certificate that names someone else.
    pub(crate) fn named(self, expected: &str) -> Result<Self, IdentityError> {
        if self.name == expected {
            return Ok(self);
        }
        Err(IdentityError::AnotherName {
            found: self.name,
            expected: expected.to_owned(),
        })
    }
}

fn read_text(path: &Path) -> Result<String, IdentityError> {
    std::fs::read_to_string(path).map_err(|source| IdentityError::Read {
        path: path.to_owned(),
        source,
    })
}

/// A new key that has no certificate yet.
#[derive(Debug)]
pub(crate) struct Draft {
    key: KeyPair,
}

/// A key and certificate on the disk, beside the ones in use.
#[derive(Debug)]
pub(crate) struct StagedIdentity {
    key: Staged,
    certificate: Staged,
}

impl Draft {
    pub(crate) fn new() -> Result<Self, IdentityError> {
        Ok(Self {
            key: KeyPair::generate().map_err(IdentityError::Key)?,
        })
    }

    /// The request for a certificate, signed with the key. The CA chooses the names, whatever it says.
    pub(crate) fn request(&self, node: &str) -> Result<Vec<u8>, IdentityError> {
        let mut params = CertificateParams::new(Vec::new()).map_err(IdentityError::Key)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, node);
        let request = params.serialize_request(&self.key).map_err(IdentityError::Key)?;
        Ok(request.der().to_vec())
    }

    /// Checks the certificate against the key and the name, and brings both to the disk.
    pub(crate) fn stage(
        &self,
        places: &Places,
        certificate: &str,
        expected: &str,
        owner: Owner,
    ) -> Result<(Identity, StagedIdentity), IdentityError> {
        let key = self.key.serialize_pem();
        let identity = Identity::from_pem(&key, certificate)?.named(expected)?;
        let staged = StagedIdentity {
            key: stage(&places.key(), key.as_bytes(), 0o600, owner)?,
            certificate: stage(&places.certificate(), certificate.as_bytes(), 0o644, owner)?,
        };
        Ok((identity, staged))
    }
}

impl StagedIdentity {
    /// Certificate first: see the module.
    pub(crate) fn commit(self) -> Result<(), WriteError> {
        self.certificate.commit()?;
        self.key.commit()
    }
}

#[cfg(test)]
mod tests;
