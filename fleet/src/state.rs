//! The state of a fleet and the one place where it changes.

mod command;
mod node_types;
mod order;
mod refused;
mod view;

pub use command::{Command, JobRef, NodeVerb, Now, Reply, SessionId, Sha256, TokenId};
pub use node_types::{Event, Happening, Hello, Inventory, LendMode, Receipt, Reported, Site};
pub use order::{Order, OrderKind, Start, Stop, StopReason};
pub use refused::{Code, Refused};
pub use view::{
    AttemptView, BlockingReason, Explanation, FleetStatus, JobChange, JobDetail, JobSummary, NodeCondition,
    NodeDetail, NodeSummary, NodeWorker, TokenState, TokenView, UserView,
};

/// Everything a fleet knows. Read it through its views; only the writer changes it.
#[derive(Debug, Default)]
pub struct State {}

#[expect(
    clippy::unused_self,
    unused_variables,
    reason = "published first, filled next"
)]
impl State {
    /// Jobs, newest first; `all` also those that are done.
    pub fn jobs(&self, all: bool) -> Vec<JobSummary> {
        unimplemented!()
    }

    /// One job with everything.
    ///
    /// # Errors
    /// When there is none.
    pub fn job(&self, job: JobRef, now: Now) -> Result<JobDetail, Refused> {
        unimplemented!()
    }

    /// Why a job waits.
    ///
    /// # Errors
    /// When there is none.
    pub fn explain(&self, job: JobRef, now: Now) -> Result<Explanation, Refused> {
        unimplemented!()
    }

    /// All nodes, by name; banned ones last.
    pub fn nodes(&self, now: Now) -> Vec<NodeSummary> {
        unimplemented!()
    }

    /// One node with everything.
    ///
    /// # Errors
    /// When there is none.
    pub fn node(&self, name: &str, now: Now) -> Result<NodeDetail, Refused> {
        unimplemented!()
    }

    /// The name of a node.
    ///
    /// # Errors
    /// When there is none.
    pub fn node_name(&self, node: loadline_model::NodeId) -> Result<String, Refused> {
        unimplemented!()
    }

    /// All people, by name.
    pub fn users(&self) -> Vec<UserView> {
        unimplemented!()
    }

    /// All tokens, newest first.
    pub fn tokens(&self, now: Now) -> Vec<TokenView> {
        unimplemented!()
    }

    /// The fleet in one line.
    pub fn status(&self, now: Now) -> FleetStatus {
        unimplemented!()
    }
}
