//! Books of a machine whose processors are all equal: a counter.

use crate::policy::Room;

/// How many are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processors(pub u32);

impl Room for Processors {
    type Ask = u32;
    type Grant = u32;

    fn book(&mut self, ask: &u32) -> Option<u32> {
        self.0 = self.0.checked_sub(*ask)?;
        Some(*ask)
    }

    fn repeat(&mut self, grant: &u32) -> bool {
        self.book(grant).is_some()
    }

    fn release(&mut self, grant: &u32) {
        self.0 += grant;
    }
}
