//! The exchange of key and certificate, crashes included.

use rcgen::{BasicConstraints, IsCa, Issuer, SanType};

use super::*;

struct Ca {
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        Self {
            issuer: Issuer::new(params, KeyPair::generate().unwrap()),
        }
    }

    fn certify(&self, draft: &Draft, name: &str) -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
        params.signed_by(&draft.key, &self.issuer).unwrap().pem()
    }
}

const NAME: &str = "spiffe://f/node/n";

fn places(dir: &tempfile::TempDir) -> Places {
    Places {
        state: dir.path().to_owned(),
        ..Places::default()
    }
}

#[test]
fn a_pair_is_exchanged_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let (places, ca, draft) = (places(&dir), Ca::new(), Draft::new().unwrap());
    let (_, staged) = draft
        .stage(&places, &ca.certify(&draft, NAME), NAME, None)
        .unwrap();
    staged.commit().unwrap();
    let identity = Identity::load(&places).unwrap();
    assert_eq!(identity.name, NAME);
    assert!(identity.validity.until > identity.validity.from);
}

#[test]
fn a_crash_between_the_two_renames_is_finished_on_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let (places, ca) = (places(&dir), Ca::new());
    let old = Draft::new().unwrap();
    old.stage(&places, &ca.certify(&old, NAME), NAME, None)
        .unwrap()
        .1
        .commit()
        .unwrap();
    let new = Draft::new().unwrap();
    let (_, staged) = new.stage(&places, &ca.certify(&new, NAME), NAME, None).unwrap();
    let StagedIdentity { key, certificate } = staged;
    certificate.commit().unwrap();
    std::mem::forget(key); // the power goes here
    let identity = Identity::load(&places).unwrap();
    assert_eq!(identity.key.secret_der(), new.key.serialized_der());
    assert!(!beside(&places.key()).exists());
    assert!(Identity::load(&places).is_ok(), "and stays so");
}

#[test]
fn a_crash_before_the_renames_leaves_the_old_pair() {
    let dir = tempfile::tempdir().unwrap();
    let (places, ca) = (places(&dir), Ca::new());
    let old = Draft::new().unwrap();
    old.stage(&places, &ca.certify(&old, NAME), NAME, None)
        .unwrap()
        .1
        .commit()
        .unwrap();
    let new = Draft::new().unwrap();
    std::mem::forget(new.stage(&places, &ca.certify(&new, NAME), NAME, None).unwrap());
    assert_eq!(
        Identity::load(&places).unwrap().key.secret_der(),
        old.key.serialized_der()
    );
}

#[test]
fn foreign_pairs_and_names_are_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (places, ca, draft, other) = (
        places(&dir),
        Ca::new(),
        Draft::new().unwrap(),
        Draft::new().unwrap(),
    );
    let foreign = draft
        .stage(&places, &ca.certify(&other, NAME), NAME, None)
        .unwrap_err();
    assert!(matches!(foreign, IdentityError::Mismatch), "{foreign}");
    let renamed = draft
        .stage(&places, &ca.certify(&draft, "spiffe://f/node/x"), NAME, None)
        .unwrap_err();
    assert!(matches!(renamed, IdentityError::AnotherName { .. }), "{renamed}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
