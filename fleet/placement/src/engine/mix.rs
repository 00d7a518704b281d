//! What is asked for: counts of the shapes that were submitted, the old ones fading.
//!
//! What a rest of a node is worth depends on what will be asked for next. Nobody says so beforehand; what was asked
//! for lately is the estimate, from the first worker on.

use alloc::vec;
use alloc::vec::Vec;

use crate::engine::class::ShapeIx;

/// Once so many are counted, all counts are halved: the mix follows what changes within tens of thousands.
const COUNTED_MAX: u64 = 65_536;
/// Shapes in the estimate. With more, the rest counts as if it were not asked for.
const SHAPES_MAX: usize = 256;
/// Of all that was asked for, so much is looked at shape by shape, in per cent; rarer shapes would be held room for
/// that few of them ever need.
const COMMON: u64 = 99;

/// A mix that has changed by less than this, of all that is asked for, is the same mix: one in so many.
const CHANGED: u64 = 10;

/// From so many on the estimate is as good as it gets.
const KNOWN: u64 = COUNTED_MAX / 4;

/// Counts of shapes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mix {
    counts: Vec<u64>,
    total: u64,
    /// The estimate is made anew at so many.
    next: u64,
}

/// A shape and how often it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Common {
    pub(crate) shape: ShapeIx,
    pub(crate) count: u64,
    /// False for rare ones.
    pub(crate) common: bool,
}

impl Mix {
    /// Counts workers that were asked for.
    pub(crate) fn learn(&mut self, shape: ShapeIx, workers: u64) {
        let index = shape.0 as usize;
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] = self.counts[index].saturating_add(workers);
        self.total = self.total.saturating_add(workers);
        while self.total > COUNTED_MAX {
            for count in &mut self.counts {
                *count /= 2;
            }
            self.total = self.counts.iter().sum();
            self.next = self.next.min(self.total + self.total / 2);
        }
    }

    /// True if it was asked for lately.
    pub(crate) fn counts(&self, shape: ShapeIx) -> bool {
        self.counts.get(shape.0 as usize).is_some_and(|count| *count > 0)
    }

    /// True once half as many again have been counted as when it was last said so.
    pub(crate) fn is_due(&mut self) -> bool {
        let due = self.total > 0 && self.total >= self.next;
        if due {
            self.next = self.total + self.total / 2 + 4;
        }
        due
    }

    /// True if what is asked for is no longer what it was: over a tenth of it is something else. While little is
    /// known each look is better than the last, so until then it always differs.
    pub(crate) fn differs(&self, from: &[Common]) -> bool {
        if self.total < KNOWN {
            return true;
        }
        let all: u64 = from.iter().map(|shape| shape.count).sum();
        let mut old = vec![0u64; self.counts.len()];
        for Common { shape, count, .. } in from {
            if let Some(old) = old.get_mut(shape.0 as usize) {
                *old = *count;
            }
        }
        // Parts of one are compared by multiplying crosswise: counts stay below 2^17, so nothing overflows.
        let pairs = self.counts.iter().zip(old);
        let apart: u64 = pairs
            .map(|(new, old)| (new * all).abs_diff(old * self.total))
            .sum();
        // What one shape loses another gains, so each change is counted twice.
        apart * CHANGED >= 2 * all.saturating_mul(self.total)
    }

    /// The shapes, the most frequent first.
    pub(crate) fn shapes(&self) -> Vec<Common> {
        let asked = (0..).zip(&self.counts).filter(|(_, count)| **count > 0);
        let mut shapes: Vec<Common> = asked
            .map(|(shape, count)| Common {
                shape: ShapeIx(shape),
                count: *count,
                common: true,
            })
            .collect();
        shapes.sort_by_key(|shape| (core::cmp::Reverse(shape.count), shape.shape));
        shapes.truncate(SHAPES_MAX);
        let all: u64 = shapes.iter().map(|shape| shape.count).sum();
        let mut sum = 0u64;
        for shape in &mut shapes {
            shape.common = sum.saturating_mul(100) < all.saturating_mul(COMMON);
            sum += shape.count;
        }
        shapes
    }
}
