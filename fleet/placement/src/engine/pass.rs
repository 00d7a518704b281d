//! One pass over everything that waits, in the order of the queue.
//!
//! Problem: 100,000 jobs wait, and something has ended. Approach: jobs of one shape wait for the same thing; once a
//! shape finds no room in a pass, the others of it are passed over in a few nanoseconds each.

use alloc::vec::Vec;

use crate::engine::class::ShapeIx;
use crate::engine::{Engine, Grant};

/// A job that wants workers of one shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queued {
    /// What each worker asks for.
    pub shape: ShapeIx,
    /// How many.
    pub workers: u32,
    /// All or none of them; else each as soon as there is room for it.
    pub together: bool,
}

/// Workers of one queued job that were booked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Which of the queue, by its place.
    pub queued: usize,
    /// What they were given.
    pub grants: Vec<Grant>,
}

/// What a pass has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pass {
    /// What was booked, in the order of the queue.
    pub passed: Vec<Passed>,
    /// Jobs with workers that still wait.
    pub waiting: usize,
    /// True if it ended at its limit.
    pub more: bool,
}

impl Engine {
    /// Books what fits, first come, first served, until `grants_max` workers are booked; a gang is not torn apart
    /// for it. A job that does not fit holds nobody up.
    pub fn pass(&mut self, queue: &[Queued], grants_max: usize) -> Pass {
        let mut pass = Pass::default();
        let mut booked = 0;
        // Per shape the fewest workers that are known to find no room together.
        let mut hopeless: Vec<u32> = Vec::new();
        hopeless.resize(self.classes.shapes.len(), u32::MAX);
        for (queued, job) in queue.iter().enumerate() {
            let together = if job.together { job.workers } else { 1 };
            let Some(limit) = hopeless.get_mut(job.shape.0 as usize) else {
                continue;
            };
            if together >= *limit {
                pass.waiting += 1;
                continue;
            }
            if booked >= grants_max {
                pass.more = true;
                pass.waiting += 1;
                continue;
            }
            let grants = if job.together {
                self.place_gang(job.shape, job.workers, &[]).unwrap_or_default()
            } else {
                let wanted = job
                    .workers
                    .min(u32::try_from(grants_max - booked).unwrap_or(u32::MAX));
                (0..wanted).map_while(|_| self.place(job.shape, &[])).collect()
            };
            booked += grants.len();
            if grants.len() < job.workers as usize {
                pass.waiting += 1;
                if booked < grants_max {
                    *limit = together;
                }
            }
            if !grants.is_empty() {
                pass.passed.push(Passed { queued, grants });
            }
        }
        pass
    }
}
