//! Where other workers are, for jobs that want to be near them, away from them, or spread.
//!
//! Only names are kept: which open jobs have a name, and which jobs are tied to a name. Where those are at the moment
//! is read from the attempts when placement is told of a job; whoever moves marks whom it is tied to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use loadline_model::{Arrange, JobId, NodeId};
use loadline_placement::Ties;

use super::rows::{JobRow, JobStage, WorkerStage};
use super::{Job, State};

/// Names of open jobs, and who is tied to them.
#[derive(Debug, Default)]
pub(crate) struct Names {
    named: BTreeMap<String, BTreeSet<JobId>>,
    /// By name or number, as it is said.
    tied: BTreeMap<String, BTreeSet<JobId>>,
}

fn said(row: &JobRow) -> impl Iterator<Item = &String> {
    row.spec.needs.near.iter().chain(&row.spec.needs.away_from)
}

fn change(map: &mut BTreeMap<String, BTreeSet<JobId>>, key: &str, id: JobId, known: bool) {
    if known {
        map.entry(key.to_owned()).or_default().insert(id);
        return;
    }
    if let Some(ids) = map.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            map.remove(key);
        }
    }
}

/// Those of one person or one team may be tied to each other.
fn belong_together(a: &JobRow, b: &JobRow) -> bool {
    let (one, other) = (&a.submitter, &b.submitter);
    a.id != b.id && (one.user == other.user || (!one.team.is_empty() && one.team == other.team))
}

impl State {
    /// Keeps the names of jobs that are not done.
    pub(crate) fn index_names(&mut self, row: &JobRow, known: bool) {
        let known = known && !matches!(row.stage, JobStage::Done(..));
        change(&mut self.names.named, &row.spec.name, row.id, known);
        for name in said(row) {
            change(&mut self.names.tied, name, row.id, known);
        }
    }

    /// A worker of the job came or went: whom that concerns is told of it.
    pub(crate) fn touch_tied(&mut self, row: &JobRow) {
        if self.names.tied.is_empty() {
            return;
        }
        let mut concerned = self.tied_to(row);
        concerned.extend(said(row).flat_map(|name| self.named(name, row)));
        for id in concerned {
            self.touched.job(id);
        }
    }

    /// Jobs that are near or away from this one.
    fn tied_to(&self, row: &JobRow) -> BTreeSet<JobId> {
        if self.names.tied.is_empty() {
            return BTreeSet::new();
        }
        let number = row.number.to_string();
        let names = [row.spec.name.as_str(), number.as_str()];
        let found = names
            .iter()
            .filter_map(|name| self.names.tied.get(*name))
            .flatten();
        let theirs = |id: &JobId| {
            let other = self.jobs.get(id);
            other.is_some_and(|other| belong_together(row, &other.row))
        };
        found.copied().filter(theirs).collect()
    }

    /// The open jobs that a job means by a name or number.
    fn named(&self, name: &str, by: &JobRow) -> Vec<JobId> {
        let numbered = name
            .parse()
            .ok()
            .and_then(|number: u64| self.numbers.get(&number));
        let named = self.names.named.get(name).into_iter().flatten();
        let theirs = |id: &JobId| {
            let other = self.jobs.get(id);
            other.is_some_and(|other| belong_together(by, &other.row))
        };
        named.chain(numbered).copied().filter(theirs).collect()
    }

    /// The nodes that a job's attempts occupy.
    fn nodes_of(&self, ids: impl IntoIterator<Item = JobId>) -> BTreeSet<NodeId> {
        let jobs = ids.into_iter().filter_map(|id| self.jobs.get(&id));
        let attempts = jobs
            .flat_map(|job| &job.attempts)
            .filter_map(|id| self.attempts.get(id));
        attempts
            .filter(|row| row.occupies())
            .map(|row| row.node)
            .collect()
    }

    /// Where others are, and its own, as far as that matters for a job's next workers.
    pub(crate) fn ties(&self, job: &Job) -> Option<Arc<Ties>> {
        let (row, needs) = (&job.row, &job.row.spec.needs);
        let tied_to = self.tied_to(row);
        if tied_to.is_empty() && !needs.is_relative() {
            return None;
        }
        let near = needs.near.iter().map(|name| self.nodes_of(self.named(name, row)));
        let near = near.reduce(|a, b| a.intersection(&b).copied().collect());
        let mut away = self.nodes_of(needs.away_from.iter().flat_map(|name| self.named(name, row)));
        let keeps_away = |id: &JobId| {
            let other = self.jobs.get(id).map(|other| &other.row.spec.needs.away_from);
            let number = row.number.to_string();
            other.is_some_and(|names| names.contains(&row.spec.name) || names.contains(&number))
        };
        away.extend(self.nodes_of(tied_to.iter().copied().filter(keeps_away)));
        let mut with: BTreeSet<String> = tied_to.iter().map(ToString::to_string).collect();
        let others = said(row).flat_map(|name| self.named(name, row));
        with.extend(others.map(|id| id.to_string()));
        Some(Arc::new(Ties {
            workers: row.spec.workers.max(),
            own: self.own(job),
            near,
            away,
            me: if with.is_empty() {
                String::new()
            } else {
                row.id.to_string()
            },
            with,
            crowded: BTreeSet::new(),
        }))
    }

    /// A job's own workers by node, if it arranges them.
    fn own(&self, job: &Job) -> BTreeMap<NodeId, u32> {
        let mut own = BTreeMap::new();
        if job.row.spec.needs.arrange == Arrange::Anyhow {
            return own;
        }
        for worker in &job.workers {
            let WorkerStage::Active(attempt) = worker.stage else {
                continue;
            };
            if let Some(row) = self.attempts.get(&attempt) {
                *own.entry(row.node).or_default() += 1;
            }
        }
        own
    }
}
