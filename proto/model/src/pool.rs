//! Equal values, kept once.
//!
//! Problem: a million jobs of a thousand people would hold a million copies of the same names, needs and
//! specifications. Approach: whoever comes with an equal value gets the one that is there; values that nobody holds
//! any more are dropped whenever there are twice as many as were in use last time.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;

/// So few are never looked through.
const FEW: usize = 1024;

/// The values.
#[derive(Debug, Clone)]
pub struct Pool<T: ?Sized> {
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
    /// The one that is kept of all that equal this one.
    pub fn share(&mut self, value: &Arc<T>) -> Arc<T> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

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
