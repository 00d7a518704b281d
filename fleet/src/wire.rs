//! Between the words of the wire and fleetd's own. Generated types stop here.
//!
//! Reading is `TryFrom` or a `read_…` function with a typed error, writing is `From` or a `write_…` function.

pub(crate) mod blob;
mod error;
mod job;
mod needs;
mod node;
mod order;
mod phase;
mod prove;
mod sharing;
mod view;

pub use error::{ErrorDetails, WireError, status};
pub use job::{read_job_ref, read_spec, write_spec};
pub use needs::read_marks;
pub use node::{ReadHello, read_events, read_hello, read_inventory, read_sample, read_share, read_word};
pub use order::{sign_order, write_order};
pub use prove::{read_ask, write_prove};
pub use sharing::{
    read_quota, read_quota_change, read_team_change, write_quota, write_team, write_user_detail,
};
pub use view::{
    write_explanation, write_headroom, write_job_change, write_job_detail, write_job_summary,
    write_node_detail, write_node_receipt, write_node_summary, write_token, write_user,
};

use loadline_model::{AttemptId, JobId, LedgerId, NodeId, ParseIdError, ProveId};

macro_rules! read_id {
    ($name:ident, $id:ident) => {
        pub(crate) fn $name(field: &'static str, bytes: &[u8]) -> Result<$id, WireError> {
            $id::from_slice(bytes).map_err(|source: ParseIdError| WireError::Id { field, source })
        }
    };
}

read_id!(read_job_id, JobId);
read_id!(read_attempt_id, AttemptId);
read_id!(read_prove_id, ProveId);
read_id!(read_node_id, NodeId);
read_id!(read_ledger_id, LedgerId);
