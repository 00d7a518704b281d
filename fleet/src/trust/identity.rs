//! The name in a certificate: one URI, `spiffe://<fleet>/node/<uuid>`, `…/person/<name>` or `…/fleetd`.
//!
//! Names are read from the subject alternative name only, never from the common name, and a certificate of
//! another fleet is a stranger even where the same site's PKI signed both.

use loadline_model::{FleetId, NodeId, WallTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A name may be this long: it stands in certificates, tables and the audit log.
const USER_NAME_LEN_MAX: usize = 32;

/// Who a certificate was made for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// A node, by its id.
    Node(NodeId),
    /// A person, by their name in this fleet.
    Person(String),
    /// The manager itself.
    Fleetd,
}

/// What a verified certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Whose it is.
    pub identity: Identity,
    /// When it ends.
    pub expires: WallTime,
}

/// Why a certificate names nobody we know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityProblem {
    /// The bytes are not a certificate.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// There is no URI name, or more than one.
    #[error("the certificate carries {0} URI names instead of one")]
    UriCount(usize),
    /// The URI is of another fleet.
    #[error("the certificate is of another fleet: {0}")]
    OtherFleet(String),
    /// The URI is ours, yet names neither a node, a person nor fleetd.
    #[error("the certificate's name is not understood: {0}")]
    UnknownName(String),
}

/// The URI that stands for an identity in certificates.
pub fn spiffe_uri(fleet: FleetId, identity: &Identity) -> String {
    match identity {
        Identity::Node(node) => format!("spiffe://{fleet}/node/{node}"),
        Identity::Person(name) => format!("spiffe://{fleet}/person/{name}"),
        Identity::Fleetd => format!("spiffe://{fleet}/fleetd"),
    }
}

/// True for names that people may have in a fleet: what Unix accounts are called, and nothing a path or a
/// shell could misread.
pub fn is_user_name(name: &str) -> bool {
    let mut chars = name.chars();
    let first_fits = chars.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_');
    first_fits
        && name.len() <= USER_NAME_LEN_MAX
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'))
}

/// True for names that nodes may have: what host names are made of.
pub fn is_node_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    (1..=63).contains(&name.len())
        && name.chars().all(fits)
        && !name.starts_with(['-', '.'])
        && !name.ends_with(['-', '.'])
}

/// True for names that pools may have: each is the value of a label of its nodes.
pub fn is_pool_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=63).contains(&name.len()) && name.chars().all(fits)
}

/// True for accounts that jobs may be meant to run as; the node has the last word. Directory services allow more
/// than `useradd` does, hence capitals and `@`.
pub fn is_unix_account(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    (1..=256).contains(&name.len()) && name.chars().all(fits) && !name.starts_with('-') && name != "root"
}

impl Identity {
    /// Reads the URI of a certificate of `fleet`.
    ///
    /// # Errors
    /// When it is another fleet's, or names nobody.
    pub fn from_uri(fleet: FleetId, uri: &str) -> Result<Self, IdentityProblem> {
        let path = uri
            .strip_prefix("spiffe://")
            .and_then(|rest| rest.split_once('/'))
            .and_then(|(domain, path)| (domain == fleet.to_string()).then_some(path))
            .ok_or_else(|| IdentityProblem::OtherFleet(uri.to_owned()))?;
        let unknown = || IdentityProblem::UnknownName(uri.to_owned());
        match path.split_once('/') {
            None if path == "fleetd" => Ok(Self::Fleetd),
            Some(("node", id)) => id.parse().map(Self::Node).map_err(|_| unknown()),
            Some(("person", name)) if is_user_name(name) => Ok(Self::Person(name.to_owned())),
            _ => Err(unknown()),
        }
    }
}

impl PeerCertificate {
    /// Reads a certificate whose chain was verified already.
    ///
    /// # Errors
    /// When it is unreadable or names nobody of this fleet.
    pub fn read(fleet: FleetId, der: &[u8]) -> Result<Self, IdentityProblem> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| IdentityProblem::Unreadable)?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| IdentityProblem::Unreadable)?;
        let uris: Vec<&str> = names
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            })
            .collect();
        let [uri] = uris.as_slice() else {
            return Err(IdentityProblem::UriCount(uris.len()));
        };
        let identity = Identity::from_uri(fleet, uri)?;
        let expires = certificate.validity().not_after.timestamp();
        Ok(Self {
            identity,
            expires: WallTime(expires.saturating_mul(1_000_000)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLEET: &str = "00000000-0000-0000-0000-0000000000f1";
    const NODE: &str = "00000000-0000-0000-0000-00000000000a";

    #[test]
    fn uris_round_trip() {
        let fleet: FleetId = FLEET.parse().unwrap();
        for identity in [
            Identity::Node(NODE.parse().unwrap()),
            Identity::Person("ada".into()),
            Identity::Fleetd,
        ] {
            let uri = spiffe_uri(fleet, &identity);
            assert_eq!(Identity::from_uri(fleet, &uri), Ok(identity));
        }
    }

    #[test]
    fn strangers_and_malformed_names_are_refused() {
        let fleet: FleetId = FLEET.parse().unwrap();
        let other = format!("spiffe://{NODE}/node/{NODE}");
        assert!(matches!(
            Identity::from_uri(fleet, &other),
            Err(IdentityProblem::OtherFleet(_))
        ));
        for path in [
            "",
            "node",
            "node/x",
            "person/",
            "person/Ada",
            "person/a/b",
            "person/../x",
            "admin/ada",
        ] {
            let uri = format!("spiffe://{FLEET}/{path}");
            assert!(Identity::from_uri(fleet, &uri).is_err(), "{uri}");
        }
        assert!(Identity::from_uri(fleet, &format!("https://{FLEET}/fleetd")).is_err());
    }

    #[test]
    fn node_names_and_accounts() {
        for good in ["n1", "gpu-7.rack.example"] {
            assert!(is_node_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a b", "a/b", "a_b", &"a".repeat(64)] {
            assert!(!is_node_name(bad), "{bad}");
        }
        for good in ["ada", "Ada.L@corp.example", "_svc"] {
            assert!(is_unix_account(good), "{good}");
        }
        for bad in ["", "root", "-a", "a b", "a:b", "../x"] {
            assert!(!is_unix_account(bad), "{bad}");
        }
    }

    #[test]
    fn user_names_are_like_unix_accounts() {
        for good in ["ada", "_svc", "a.b-c_9"] {
            assert!(is_user_name(good), "{good}");
        }
        for bad in ["", "Ada", "9a", "-a", "a b", "a/b", "a$", "ä", &"a".repeat(33)] {
            assert!(!is_user_name(bad), "{bad}");
        }
    }
}
