//! The signature: Ed25519 over the report's canonical bytes, with a key that the node makes at its first test and keeps.
//!
//! It shows that a report was made on the machine whose key that is and was not changed since; whoever is root on that
//! machine can sign anything. Canonical: compact JSON with the keys of every object in order, without fractions.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{FORMAT, Report, VERSION};
use crate::agent::durable::{WriteError, stage};

/// What is signed begins with these words, so that a signature can never be taken for one of something else.
const CONTEXT: &str = "loadline-prove report v1\n";

/// The node's own key for reports.
#[derive(Debug)]
pub struct NodeKey(SigningKey);

/// The key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// It cannot be read.
    #[error("reading {} failed", path.display())]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is none.
    #[error("{} is no key: move it away, and the next test makes a new one", path.display())]
    Format {
        /// Where.
        path: PathBuf,
    },
    /// It cannot be kept.
    #[error("the key for reports cannot be kept")]
    Keep(#[from] WriteError),
    /// The report cannot be written down.
    #[error("the report is no JSON")]
    Json(#[from] serde_json::Error),
}

/// A report and its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The report.
    pub report: Report,
    /// The signature.
    pub signature: Proof,
}

/// A signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// `ed25519`.
    pub algorithm: String,
    /// 32 bytes in hexadecimal.
    pub public_key: String,
    /// 64 bytes in hexadecimal.
    pub value: String,
}

/// Why a report is not what it says.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It is no signed report.
    #[error("this is no signed report of `loadline-warden prove`")]
    Format(#[source] serde_json::Error),
    /// Another version made it.
    #[error(
        "this is a {format} report of version {version}, and this program reads {FORMAT} of version {VERSION}: check it with the program that made it"
    )]
    Version {
        /// Its format.
        format: String,
        /// Its version.
        version: u32,
    },
    /// The signature is no signature.
    #[error("the signature is not one of Ed25519")]
    Proof,
    /// It was changed, or signed by another key.
    #[error("the signature does not fit: the report was changed after it was signed")]
    Changed,
}

impl NodeKey {
    /// The key in that file, made now if there is none.
    ///
    /// # Errors
    /// When it cannot be read or kept.
    pub fn of(path: &Path) -> Result<Self, SignError> {
        match fs::read_to_string(path) {
            Ok(text) => {
                let bytes = HEXLOWER.decode(text.trim().as_bytes()).ok();
                let seed: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
                let path = path.to_owned();
                seed.map(|seed| Self(SigningKey::from_bytes(&seed)))
                    .ok_or(SignError::Format { path })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = SigningKey::from_bytes(&rand::random());
                let text = format!("{}\n", HEXLOWER.encode(&key.to_bytes()));
                stage(path, text.as_bytes(), 0o600, None)?.commit()?;
                Ok(Self(key))
            }
            Err(source) => Err(SignError::Read {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// The public half in hexadecimal.
    pub fn public(&self) -> String {
        HEXLOWER.encode(self.0.verifying_key().as_bytes())
    }

    /// Signs a report.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn sign(&self, report: Report) -> Result<Signed, SignError> {
        let bytes = signed_bytes(&serde_json::to_value(&report)?);
        Ok(Signed {
            report,
            signature: Proof {
                algorithm: "ed25519".into(),
                public_key: self.public(),
                value: HEXLOWER.encode(&self.0.sign(bytes.as_bytes()).to_bytes()),
            },
        })
    }
}

impl Signed {
    /// As it is kept and sent.
    ///
    /// # Errors
    /// Never for what this program made; serde cannot know that.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}

/// Checks a report's signature against the key that it names.
///
/// # Errors
/// When it is no report, was changed, or is of another version.
pub fn verify(text: &str) -> Result<Signed, VerifyError> {
    #[derive(Deserialize)]
    struct Head {
        report: HeadOfReport,
    }
    #[derive(Deserialize)]
    struct HeadOfReport {
        format: String,
        version: u32,
    }
    let Head { report: head } = serde_json::from_str(text).map_err(VerifyError::Format)?;
    if head.format != FORMAT || head.version != VERSION {
        let HeadOfReport { format, version } = head;
        return Err(VerifyError::Version { format, version });
    }
    let signed: Signed = serde_json::from_str(text).map_err(VerifyError::Format)?;
    let value: Value = serde_json::from_str(text).map_err(VerifyError::Format)?;
    // What is checked is what is written there, not what was understood of it.
    let bytes = signed_bytes(value.get("report").unwrap_or(&Value::Null));
    let proof = &signed.signature;
    let hex = |text: &str| HEXLOWER.decode(text.as_bytes()).ok();
    let key = hex(&proof.public_key).and_then(|bytes| VerifyingKey::from_bytes(&bytes.try_into().ok()?).ok());
    let signature = hex(&proof.value).and_then(|bytes| Signature::from_slice(&bytes).ok());
    let (Some(key), Some(signature), "ed25519") = (key, signature, proof.algorithm.as_str()) else {
        return Err(VerifyError::Proof);
    };
    key.verify_strict(bytes.as_bytes(), &signature)
        .map_err(|_| VerifyError::Changed)?;
    Ok(signed)
}

fn signed_bytes(report: &Value) -> String {
    let mut bytes = CONTEXT.to_owned();
    canonical(report, &mut bytes);
    bytes
}

fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort_unstable();
            out.push('{');
            for (index, name) in names.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                // Writing into a String cannot fail.
                let _ = write!(out, "{}:", Value::from(name.as_str()));
                canonical(&fields[name], out);
            }
            out.push('}');
        }
        leaf => {
            let _ = write!(out, "{leaf}");
        }
    }
}
