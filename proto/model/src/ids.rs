//! One type per kind of identity, so that an attempt can never be passed where a job is meant.
//!
//! All are UUIDs: jobs and attempts version 7, chosen by whoever creates them (design §9), which makes a
//! repeated submission idempotent.

use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that is not a UUID where one was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind} id: expected a UUID")]
pub struct ParseIdError {
    /// What the id should have named.
    pub kind: &'static str,
    /// What was given.
    pub text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The 16 bytes in network order, as they travel and are stored.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// From 16 bytes in network order.
            ///
            /// # Errors
            /// When there are not exactly 16.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, ParseIdError> {
                Uuid::from_slice(bytes).map(Self).map_err(|_| ParseIdError {
                    kind: $kind,
                    text: alloc::format!("{} bytes", bytes.len()),
                })
            }

            /// 32 hexadecimal digits, the form used in unit names.
            pub fn hex(&self) -> String {
                self.0.simple().to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($kind, ":{}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::from_str(text).map(Self).map_err(|_| ParseIdError { kind: $kind, text: text.into() })
            }
        }
    };
}

id!(
    /// A job: what a user submitted.
    JobId, "job"
);
id!(
    /// One running copy of a worker; every (re)start is a new attempt.
    AttemptId, "attempt"
);
id!(
    /// A node, fixed at its first join.
    NodeId, "node"
);
id!(
    /// A fleet: one certificate authority, one order key.
    FleetId, "fleet"
);
id!(
    /// One incarnation of a node's ledger; event sequences restart only together with it.
    LedgerId, "ledger"
);
id!(
    /// One interference test that the fleet has ordered: the same id again is the same test.
    ProveId, "test"
);

impl AttemptId {
    /// The systemd unit that runs this attempt.
    pub fn unit_name(&self) -> String {
        alloc::format!("loadline-w-{}.service", self.hex())
    }

    /// The attempt behind a unit name, if it is one of ours.
    pub fn from_unit_name(unit: &str) -> Option<Self> {
        let hex = unit.strip_prefix("loadline-w-")?.strip_suffix(".service")?;
        (hex.len() == 32).then(|| hex.parse().ok()).flatten()
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The one after this.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter!(
    /// Orders of the desired state, counted by the fleet per node, ascending.
    Generation
);
counter!(
    /// Events of a node, counted by its warden per ledger, ascending without gaps.
    Sequence
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_names_round_trip_and_strangers_are_refused() {
        let id: AttemptId = "0192f0c1-2345-7abc-8def-0123456789ab".parse().unwrap();
        assert_eq!(
            id.unit_name(),
            "loadline-w-0192f0c123457abc8def0123456789ab.service"
        );
        assert_eq!(AttemptId::from_unit_name(&id.unit_name()), Some(id));
        assert_eq!(AttemptId::from_unit_name("nginx.service"), None);
        assert_eq!(AttemptId::from_unit_name("loadline-w-12.service"), None);
    }

    #[test]
    fn wrong_texts_name_the_kind() {
        let error = "x".parse::<NodeId>().unwrap_err();
        assert_eq!(error.to_string(), "`x` is not a node id: expected a UUID");
        assert!(JobId::from_slice(&[0; 15]).is_err());
    }
}
