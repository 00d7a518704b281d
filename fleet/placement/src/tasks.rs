//! Where the tasks of an array stand, in as little room as their order allows.
//!
//! Problem: an array has up to 100,000 tasks, and a row for each would be most of the store. Approach: runs of
//! neighbours that stand alike; tasks are given out and end roughly in their order, so there are about as many runs as
//! workers. Nothing gives tasks out yet: the runner that would is not there, and arrays are refused until it is.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use loadline_model::{Tasks, Workers};

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskStage {
    /// Nobody has it.
    Waiting,
    /// A worker has it.
    Running,
    /// It ended well.
    Done,
    /// It failed and is not tried again.
    Failed,
}

/// How many tasks stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TaskCounts {
    /// Nobody has them.
    pub waiting: u32,
    /// Workers have them.
    pub running: u32,
    /// They ended well.
    pub done: u32,
    /// They failed.
    pub failed: u32,
}

/// All tasks of one array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskBook {
    tasks: Tasks,
    /// By the first task of each run; neighbours differ.
    runs: BTreeMap<u32, TaskStage>,
}

impl TaskBook {
    /// All tasks wait.
    #[must_use]
    pub fn new(tasks: Tasks) -> Self {
        let runs = [(tasks.first, TaskStage::Waiting)].into_iter().collect();
        Self { tasks, runs }
    }

    /// The runs, in order: what a store keeps.
    pub fn runs(&self) -> impl Iterator<Item = (RangeInclusive<u32>, TaskStage)> {
        let ends = self.runs.keys().skip(1).map(|next| next - 1);
        let ends = ends.chain([self.tasks.last]);
        let runs = self.runs.iter().zip(ends);
        runs.map(|((first, stage), last)| (*first..=last, *stage))
    }

    /// Says where some tasks stand now; what lies outside the array is left out.
    pub fn set(&mut self, tasks: RangeInclusive<u32>, stage: TaskStage) {
        let first = (*tasks.start()).max(self.tasks.first);
        let last = (*tasks.end()).min(self.tasks.last);
        if first > last {
            return;
        }
        let behind = self.stage(last.saturating_add(1));
        let inside: Vec<u32> = self.runs.range(first..=last).map(|(start, _)| *start).collect();
        for start in inside {
            self.runs.remove(&start);
        }
        self.begin(first, stage);
        if let Some(behind) = behind {
            self.runs.remove(&(last + 1));
            self.begin(last + 1, behind);
        }
    }

    /// A run begins, unless the one before it is alike.
    fn begin(&mut self, first: u32, stage: TaskStage) {
        let before = self.runs.range(..first).next_back();
        if before.is_none_or(|(_, before)| *before != stage) {
            self.runs.insert(first, stage);
        }
    }

    /// Where a task stands; none: there is no such task.
    #[must_use]
    pub fn stage(&self, task: u32) -> Option<TaskStage> {
        let inside = (self.tasks.first..=self.tasks.last).contains(&task);
        let run = self.runs.range(..=task).next_back();
        run.filter(|_| inside).map(|(_, stage)| *stage)
    }

    /// The first so many tasks that wait.
    #[must_use]
    pub fn next(&self, most: u32) -> Vec<RangeInclusive<u32>> {
        let mut left = most;
        let mut found = Vec::new();
        for (run, _) in self.runs().filter(|(_, stage)| *stage == TaskStage::Waiting) {
            if left == 0 {
                break;
            }
            let last = (*run.end()).min(run.start().saturating_add(left - 1));
            left -= last - run.start() + 1;
            found.push(*run.start()..=last);
        }
        found
    }

    /// How many stand where.
    #[must_use]
    pub fn counts(&self) -> TaskCounts {
        let mut counts = TaskCounts::default();
        for (run, stage) in self.runs() {
            let count = match stage {
                TaskStage::Waiting => &mut counts.waiting,
                TaskStage::Running => &mut counts.running,
                TaskStage::Done => &mut counts.done,
                TaskStage::Failed => &mut counts.failed,
            };
            *count += run.end() - run.start() + 1;
        }
        counts
    }

    /// How many workers the array can use: one for each task that is not over, and no more than it may have.
    #[must_use]
    pub fn demand(&self, workers: Workers) -> u32 {
        let TaskCounts { waiting, running, .. } = self.counts();
        workers.max().min(waiting + running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_hundred_thousand_tasks_in_order_take_a_few_runs() {
        let mut book = TaskBook::new(Tasks {
            first: 1,
            last: 100_000,
        });
        let workers = Workers::Fixed(8);
        let mut most = 0;
        while let [next, ..] = book.next(8).as_slice() {
            let next = next.clone();
            assert_eq!(book.demand(workers), 8.min(100_001 - next.start()));
            book.set(next.clone(), TaskStage::Running);
            most = most.max(book.runs().count());
            book.set(next, TaskStage::Done);
        }
        assert!(most <= 3, "{most} runs");
        assert_eq!(book.counts().done, 100_000);
        assert_eq!((book.demand(workers), book.runs().count()), (0, 1));
    }

    proptest! {
        /// Oracle: a plain list.
        #[test]
        fn runs_are_what_a_list_would_be(
            first in 0u32..5,
            count in 1u32..30,
            changes in prop::collection::vec((0u32..40, 0u32..10, 0usize..4), 0..20),
            most in 0u32..40,
        ) {
            let stages = [TaskStage::Waiting, TaskStage::Running, TaskStage::Done, TaskStage::Failed];
            let tasks = Tasks { first, last: first + count - 1 };
            let mut book = TaskBook::new(tasks);
            let mut list = vec![TaskStage::Waiting; count as usize];
            for (from, more, stage) in changes {
                book.set(from..=from + more, stages[stage]);
                for task in from.max(first)..=(from + more).min(tasks.last) {
                    list[(task - first) as usize] = stages[stage];
                }
            }
            for task in 0u32..50 {
                let known = task.checked_sub(first).and_then(|index| list.get(index as usize));
                prop_assert_eq!(book.stage(task), known.copied());
            }
            let runs: Vec<_> = book.runs().collect();
            prop_assert!(runs.windows(2).all(|pair| pair[0].1 != pair[1].1), "{:?}", runs);
            let of = |stage| u32::try_from(list.iter().filter(|other| **other == stage).count()).unwrap();
            let counts = book.counts();
            prop_assert_eq!(
                [counts.waiting, counts.running, counts.done, counts.failed],
                stages.map(of)
            );
            let waiting: Vec<u32> = (0..).zip(&list).filter(|(_, stage)| **stage == TaskStage::Waiting)
                .map(|(index, _): (u32, _)| first + index).take(most as usize).collect();
            let next: Vec<u32> = book.next(most).into_iter().flatten().collect();
            prop_assert_eq!(next, waiting);
        }
    }
}
