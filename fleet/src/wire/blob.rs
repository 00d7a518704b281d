//! The parts of rows that the store keeps as protobuf messages: what travels in the same shape anyway.

use loadline_model::{Ended, JobSpec, ProveAsk};
use loadline_placement::policy::Quota;
use loadline_proto::types::v1 as types;
use prost::Message;

use super::WireError;
use super::job::{read_spec, write_spec};
use super::node::{read_inventory, write_inventory};
use super::phase::{read_ended, read_receipt, read_site, write_ended, write_receipt, write_site};
use super::prove::{read_ask, read_report, write_ask, write_report};
use super::sharing::{read_quota, write_quota};
use crate::state::{Inventory, ProveReport, Receipt, Site};

/// Bytes that are not what they should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlobError {
    /// They are no such message.
    #[error("the bytes are not a message of this kind")]
    Decode(#[source] prost::DecodeError),
    /// The message says something impossible.
    #[error(transparent)]
    Content(WireError),
}

macro_rules! blob {
    ($write:ident, $read:ident, $own:ty, $message:ty, $to:expr, $from:expr) => {
        pub(crate) fn $write(value: &$own) -> Vec<u8> {
            let message: $message = $to(value);
            message.encode_to_vec()
        }

        pub(crate) fn $read(bytes: &[u8]) -> Result<$own, BlobError> {
            let message = <$message>::decode(bytes).map_err(BlobError::Decode)?;
            $from(message).map_err(BlobError::Content)
        }
    };
}

blob!(
    spec_to_bytes,
    spec_from_bytes,
    JobSpec,
    types::JobSpec,
    write_spec,
    read_spec
);
blob!(
    quota_to_bytes,
    quota_from_bytes,
    Quota,
    types::Quota,
    write_quota,
    read_quota
);
blob!(
    ended_to_bytes,
    ended_from_bytes,
    Ended,
    types::Ended,
    write_ended,
    read_ended
);
blob!(
    site_to_bytes,
    site_from_bytes,
    Site,
    types::Placement,
    write_site,
    read_site
);
blob!(
    receipt_to_bytes,
    receipt_from_bytes,
    Receipt,
    types::Receipt,
    write_receipt,
    read_receipt
);
blob!(
    inventory_to_bytes,
    inventory_from_bytes,
    Inventory,
    types::Inventory,
    write_inventory,
    read_inventory
);
blob!(
    ask_to_bytes,
    ask_from_bytes,
    ProveAsk,
    types::ProveAsk,
    write_ask,
    |ask: types::ProveAsk| read_ask(&ask)
);
blob!(
    report_to_bytes,
    report_from_bytes,
    ProveReport,
    types::ProveReport,
    write_report,
    |report: types::ProveReport| Ok(read_report(report))
);
