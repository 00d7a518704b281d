//! The fleet's own certificate authority and order key.
//!
//! Keys lie in `<state>/keys`, beside the store and not in it: an empty or older store with the same keys is
//! still the same fleet, and nodes go on trusting it. [`keys`] makes and reads them, [`issue`] signs
//! certificates, [`order`] signs orders.

mod issue;
mod keys;
mod order;

pub(crate) use issue::SERVER_NAME;
pub use issue::{Authority, AuthorityError, CertificateRequest, IssueError, Issued, Subject, fingerprint};
pub use keys::{FleetKeys, KeysError, KeysLayout};
pub(crate) use keys::{read, read_secret};
pub use order::{OrderKey, OrderKeyError};
