//! Who the person is: key, certificate and authority in their own folder.
//!
//! The key is made here and never leaves. Files: `identity.key` (0600), `identity.crt`, `ca.pem`, `fleet.json`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use loadline_model::WallTime;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

/// The folder with a person's identity.
#[derive(Debug, Clone)]
pub struct Home(PathBuf);

/// Where the fleet is and as whom one is known there; `fleet.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Host and port of the fleet's mutual TLS port.
    pub session_address: String,
    /// The person's name.
    pub user: String,
    /// What they may do, as of the login.
    pub role: String,
}

/// Everything needed to connect.
#[derive(Debug)]
pub struct Identity {
    /// Where and as whom.
    pub membership: Membership,
    /// The private key.
    pub key: PrivateKeyDer<'static>,
    /// The certificate, and what stands between it and the authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// The fleet's authority.
    pub ca: CertificateDer<'static>,
    /// When the certificate begins to hold.
    pub begins: WallTime,
    /// When it ends.
    pub expires: WallTime,
}

/// What a login leaves behind.
#[derive(Debug)]
pub struct NewIdentity {
    /// Where and as whom.
    pub membership: Membership,
    /// The private key, PEM.
    pub key_pem: String,
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The fleet's authority, PEM.
    pub ca_pem: String,
}

