//! Where the warden's threads stand beside production's, but for the one that keeps the line.
//!
//! None of them is in a hurry while production leaves CPUs: then they step aside for it at once. Where it leaves none they
//! would get no CPU that way, and the node would seem dead; and where lent work starves, somebody who is to end has to
//! be gone in time (PROMISES, P13).

use super::{Bounds, Decision};
use crate::settings::{Place, Squeezed};

/// Of CPUs this part must be left by production, or nobody goes last: one in ten.
const LEFT: u64 = 10;

/// Where they stand after a look. `reaping`: somebody is ended who starves.
#[must_use]
pub fn place_of_others(decision: &Decision, bounds: &Bounds, reaping: bool) -> Place {
    let left = bounds.capacity.minus(decision.production);
    if reaping || decision.setpoints.squeezed != Squeezed::No {
        Place::Beside
    } else if left.0 < bounds.capacity.0 / LEFT {
        Place::Behind
    } else {
        Place::Last
    }
}
