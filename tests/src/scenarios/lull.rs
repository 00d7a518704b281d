//! When there is CPU to spare: while a scenario mostly waits.

use std::sync::{Condvar, Mutex, PoisonError};

/// Whether it is now.
#[derive(Debug, Default)]
pub(super) struct Lull {
    is: Mutex<bool>,
    changed: Condvar,
}

impl Lull {
    /// Not yet.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// It begins, or is over. Whoever has begun something meanwhile finishes it.
    pub(super) fn set(&self, is: bool) {
        *self.is.lock().unwrap_or_else(PoisonError::into_inner) = is;
        self.changed.notify_all();
    }

    /// Returns when it is.
    pub(super) fn wait(&self) {
        let is = self.is.lock().unwrap_or_else(PoisonError::into_inner);
        drop(
            self.changed
                .wait_while(is, |is| !*is)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_goes_on_once_it_is() {
        let lull = Lull::new();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| lull.wait());
            lull.set(true);
            waits.join().unwrap();
        });
        lull.wait();
    }
}
