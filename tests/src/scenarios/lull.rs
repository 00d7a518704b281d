//! When there is CPU to spare: while a scenario mostly waits.

use std::sync::{Condvar, Mutex, PoisonError};

/// Whether it is now, and which one.
#[derive(Debug, Default)]
pub(super) struct Lull {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is: bool,
    begun: usize,
    /// There is nothing left that could be in the way.
    over: bool,
}

impl Lull {
    /// Not yet.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// It begins, or ends. Whoever has begun something meanwhile finishes it.
    pub(super) fn set(&self, is: bool) {
        self.change(|state| {
            state.begun += usize::from(is && !state.is);
            state.is = is;
        });
    }

    /// From now on always.
    pub(super) fn for_good(&self) {
        self.change(|state| state.over = true);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Returns when it is, and the nth at least, from 1.
    pub(super) fn wait(&self, nth: usize) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        drop(
            self.changed
                .wait_while(state, |state| !(state.over || state.is && state.begun >= nth))
                .unwrap_or_else(PoisonError::into_inner),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread::scope;

    use super::*;

    #[test]
    fn whoever_waits_goes_on_in_its_own_one_or_at_the_end() {
        let lull = Lull::new();
        let (tell, told) = channel();
        scope(|scope| {
            for nth in 1..=3 {
                let (tell, lull) = (tell.clone(), &lull);
                scope.spawn(move || {
                    lull.wait(nth);
                    tell.send(nth).unwrap();
                });
            }
            lull.set(true);
            assert_eq!(told.recv(), Ok(1));
            // Two that wait one after the other are two.
            lull.set(false);
            assert!(told.try_recv().is_err());
            lull.set(true);
            assert_eq!(told.recv(), Ok(2));
            lull.set(true);
            lull.set(false);
            assert!(told.try_recv().is_err());
            lull.for_good();
            assert_eq!(told.recv(), Ok(3));
        });
    }
}
