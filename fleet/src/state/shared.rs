//! What many jobs have in common is kept once.
//!
//! Problem: a million jobs of a thousand people would hold a million copies of the same names and of the same needs.
//! Approach: whoever comes with an equal value gets the one that is there; values
//! that nobody holds any more are dropped whenever there are twice as many as were in use last time.

use std::collections::BTreeSet;
use std::sync::Arc;

use loadline_model::Needs;

use super::rows::JobRow;

/// So few are never looked through.
const FEW: usize = 1024;

/// Equal values, one of each.
#[derive(Debug)]
struct Pool<T: ?Sized> {
    known: BTreeSet<Arc<T>>,
    most: usize,
}

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Self {
            known: BTreeSet::new(),
            most: FEW,
        }
    }
}

impl<T: ?Sized + Ord> Pool<T> {
    fn share(&mut self, value: &Arc<T>) -> Arc<T> {
        if let Some(known) = self.known.get(value) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.most {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.most = FEW.max(self.known.len().saturating_mul(2));
        }
        self.known.insert(Arc::clone(value));
        Arc::clone(value)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    names: Pool<str>,
    needs: Pool<Needs>,
}

impl Shared {
    /// Lets a job hold what others hold.
    pub(crate) fn of_job(&mut self, row: &mut JobRow) {
        for name in [&mut row.user, &mut row.unix_account, &mut row.team] {
            *name = self.names.share(name);
        }
        // Whoever shares the specification holds what it says already.
        if let Some(spec) = Arc::get_mut(&mut row.spec) {
            spec.share_needs(|needs| self.needs.share(needs));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_are_one_and_what_nobody_holds_is_dropped() {
        let mut pool = Pool::<str>::default();
        let held = pool.share(&"held".into());
        assert!(Arc::ptr_eq(&held, &pool.share(&"held".into())));
        for number in 0..10 * FEW {
            pool.share(&number.to_string().into());
        }
        assert!(pool.known.len() <= FEW, "{} are known", pool.known.len());
        assert!(Arc::ptr_eq(&held, &pool.share(&"held".into())));
    }
}
