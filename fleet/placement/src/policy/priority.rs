//! How urgent a job is, in its user's words.

use serde::{Deserialize, Serialize};

/// The higher goes first within its tier, and lower ones yield to it; 0 is what a job has that says nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Priority(pub i16);
