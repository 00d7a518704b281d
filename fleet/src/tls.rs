//! TLS 1.3 on both ports: who may connect, for how long, and how fast.
//!
//! The whole configuration (own certificate, trusted authorities, verifier) is swapped as one value, so the
//! parts never disagree. Session resumption is off because a resumed session skips the client's certificate
//! check, and with it a ban (promise P10); for the same reason connections have a maximum age, after which the
//! certificate is looked at again. A ban closes open connections with whatever streams they carry.

mod accept;
mod bucket;
mod connection;
mod pki;
mod verifier;

pub use accept::{AcceptError, AcceptLimits, Listener, Port};
pub use bucket::{Bucket, PeerBuckets, Rate};
pub use connection::{ConnectionLimits, Peer};
pub use pki::{Pki, PkiError, PkiFiles, PkiSource};
