//! Who is at the other end of a connection, and what they may do.
//!
//! [`identity`] reads a name from a verified certificate, [`authorize`] is the one table of roles and actions,
//! [`directory`] is the view of people and bans that every call is checked against.

mod authorize;
mod directory;
mod identity;

pub use authorize::{Action, Actor, Denied, Role, authorize};
pub use directory::{Directory, DirectorySource, Person, Refusal};
pub use identity::{
    Identity, IdentityProblem, PeerCertificate, is_node_name, is_pool_name, is_unix_account, is_user_name,
    spiffe_uri,
};
