//! Best fit and FGD as their authors' simulator has them, to be held against: not for production.
//!
//! Both score nodes in whole points from 0 to 100 and take the first of the best by name; that rounding is part of
//! what they reach, so it is here too. Each policy is given the mix of the whole trace.

use std::collections::BTreeMap;

use crate::trace::{Allocated, GPU, Marks, Task, Trace};

const GPUS: usize = 8;

/// What a node has left.
#[derive(Debug, Clone)]
pub(crate) struct Rest {
    cpu: u64,
    memory_mib: u64,
    gpus: [u64; GPUS],
    count: usize,
    model: String,
}

impl Rest {
    fn gpus(&self) -> &[u64] {
        &self.gpus[..self.count]
    }

    fn left(&self) -> u64 {
        self.gpus().iter().sum()
    }

    fn gpus_fit(&self, task: &Task) -> bool {
        let may = task.models.is_empty() || task.models.contains(&self.model);
        task.gpus == 0 || may && self.gpus().iter().filter(|left| **left >= task.share).count() >= task.gpus
    }

    fn fits(&self, task: &Task) -> bool {
        self.cpu >= task.cpu && self.memory_mib >= task.memory_mib && self.gpus_fit(task)
    }

    /// Takes the task; a share from GPU `from`, whole ones in order.
    fn take(&mut self, task: &Task, from: usize) {
        self.cpu -= task.cpu;
        self.memory_mib = self.memory_mib.saturating_sub(task.memory_mib);
        if task.gpus == 1 && task.share < GPU {
            self.gpus[from] -= task.share;
            return;
        }
        let whole = self.gpus[..self.count].iter_mut().filter(|left| **left == GPU);
        for left in whole.take(task.gpus) {
            *left = 0;
        }
    }
}

/// Scores a node that fits, and names the GPU that a share is taken from.
pub(crate) trait Policy {
    /// Higher is better.
    fn score(&mut self, rest: &Rest, task: &Task) -> (i64, usize);
}

/// The node with the least left, CPU and GPUs weighing the same.
pub(crate) struct BestFit;

impl Policy for BestFit {
    fn score(&mut self, rest: &Rest, task: &Task) -> (i64, usize) {
        let fitting = (0..rest.count).filter(|gpu| rest.gpus[*gpu] >= task.share);
        let from = fitting.min_by_key(|gpu| rest.gpus[*gpu]).unwrap_or(0);
        let cpu = (rest.cpu - task.cpu) as f64 / 128_000.0;
        let gpus = (rest.left() - task.total()) as f64 / 8_000.0;
        (points(1.0 - (cpu + gpus) / 2.0), from)
    }
}

/// The steepest descent of fragmentation.
pub(crate) struct Fgd {
    typical: Vec<(Task, f64)>,
}

impl Fgd {
    /// The commonest tasks that make up 95 % of all.
    pub(crate) fn new(tasks: &[Task]) -> Self {
        let mut counts: BTreeMap<Task, f64> = BTreeMap::new();
        for task in tasks {
            let known = Task {
                memory_mib: 0,
                ..task.clone()
            };
            *counts.entry(known).or_default() += 1.0;
        }
        let mut typical: Vec<(Task, f64)> = counts.into_iter().collect();
        typical.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mut sum = 0.0;
        let all = tasks.len() as f64;
        typical.retain(|(_, count)| {
            let kept = sum < 0.95 * all;
            sum += if kept { *count } else { 0.0 };
            kept
        });
        for (_, count) in &mut typical {
            *count /= sum;
        }
        Self { typical }
    }

    /// GPU rests that are of no use, over all typical tasks.
    fn fragments(&self, rest: &Rest) -> f64 {
        let left = rest.left() as f64;
        let of = |(task, part): &(Task, f64)| {
            let usable = task.gpus > 0 && rest.cpu >= task.cpu && rest.gpus_fit(task);
            if !usable {
                return part * left;
            }
            let small: u64 = rest.gpus().iter().filter(|left| **left < task.share).sum();
            part * small as f64
        };
        if left == 0.0 {
            0.0
        } else {
            self.typical.iter().map(of).sum()
        }
    }
}

impl Policy for Fgd {
    fn score(&mut self, rest: &Rest, task: &Task) -> (i64, usize) {
        let before = self.fragments(rest);
        let share = task.gpus == 1 && task.share < GPU;
        let mut best: Option<(i64, usize)> = None;
        let mut seen = Vec::new();
        for gpu in 0..if share { rest.count } else { 1 } {
            let left = rest.gpus[gpu];
            if share && (left < task.share || seen.contains(&left)) {
                continue;
            }
            seen.push(left);
            let mut after = rest.clone();
            after.take(task, gpu);
            let fell = (before - self.fragments(&after)) / GPU as f64;
            let score = points(1.0 / (1.0 + (-fell).exp()));
            if best.is_none_or(|(most, _)| score > most) {
                best = Some((score, gpu));
            }
        }
        best.unwrap_or((0, 0))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "0 to 100")]
fn points(part: f64) -> i64 {
    (part * 100.0).floor() as i64
}

/// What one kind of task scored on each node, and at which of its versions.
struct Known {
    version: Vec<u32>,
    score: Vec<Option<(i64, usize)>>,
}

/// Places the tasks one by one.
pub(crate) fn replay(trace: &Trace, tasks: &[Task], policy: &mut dyn Policy) -> Allocated {
    let rest = |node: &crate::trace::Node| Rest {
        cpu: node.cpu,
        memory_mib: node.memory_mib,
        gpus: std::array::from_fn(|gpu| if gpu < node.gpus { GPU } else { 0 }),
        count: node.gpus.min(GPUS),
        model: node.model.clone(),
    };
    let mut nodes: Vec<Rest> = trace.nodes.iter().map(rest).collect();
    let mut versions = vec![1u32; nodes.len()];
    let mut known: BTreeMap<&Task, Known> = BTreeMap::new();
    let mut marks = Marks::new(trace);
    for task in tasks {
        let known = known.entry(task).or_insert_with(|| Known {
            version: vec![0; nodes.len()],
            score: vec![None; nodes.len()],
        });
        let mut best: Option<(i64, usize, usize)> = None;
        for (index, node) in nodes.iter().enumerate() {
            if known.version[index] != versions[index] {
                known.version[index] = versions[index];
                known.score[index] = node.fits(task).then(|| policy.score(node, task));
            }
            if let Some((score, gpu)) = known.score[index]
                && best.is_none_or(|(most, _, _)| score > most)
            {
                best = Some((score, index, gpu));
            }
        }
        if let Some((_, index, gpu)) = best {
            nodes[index].take(task, gpu);
            versions[index] += 1;
        }
        marks.note(task, best.is_some());
    }
    marks.finish()
}