/// Why there is no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Nobody has logged in here.
    #[error("you are not logged in to a fleet")]
    Missing {
        /// Where it would lie.
        dir: PathBuf,
    },
    /// There is no home to look in.
    #[error("neither --config nor HOME says where your identity lies")]
    NoHome,
    /// A file cannot be read.
    #[error("cannot read {file}", file = file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{file} is damaged: {why}", file = file.display())]
    Damaged {
        /// Which.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file cannot be written.
    #[error("cannot write {file}", file = file.display())]
    Write {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Home {
    /// From `--config`, else `XDG_CONFIG_HOME`, else `~/.config`.
    ///
    /// # Errors
    /// When none of them is set.
    pub fn find(config: Option<&Path>, env: impl Fn(&str) -> Option<PathBuf>) -> Result<Self, IdentityError> {
        let given = |path: PathBuf| (!path.as_os_str().is_empty()).then_some(path);
        let base = || {
            let xdg = env("XDG_CONFIG_HOME").and_then(given);
            xdg.or_else(|| Some(env("HOME").and_then(given)?.join(".config")))
        };
        match config {
            Some(dir) => Ok(Self(dir.into())),
            None => Ok(Self(base().ok_or(IdentityError::NoHome)?.join("loadline"))),
        }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.0
    }

    /// Reads the identity.
    ///
    /// # Errors
    /// When there is none or a file of it is unusable.
    pub fn load(&self) -> Result<Identity, IdentityError> {
        if !self.0.join("fleet.json").exists() {
            return Err(IdentityError::Missing { dir: self.0.clone() });
        }
        let membership = serde_json::from_slice(&self.read("fleet.json")?)
            .map_err(|error| self.damaged("fleet.json", &error))?;
        let key = PrivateKeyDer::from_pem_slice(&self.read("identity.key")?)
            .map_err(|error| self.damaged("identity.key", &error))?;
        let chain = self.certificates("identity.crt")?;
        let ca = self.certificates("ca.pem")?.remove(0);
        let (begins, expires) = validity(&chain[0]).map_err(|why| self.damaged("identity.crt", &why))?;
        Ok(Identity {
            membership,
            key,
            chain,
            ca,
            begins,
            expires,
        })
    }

    /// True if somebody else on this machine could read the key.
    pub fn key_is_open(&self) -> bool {
        fs::metadata(self.0.join("identity.key")).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0)
    }

    /// Makes the folder and sees that files can be written there.
    ///
    /// # Errors
    /// When they cannot.
    pub fn prepare(&self) -> Result<(), IdentityError> {
        let write = |source| IdentityError::Write {
            file: self.0.clone(),
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(write)?;
        self.write("probe", &[0; 4096], 0o600)?;
        fs::remove_file(self.0.join("probe")).map_err(write)
    }

    /// Puts a new identity in place; `fleet.json`, without which nothing counts, comes last.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, new: &NewIdentity) -> Result<(), IdentityError> {
        self.prepare()?;
        let membership =
            serde_json::to_vec_pretty(&new.membership).map_err(|error| self.damaged("fleet.json", &error))?;
        self.write("identity.key", new.key_pem.as_bytes(), 0o600)?;
        self.write("identity.crt", new.certificate_pem.as_bytes(), 0o644)?;
        self.write("ca.pem", new.ca_pem.as_bytes(), 0o644)?;
        self.write("fleet.json", &membership, 0o644)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, IdentityError> {
        let file = self.0.join(name);
        fs::read(&file).map_err(|source| IdentityError::Read { file, source })
    }

    fn damaged(&self, name: &str, why: &impl ToString) -> IdentityError {
        IdentityError::Damaged {
            file: self.0.join(name),
            why: why.to_string(),
        }
    }

    fn certificates(&self, name: &str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
        let pem = self.read(name)?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match found {
            Ok(list) if !list.is_empty() => Ok(list),
            Ok(_) => Err(self.damaged(name, &"it holds no certificate")),
            Err(error) => Err(self.damaged(name, &error)),
        }
    }

    /// Beside the old one, then in its place: a full disk leaves the old one whole.
    fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), IdentityError> {
        let file = self.0.join(name);
        let beside = self.0.join(format!("{name}.new"));
        let put = || {
            // A left-over of a broken login may have other permissions.
            match fs::remove_file(&beside) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut out = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(&beside)?;
            out.write_all(bytes)?;
            out.sync_all()?;
            fs::rename(&beside, &file)
        };
        put().map_err(|source| IdentityError::Write {
            file: file.clone(),
            source,
        })
    }
}

/// From when until when a certificate holds.
fn validity(certificate: &CertificateDer<'_>) -> Result<(WallTime, WallTime), String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
    let time = |time: x509_parser::time::ASN1Time| WallTime(time.timestamp().saturating_mul(1_000_000));
    Ok((
        time(parsed.validity().not_before),
        time(parsed.validity().not_after),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_identity() -> NewIdentity {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["ada".into()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        NewIdentity {
            membership: Membership {
                session_address: "fleet:7717".into(),
                user: "ada".into(),
                role: "user".into(),
            },
            key_pem: key.serialize_pem(),
            certificate_pem: certificate.pem(),
            ca_pem: certificate.pem(),
        }
    }

    #[test]
    fn what_is_saved_is_loaded_and_the_key_is_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home(dir.path().join("new/loadline"));
        assert!(matches!(home.load(), Err(IdentityError::Missing { .. })));
        let new = new_identity();
        home.save(&new).unwrap();
        home.save(&new).unwrap();
        let identity = home.load().unwrap();
        assert_eq!(identity.membership, new.membership);
        assert!(identity.begins < identity.expires && !home.key_is_open());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode(home.dir()), mode(&home.dir().join("identity.key"))),
            (0o700, 0o600)
        );
    }

    #[test]
    fn damage_is_named_by_file() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home(dir.path().into());
        for name in ["fleet.json", "identity.key", "identity.crt", "ca.pem"] {
            home.save(&new_identity()).unwrap();
            fs::write(home.dir().join(name), "nonsense").unwrap();
            let told = home.load().unwrap_err().to_string();
            assert!(told.contains(name) && told.contains("damaged"), "{told}");
        }
    }

    #[test]
    fn the_folder_follows_the_person() {
        let env = |set: &'static [(&str, &str)]| {
            move |name: &str| {
                set.iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| PathBuf::from(value))
            }
        };
        let dir = |config, env| Home::find(config, env).map(|home| home.0);
        assert_eq!(
            dir(None, env(&[("HOME", "/h")])).unwrap(),
            Path::new("/h/.config/loadline")
        );
        let both = env(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")]);
        assert_eq!(dir(None, both).unwrap(), Path::new("/x/loadline"));
        assert_eq!(dir(Some(Path::new("/c")), both).unwrap(), Path::new("/c"));
        assert!(dir(None, env(&[("HOME", "")])).is_err());
    }
}
