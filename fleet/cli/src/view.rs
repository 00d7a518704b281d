//! What is shown: plain values, one set for tables and JSON. Field names are stable; new ones may be added.
//!
//! Units are in the names (`_bytes`, `_millicpu`, `_us`), times are RFC 3339 in UTC, what is not known is `null`.

mod job;
mod node;
mod prove;
mod sharing;

use loadline_model::WallTime;
use serde::{Serialize, Serializer};

pub use job::{
    AttemptView, EndView, Explained, JobRow, JobView, LogLine, ReasonView, ReceiptView, RequestView, SpecView,
};
pub use node::{
    CeilingView, CostView, HeadroomView, NodeRow, NodeView, NodeWorkerView, ReceiptRow, ResourceView,
    TopologyView,
};
pub use prove::{ProveLast, ProveRun, ProveView};
pub use sharing::{AtOnceView, HoursView, QuotaView, TeamRow, UserView};

/// A moment; RFC 3339 in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub WallTime);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&crate::text::rfc3339(self.0))
    }
}

/// A job that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Submitted {
    /// Its id.
    pub job_id: String,
    /// Its number.
    pub job: u64,
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UserRow {
    /// The name they log in with.
    pub name: String,
    /// What they may do.
    pub role: String,
    /// The account their jobs run as.
    pub unix_account: String,
    /// The team.
    pub team: String,
    /// True if shut out.
    pub banned: bool,
}

/// A new token. Shown once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewToken {
    /// Its name in lists.
    pub token_id: String,
    /// The token.
    pub token: String,
    /// When it becomes useless.
    pub expires_at: Moment,
    /// What to type where.
    pub command: String,
    /// The node or person it is for.
    pub bound_to: String,
    /// `node` or `login`.
    pub kind: &'static str,
}

/// A token in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenRow {
    /// Its name.
    pub token_id: String,
    /// `node` or `login`.
    pub kind: String,
    /// The node or person it is for.
    pub bound_to: String,
    /// The pool, for nodes.
    pub pool: String,
    /// When it becomes useless.
    pub expires_at: Moment,
    /// `open`, `used`, `expired` or `revoked`.
    pub state: String,
}

/// Who one is to the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Me {
    /// The name.
    pub user: String,
    /// What one may do.
    pub role: String,
    /// The account jobs run as.
    pub unix_account: String,
    /// The team.
    pub team: String,
    /// When the certificate ends.
    pub certificate_expires_at: Moment,
}

/// How the fleet is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FleetStatus {
    /// fleetd's version.
    pub version: String,
    /// The fleet's id.
    pub fleet_id: String,
    /// Nodes that are heard.
    pub nodes_ready: u32,
    /// Nodes that are not.
    pub nodes_silent: u32,
    /// Jobs that wait.
    pub jobs_queued: u32,
    /// Jobs that run.
    pub jobs_running: u32,
    /// The store.
    pub store: String,
    /// fleetd's clock, if it tells.
    pub now: Option<Moment>,
}

/// How a check of `fleet doctor` went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// All is well.
    Ok,
    /// It works, and deserves attention.
    Warning,
    /// It does not work.
    Failed,
    /// An earlier failure leaves nothing to look at.
    NotChecked,
}

/// One check of `fleet doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at; stable.
    pub name: &'static str,
    /// How it went.
    pub health: Health,
    /// What was found.
    pub found: String,
    /// What to do, if anything.
    pub next_step: Option<String>,
}
