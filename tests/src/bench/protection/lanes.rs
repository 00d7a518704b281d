//! Nodes side by side: each lane boots one and takes production after production until none is left.
//!
//! A production's cells stay in one boot.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use super::matrix::Cell;

/// Measures each production on one of so many nodes; gives what was measured in the order of the cells. After an error no
/// production is begun any more.
///
/// # Errors
/// The first that `boot`, which is told a node's name, or `measure` gave.
pub(super) fn run<N, T: Send>(
    lanes: usize,
    cells: &[Cell],
    boot: impl Fn(&str) -> Result<N> + Sync,
    measure: impl Fn(&N, &[Cell]) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let groups = cells.chunk_by(|one, next| one.production == next.production);
    let groups: VecDeque<(usize, &[Cell])> = groups.enumerate().collect();
    let lanes = lanes.min(groups.len());
    let queue = Mutex::new(groups);
    // A panic elsewhere leaves the queue as usable as before.
    let rest = || queue.lock().unwrap_or_else(PoisonError::into_inner);
    let lane = |number: usize| -> Result<Vec<(usize, T)>> {
        let node = boot(&format!("bench-protection-{number}"))?;
        let mut measured = Vec::new();
        loop {
            let next = rest().pop_front();
            let Some((place, cells)) = next else {
                return Ok(measured);
            };
            measured.push((place, measure(&node, cells)?));
        }
    };
    let lane = |number| lane(number).inspect_err(|_| rest().clear());
    let mut all = Vec::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..lanes)
            .map(|number| scope.spawn(move || lane(number)))
            .collect();
        for thread in threads {
            let measured = thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            all.push(measured);
        }
    });
    let mut measured: Vec<(usize, T)> = all
        .into_iter()
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect();
    measured.sort_by_key(|(place, _)| *place);
    Ok(measured.into_iter().map(|(_, seen)| seen).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use anyhow::bail;

    use super::*;
    use crate::bench::form::Form;

    fn cells() -> Vec<Cell> {
        Form::Short.cells()
    }

    #[test]
    fn productions_are_shared_out_and_come_back_in_order() {
        let cells = cells();
        // Both lanes have begun before either goes on.
        let both = Barrier::new(2);
        let boots = AtomicUsize::new(0);
        let boot = |_: &str| {
            boots.fetch_add(1, Ordering::Relaxed);
            both.wait();
            Ok(())
        };
        let seen = run(2, &cells, boot, |(), cells| Ok(cells.to_vec())).unwrap();
        assert_eq!(seen.concat(), cells);
        assert_eq!(boots.into_inner(), 2);
    }

    #[test]
    fn no_more_nodes_are_booted_than_there_are_productions() {
        let boots = AtomicUsize::new(0);
        let boot = |_: &str| {
            boots.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        run(64, &cells()[..1], boot, |(), _| Ok(())).unwrap();
        run(64, &[], boot, |(), _| Ok(())).unwrap();
        assert_eq!(boots.into_inner(), 1);
    }

    #[test]
    fn after_an_error_nothing_more_is_begun() {
        let begun = AtomicUsize::new(0);
        let measure = |(): &(), _: &[Cell]| -> Result<()> {
            begun.fetch_add(1, Ordering::Relaxed);
            bail!("the disk is full")
        };
        let error = run(1, &cells(), |_| Ok(()), measure).unwrap_err();
        assert_eq!(error.to_string(), "the disk is full");
        assert_eq!(begun.into_inner(), 1);
    }
}
