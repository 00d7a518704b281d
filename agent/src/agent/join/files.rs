//! What a join writes, and how it is taken back when something fails.

use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use data_encoding::BASE64;

use super::super::durable::{Owner, Staged, WriteError, remove_if_there, stage, sync_folder_of};
use super::super::identity::StagedIdentity;
use super::super::settings::Places;
use super::super::trust::{CA, FLEET, FleetFile, ORDER_KEY};

/// The folders are there and take files. Those it made are removed again unless kept.
#[derive(Debug)]
pub(super) struct Prepared {
    made: Vec<PathBuf>,
}

impl Prepared {
    pub(super) fn new(places: &Places, owner: Owner) -> Result<Self, WriteError> {
        let mut prepared = Self { made: Vec::new() };
        prepared.folder(&places.config, 0o755, None)?;
        prepared.folder(&places.trust(), 0o755, None)?;
        prepared.folder(&places.state, 0o700, owner)?;
        // A trial larger than all that will be written: a full disk is noticed before the token is used.
        for path in [places.trust().join(FLEET), places.certificate()] {
            drop(stage(&path, &[0; 32 * 1024], 0o600, None)?);
        }
        Ok(prepared)
    }

    fn folder(&mut self, path: &Path, mode: u32, owner: Owner) -> Result<(), WriteError> {
        let make = |made: &mut Vec<PathBuf>| -> io::Result<()> {
            match std::fs::create_dir(path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
                other => other?,
            }
            made.push(path.to_owned());
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode))?;
            if let Some((uid, gid)) = owner {
                chown(path, Some(uid), Some(gid))?;
            }
            sync_folder_of(path)
        };
        make(&mut self.made).map_err(|source| WriteError::new(path, source))
    }

    pub(super) fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        for path in self.made.iter().rev() {
            // Not empty means that something else uses it by now: then it stays.
            let _ = std::fs::remove_dir(path);
        }
    }
}

/// The trust, on the disk but not yet in its place.
#[derive(Debug)]
pub(super) struct Written {
    order_key: Staged,
    fleet: Staged,
    ca: Staged,
}

impl Written {
    pub(super) fn stage(
        places: &Places,
        ca: &str,
        order_key: &[u8],
        fleet: &FleetFile,
    ) -> Result<Self, WriteError> {
        let path = |name: &str| places.trust().join(name);
        let json = serde_json::to_vec_pretty(fleet)
            .map_err(|error| WriteError::new(&path(FLEET), io::Error::other(error)))?;
        Ok(Self {
            order_key: stage(
                &path(ORDER_KEY),
                public_key_pem(order_key).as_bytes(),
                0o644,
                None,
            )?,
            fleet: stage(&path(FLEET), &json, 0o644, None)?,
            ca: stage(&path(CA), ca.as_bytes(), 0o644, None)?,
        })
    }

    /// Puts everything in its place, `ca.pem` last. If that fails half-way on a node that had none of it, what
    /// is there is removed again.
    pub(super) fn commit(self, places: &Places, identity: StagedIdentity) -> Result<(), WriteError> {
        let first_join = !places.trust().join(CA).exists();
        let Self { order_key, fleet, ca } = self;
        let result = identity
            .commit()
            .and_then(|()| order_key.commit())
            .and_then(|()| fleet.commit())
            .and_then(|()| ca.commit());
        if result.is_err() && first_join {
            let trust = places.trust();
            for path in [
                places.key(),
                places.certificate(),
                trust.join(ORDER_KEY),
                trust.join(FLEET),
            ] {
                if let Err(error) = remove_if_there(&path) {
                    tracing::warn!(file = %path.display(), %error, "a file of the failed join stays");
                }
            }
        }
        result
    }
}

/// The SubjectPublicKeyInfo of an Ed25519 key (RFC 8410) as PEM: twelve fixed bytes, then the key.
fn public_key_pem(key: &[u8]) -> String {
    let prefix = [
        0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
    ];
    let der = [&prefix[..], key].concat();
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        BASE64.encode(&der)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::VerifyingKey;
    use ed25519_dalek::pkcs8::DecodePublicKey;

    #[test]
    fn the_order_key_reads_back_as_pem() {
        let key = ed25519_dalek::SigningKey::from_bytes(&[9; 32]).verifying_key();
        assert_eq!(
            VerifyingKey::from_public_key_pem(&public_key_pem(key.as_bytes())).unwrap(),
            key
        );
    }

    #[test]
    fn a_failed_join_leaves_no_folder_behind() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places {
            config: dir.path().join("etc"),
            state: dir.path().join("state"),
            warden_socket: PathBuf::new(),
        };
        drop(Prepared::new(&places, None).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        Prepared::new(&places, None).unwrap().keep();
        assert!(places.trust().is_dir() && places.state.is_dir());
    }
}
