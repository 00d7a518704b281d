//! New ids, by chance and by time.

use loadline_model::{AttemptId, NodeId, ProveId};
use uuid::{Builder, Uuid};

use crate::state::{Ids, Now};

/// Version 7 begins with the time: rows of the same minute lie together in the store.
fn by_time(now: Now) -> Uuid {
    let millis = u64::try_from(now.wall.0 / 1000).unwrap_or(0);
    Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid()
}

/// UUIDs from the machine's random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomIds;

impl Ids for RandomIds {
    fn attempt(&mut self, now: Now) -> AttemptId {
        AttemptId::from_uuid(by_time(now))
    }

    fn test(&mut self, now: Now) -> ProveId {
        ProveId::from_uuid(by_time(now))
    }

    fn node(&mut self, _now: Now) -> NodeId {
        NodeId::from_uuid(Builder::from_random_bytes(rand::random()).into_uuid())
    }
}
