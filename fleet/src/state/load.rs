//! From what a store holds to a state: rows that contradict each other are set aside by name, the rest loads.

use std::sync::Arc;

use loadline_model::{AttemptId, JobId, NodeId};

use super::State;
use super::change::Change;
use super::command::Now;
use super::rows::{AttemptRow, OrderRow, OrderWhat, Standing, WorkerRow, WorkerStage};
use super::shared::Shared;
use super::tx::{Batch, Ids, Tx};

/// What a store holds.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The leader's term that begins now.
    pub epoch: u64,
    /// What the store is, for people.
    pub note: String,
    /// The highest job number ever given.
    pub last_number: u64,
    /// Every row, each as the change that puts it. Rows that others refer to come first.
    pub rows: Vec<Change>,
    /// What many of the rows have in common: they hold it together.
    pub shared: Shared,
    /// What the store itself could not read.
    pub set_aside: Vec<SetAside>,
}

/// A row that could not be used. It was moved out of its table and kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// The table and the key.
    pub row: String,
    /// What is wrong with it.
    pub why: String,
}

impl State {
    /// Builds the state from what a store holds. Rows that refer to rows that are not there come back: the
    /// store is to set them aside too.
    pub fn load(loaded: Loaded) -> (Self, Vec<(Change, String)>) {
        let Loaded {
            epoch,
            note,
            last_number,
            rows,
            shared,
            set_aside,
        } = loaded;
        let mut state = Self {
            epoch,
            next_number: last_number + 1,
            shared,
            ..Self::default()
        };
        state.touched.past();
        let mut dangling = Vec::new();
        for change in rows {
            match state.refers_to_nothing(&change) {
                Some(why) => dangling.push((change, why)),
                None => {
                    state.apply(&change);
                }
            }
        }
        let aside = set_aside.len() + dangling.len();
        state.store_note = if aside == 0 {
            note
        } else {
            format!("{note}, {aside} rows set aside")
        };
        (state, dangling)
    }

    /// The attempts that occupy a node.
    pub(crate) fn attempts_on(&self, id: NodeId) -> Vec<Arc<AttemptRow>> {
        let on_it = self
            .nodes
            .get(&id)
            .into_iter()
            .flat_map(|node| &node.books.attempts);
        on_it
            .filter_map(|attempt| self.attempts.get(attempt))
            .cloned()
            .collect()
    }

    /// The orders about an attempt that are on their way.
    pub(crate) fn pending(&self, id: NodeId, attempt: AttemptId) -> Vec<OrderWhat> {
        let orders = self
            .nodes
            .get(&id)
            .into_iter()
            .flat_map(|node| node.orders.values());
        orders
            .filter(|order| order.attempt == attempt)
            .map(|order| order.what)
            .collect()
    }

    fn refers_to_nothing(&self, change: &Change) -> Option<String> {
        let job = |id: &JobId| (!self.jobs.contains_key(id)).then(|| format!("its job {id} is not there"));
        let node =
            |id: &NodeId| (!self.nodes.contains_key(id)).then(|| format!("its node {id} is not there"));
        let attempt = |id: &AttemptId| {
            (!self.attempts.contains_key(id)).then(|| format!("its attempt {id} is not there"))
        };
        match change {
            Change::Attempt(_, Some(row)) => job(&row.job).or_else(|| node(&row.node)).or_else(|| {
                let known = self.jobs.get(&row.job).and_then(|job| job.worker(row.worker));
                known
                    .is_none()
                    .then(|| format!("its job has no worker {}", row.worker))
            }),
            Change::Worker(id, worker, _) => job(id).or_else(|| {
                let known = self.jobs.get(id).and_then(|job| job.worker(*worker));
                known.is_none().then(|| format!("its job has no worker {worker}"))
            }),
            Change::Order(id, _, Some(order)) => node(id).or_else(|| attempt(&order.attempt)),
            Change::Progress(id, _) | Change::LastBucket(id, _) | Change::Ceiling(id, _) => node(id),
            Change::Counted(id, _) | Change::Costs(id, ..) => node(id),
            Change::Prove(id, _) | Change::Report(id, _) => node(id),
            Change::Avoid(id, other, _) => job(id).or_else(|| node(other)),
            Change::Member(team, user, Some(())) => {
                let there = self.teams.contains_key(team) && self.users.contains_key(user);
                (!there).then(|| format!("there is no team {team}, or nobody called {user}"))
            }
            _ => None,
        }
    }

