//! The services people, nodes and newcomers call.
//!
//! The API decides nothing: it knows who calls (from the certificate), asks the one table whether they may,
//! converts, records changes in the audit log, and hands commands to the [`Fleet`]. Every answer that is an error
//! carries a stable reason, the next step and the call's id.

mod access;
mod admin;
pub(crate) mod call;
mod dispatch;
pub(crate) mod failure;
mod jobs;
pub(crate) mod logs;
mod nodes;
mod sharing;
mod watch;
mod wire;

use std::sync::Arc;

use loadline_model::FleetId;
use tokio::sync::watch as watching;

pub use dispatch::{access_service, session_service};

use crate::Fleet;
use crate::audit::AuditLog;
use crate::ca::OrderKey;
use crate::clock::Clock;
use crate::config::ReachableName;
use crate::http::Metrics;
use crate::session::Sessions;
use crate::tls::Pki;
use crate::trust::DirectorySource;

/// Everything a call can need. One for each fleetd.
#[derive(Debug)]
pub struct Edge {
    /// Which fleet this is.
    pub fleet_id: FleetId,
    /// The state, behind its writer.
    pub fleet: Fleet,
    /// The open sessions of nodes.
    pub sessions: Sessions,
    /// Signs orders.
    pub order_key: OrderKey,
    /// Signs certificates; the newest.
    pub pki: watching::Receiver<Arc<Pki>>,
    /// Records changes.
    pub audit: AuditLog,
    /// People and bans.
    pub directory: DirectorySource,
    /// The time of day.
    pub clock: Clock,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Where newcomers go; stands in tokens.
    pub access_address: ReachableName,
    /// Where everyone else goes.
    pub session_address: String,
}

/// What this fleetd calls itself.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