    /// Makes the state whole again after rows were set aside, as one more batch of changes.
    pub fn repair(&mut self, now: Now, ids: &mut dyn Ids, batch: &mut Batch) {
        Tx {
            state: self,
            now,
            ids,
            batch,
        }
        .repair();
    }
}

impl Tx<'_> {
    fn repair(&mut self) {
        let nodes: Vec<NodeId> = self.state.nodes.keys().copied().collect();
        for id in nodes {
            self.repair_orders(id);
        }
        let jobs: Vec<JobId> = self.state.jobs.keys().copied().collect();
        for id in jobs {
            let Some(job) = self.state.jobs.get(&id) else {
                continue;
            };
            let attempts: Vec<Arc<AttemptRow>> = job
                .attempts
                .iter()
                .filter_map(|id| self.state.attempts.get(id))
                .cloned()
                .collect();
            for (index, worker) in (0u32..).zip(job.workers.clone()) {
                self.repair_worker(id, index, worker, &attempts);
            }
        }
    }

    /// Generations never go back, and an attempt on its way has its orders: both follow from the attempts.
    fn repair_orders(&mut self, id: NodeId) {
        let Some(node) = self
            .state
            .nodes
            .get(&id)
            .filter(|node| node.row.standing != Standing::Banned)
        else {
            return;
        };
        let mut progress = node.progress;
        let newest = node.orders.keys().next_back().copied().unwrap_or_default();
        let said = node
            .ceiling
            .as_ref()
            .map(|row| row.generation)
            .max(node.prove.as_ref().map(|row| row.generation))
            .unwrap_or_default();
        let of_attempts = self.state.attempts.values().filter(|row| row.node == id);
        let generation = of_attempts
            .map(|row| row.generation)
            .max()
            .unwrap_or_default()
            .max(newest)
            .max(said);
        if progress.generation < generation {
            progress.generation = generation;
            self.put_progress(id, progress);
        }
        let on_it: Vec<Arc<AttemptRow>> = self.state.attempts_on(id);
        for row in on_it {
            let pending = self.state.pending(id, row.id);
            if row.generation > progress.applied && !pending.contains(&OrderWhat::Start) {
                let order = OrderRow {
                    epoch: self.state.epoch,
                    issued_at: row.assigned_at,
                    attempt: row.id,
                    what: OrderWhat::Start,
                };
                self.put(Change::Order(id, row.generation, Some(order)));
            }
            let stops = pending.iter().any(|what| matches!(what, OrderWhat::Stop(_)));
            if let Some(why) = row.stop.filter(|_| !stops) {
                self.put_attempt(AttemptRow {
                    stop: None,
                    ..(*row).clone()
                });
                self.order_stop(row.id, why);
            }
        }
    }

    /// A worker without its row follows from its newest attempt, so that nothing runs twice. One whose attempt
    /// cannot be read has failed: whether it ran, and where, nobody knows.
    fn repair_worker(&mut self, job: JobId, index: u32, worker: WorkerRow, attempts: &[Arc<AttemptRow>]) {
        let newest = attempts
            .iter()
            .filter(|row| row.worker == index)
            .max_by_key(|row| row.number);
        match (worker.stage, newest) {
            (WorkerStage::Waiting, Some(row)) if worker == WorkerRow::default() => {
                let active = WorkerRow {
                    attempts: row.number,
                    retries_used: 0,
                    stage: WorkerStage::Active(row.id),
                };
                self.log("worker_repaired", "fleet", job, index);
                self.put_worker(job, index, active);
                if let Some(ended) = row.ended() {
                    self.worker_ended(row, ended);
                }
            }
            (WorkerStage::Active(id), _) if !self.state.attempts.contains_key(&id) => {
                self.log("attempt_unreadable", "fleet", job, id);
                self.lost_record(job, index, worker);
            }
            _ => {}
        }
    }
}
