//! One change of one row: what the store keeps, what memory applies, and what undoes it.
//!
//! Problem: nothing may be answered or sent before it is durable, yet decisions later in a batch must see the
//! earlier ones. Approach: decisions change memory through [`State::apply`] at once and each application
//! returns its exact inverse; when the commit fails, the inverses are applied backwards and memory equals the
//! store again. Indexes follow from the rows and are kept here, nowhere else.

use std::sync::Arc;

use loadline_model::{AttemptId, Generation, JobId, LedgerId, NodeId, Sequence, WallTime};

use super::command::TokenId;
use super::held::Books;
use super::link::Link;
use super::node_types::{CostCounts, Receipt};
use super::order::StopReason;
use super::rows::{
    AttemptRow, Avoid, BucketRow, CeilingRow, CostRow, JobRow, JobStage, LogRow, NodeRow, OrderRow, Progress,
    ProveRow, ReportRow, Standing, TeamRow, TokenRow, UserRow, WorkerRow, WorkerStage,
};
use super::{Job, Node, State};

/// One row put (`Some`) or removed (`None`).
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A job.
    Job(JobId, Option<Arc<JobRow>>),
    /// A worker of a job.
    Worker(JobId, u32, Option<WorkerRow>),
    /// An attempt.
    Attempt(AttemptId, Option<Arc<AttemptRow>>),
    /// A node.
    Node(NodeId, Option<Arc<NodeRow>>),
    /// How far a node has got.
    Progress(NodeId, Option<Progress>),
    /// An order that is on its way.
    Order(NodeId, Generation, Option<OrderRow>),
    /// What an operator lets a node do.
    Ceiling(NodeId, Option<Arc<CeilingRow>>),
    /// A node's newest test.
    Prove(NodeId, Option<Arc<ProveRow>>),
    /// A node's last report of a test.
    Report(NodeId, Option<Arc<ReportRow>>),
    /// Up to where a node's own counts of cost are in its five-minute rows.
    Counted(NodeId, Option<Arc<CostCounts>>),
    /// What lending cost a node in a quarter of a day. Not durable: it follows from the five-minute rows.
    Costs(NodeId, WallTime, Option<CostRow>),
    /// The newest event counted of one ledger.
    Ledger(NodeId, LedgerId, Option<Sequence>),
    /// A node that a job leaves alone.
    Avoid(JobId, NodeId, Option<Avoid>),
    /// A receipt, by the event that brought it.
    Receipt(NodeId, LedgerId, Sequence, Option<Arc<Receipt>>),
    /// A person.
    User(String, Option<Arc<UserRow>>),
    /// A team.
    Team(String, Option<Arc<TeamRow>>),
    /// A person in a team: the team, then the person.
    Member(String, String, Option<()>),
    /// A token.
    Token(TokenId, Option<Arc<TokenRow>>),
    /// Five minutes of a node, by their beginning. Memory keeps only which was the last.
    Bucket(NodeId, WallTime, Arc<BucketRow>),
    /// Which five minutes of a node were the last to be kept. Not durable: it undoes `Bucket`.
    LastBucket(NodeId, Option<WallTime>),
    /// All five-minute rows that began before go.
    ForgetBuckets(WallTime),
    /// A line of the record. Memory keeps none.
    Log(LogRow),
    /// A node's connection. Not durable.
    Link(NodeId, Option<Arc<Link>>),
}

impl Change {
    /// True if the store has to keep it.
    pub const fn is_durable(&self) -> bool {
        !matches!(
            self,
            Self::Link(..)
                | Self::LastBucket(..)
                | Self::Costs(..)
                | Self::Avoid(_, _, Some(Avoid { until: Some(_), .. }))
        )
    }
}

impl State {
    /// Applies one change and returns what undoes it; nothing for a line of the record.
    ///
    /// A change of a worker, attempt or order whose job or node does not exist is dropped: the loader sets such
    /// rows aside before, and decisions never make them.
    pub(crate) fn apply(&mut self, change: &Change) -> Option<Change> {
        self.touched.note(change);
        Some(match change {
            Change::Job(id, row) => self.apply_job(*id, row.clone())?,
            Change::Worker(job, worker, row) => self.apply_worker(*job, *worker, *row)?,
            Change::Attempt(id, row) => self.apply_attempt(*id, row.clone()),
            Change::Node(id, row) => self.apply_node(*id, row.clone())?,
            Change::Progress(id, row) => {
                let node = self.nodes.get_mut(id)?;
                Change::Progress(
                    *id,
                    Some(std::mem::replace(&mut node.progress, row.unwrap_or_default())),
                )
            }
            Change::Order(id, generation, row) => {
                let orders = &mut self.nodes.get_mut(id)?.orders;
                Change::Order(*id, *generation, replace(orders, *generation, *row))
            }
            Change::Ceiling(id, row) => {
                let node = self.nodes.get_mut(id)?;
                Change::Ceiling(*id, std::mem::replace(&mut node.ceiling, row.clone()))
            }
            Change::Prove(id, row) => {
                let node = self.nodes.get_mut(id)?;
                Change::Prove(*id, std::mem::replace(&mut node.prove, row.clone()))
            }
            Change::Report(id, row) => {
                let node = self.nodes.get_mut(id)?;
                Change::Report(*id, std::mem::replace(&mut node.report, row.clone()))
            }
            Change::Counted(id, row) => {
                let node = self.nodes.get_mut(id)?;
                Change::Counted(*id, std::mem::replace(&mut node.counted, row.clone()))
            }
            Change::Costs(id, start, row) => {
                let costs = &mut self.nodes.get_mut(id)?.costs;
                Change::Costs(*id, *start, replace(costs, *start, *row))
            }
            Change::Ledger(node, ledger, row) => {
                Change::Ledger(*node, *ledger, replace(&mut self.ledgers, (*node, *ledger), *row))
            }
            Change::Avoid(job, node, row) => {
                let avoid = &mut self.jobs.get_mut(job)?.avoid;
                Change::Avoid(*job, *node, replace(avoid, *node, row.clone()))
            }
            Change::Receipt(node, ledger, sequence, row) => {
                let old = replace(&mut self.receipts, (*node, *ledger, *sequence), row.clone());
                Change::Receipt(*node, *ledger, *sequence, old)
            }
            Change::User(name, row) => {
                let old = replace(&mut self.users, name.clone(), row.clone());
                Change::User(name.clone(), old)
            }
            Change::Team(name, row) => self.apply_team(name, row.clone()),
            Change::Member(team, user, is) => self.apply_member(team, user, *is),
            Change::Token(id, row) => self.apply_token(id, row.clone()),
            Change::Bucket(id, start, _) => self.apply_last_bucket(*id, Some(*start))?,
            Change::LastBucket(id, start) => self.apply_last_bucket(*id, *start)?,
            Change::ForgetBuckets(_) | Change::Log(_) => return None,
            Change::Link(id, row) => {
                let node = self.nodes.get_mut(id)?;
                Change::Link(*id, std::mem::replace(&mut node.link, row.clone()))
            }
        })
    }

    fn apply_job(&mut self, id: JobId, row: Option<Arc<JobRow>>) -> Option<Change> {
        let is_done = |row: &JobRow| matches!(row.stage, JobStage::Done(..));
        let was = self.jobs.get(&id).map(|job| Arc::clone(&job.row));
        let newest = row.clone().or_else(|| was.clone())?;
        if was.as_deref().map(is_done) != row.as_deref().map(is_done) {
            self.index_names(&newest, row.is_some());
            self.touch_tied(&newest);
        }
        if was.is_some() != row.is_some() {
            self.index_waits(&newest, row.is_some());
        }
        if !self.dependents.is_empty() {
            for waiting in self.waiting_for(&newest) {
                self.touched.job(waiting);
            }
        }
        let old = match row {
            Some(row) => {
                self.numbers.insert(row.number, id);
                self.next_number = self.next_number.max(row.number + 1);
                match self.jobs.get_mut(&id) {
                    Some(job) => Some(std::mem::replace(&mut job.row, row)),
                    None => {
                        self.jobs.insert(id, Box::new(Job::new(row)));
                        None
                    }
                }
            }
            None => {
                let job = self.jobs.remove(&id)?;
                self.numbers.remove(&job.row.number);
                if self.next_number == job.row.number + 1 {
                    self.next_number = job.row.number;
                }
                Some(job.row)
            }
        };
        self.index_waiting(id);
        Some(Change::Job(id, old))
    }

    fn apply_worker(&mut self, id: JobId, worker: u32, row: Option<WorkerRow>) -> Option<Change> {
        let job = self.jobs.get_mut(&id)?;
        let slot = job.workers.get_mut(usize::try_from(worker).ok()?)?;
        let old = std::mem::replace(slot, row.unwrap_or_default());
        let waits = |row: &WorkerRow| u32::from(row.stage == WorkerStage::Waiting);
        job.waiting = job.waiting + waits(slot) - waits(&old);
        self.index_waiting(id);
        Some(Change::Worker(
            id,
            worker,
            (old != WorkerRow::default()).then_some(old),
        ))
    }

    fn index_waiting(&mut self, id: JobId) {
        let waits = self
            .jobs
            .get(&id)
            .is_some_and(|job| job.row.stage.is_open() && job.waiting > 0);
        if waits {
            self.queue.insert(id);
        } else {
            self.queue.remove(&id);
        }
    }

    fn apply_attempt(&mut self, id: AttemptId, row: Option<Arc<AttemptRow>>) -> Change {
        let old = replace(&mut self.attempts, id, row.clone());
        if let Some(old) = &old {
            self.account(old, Books::remove);
        }
        if let Some(row) = &row {
            self.account(row, Books::add);
        }
        self.count_yielded(old.as_deref(), row.as_deref());
        match (&old, &row) {
            (None, Some(row)) => {
                if let Some(job) = self.jobs.get_mut(&row.job) {
                    job.attempts.push(id);
                }
            }
            (Some(old), None) => {
                if let Some(job) = self.jobs.get_mut(&old.job) {
                    job.attempts.retain(|attempt| *attempt != id);
                }
            }
            _ => {}
        }
        Change::Attempt(id, old)
    }

    /// How often a job has yielded follows from its attempts.
    fn count_yielded(&mut self, old: Option<&AttemptRow>, new: Option<&AttemptRow>) {
        let yields = |row: Option<&AttemptRow>| row.is_some_and(|row| row.stop == Some(StopReason::Yielded));
        if yields(new) == yields(old) {
            return;
        }
        let job = new.or(old).and_then(|row| self.jobs.get_mut(&row.job));
        if let Some(job) = job {
            job.yielded = job.yielded + u32::from(yields(new)) - u32::from(yields(old)).min(job.yielded);
            // How long the others are left alone has changed with it.
            for worker in &job.workers {
                if let WorkerStage::Active(attempt) = worker.stage {
                    self.touched.attempt(attempt);
                }
            }
        }
    }

    /// Counts an attempt on its node, or no longer.
    fn account(&mut self, row: &AttemptRow, count: fn(&mut Books, &AttemptRow, &JobRow)) {
        if !row.occupies() {
            return;
        }
        self.touched.node(row.node);
        if let (Some(node), Some(job)) = (self.nodes.get_mut(&row.node), self.jobs.get(&row.job)) {
            count(&mut node.books, row, &job.row);
            let job = Arc::clone(&job.row);
            self.touch_tied(&job);
        }
    }

    fn apply_node(&mut self, id: NodeId, row: Option<Arc<NodeRow>>) -> Option<Change> {
        let old = match &row {
            Some(row) => match self.nodes.get_mut(&id) {
                Some(node) => {
                    node.describe(row);
                    Some(std::mem::replace(&mut node.row, Arc::clone(row)))
                }
                None => {
                    self.nodes.insert(id, Node::new(Arc::clone(row)));
                    None
                }
            },
            None => Some(self.nodes.remove(&id)?.row),
        };
        self.name_node(id, old.as_deref().and_then(name), row.as_deref().and_then(name));
        Some(Change::Node(id, old))
    }

    /// A node's name leads to it unless it is banned; mostly it stays what it is.
    fn name_node(&mut self, id: NodeId, old: Option<&str>, new: Option<&str>) {
        let leads_here = |name: &&str| self.node_names.get(*name) == Some(&id);
        let kept = old.filter(leads_here);
        if kept.is_some() && kept == new {
            return;
        }
        if let Some(old) = kept {
            self.node_names.remove(old);
        }
        if let Some(new) = new {
            self.node_names.insert(new.to_owned(), id);
        }
    }

    fn apply_last_bucket(&mut self, id: NodeId, start: Option<WallTime>) -> Option<Change> {
        let node = self.nodes.get_mut(&id)?;
        Some(Change::LastBucket(
            id,
            std::mem::replace(&mut node.last_bucket, start),
        ))
    }

    fn apply_team(&mut self, name: &str, row: Option<Arc<TeamRow>>) -> Change {
        let old = replace(&mut self.teams, name.to_owned(), row);
        Change::Team(name.to_owned(), old)
    }

    fn apply_member(&mut self, team: &str, user: &str, is: Option<()>) -> Change {
        let key = (team.to_owned(), user.to_owned());
        let was = match is {
            Some(()) => !self.members.insert(key),
            None => self.members.remove(&key),
        };
        Change::Member(team.to_owned(), user.to_owned(), was.then_some(()))
    }

    fn apply_token(&mut self, id: &TokenId, row: Option<Arc<TokenRow>>) -> Change {
        if let Some(row) = &row {
            self.secrets.insert(row.secret, id.clone());
        }
        let old = replace(&mut self.tokens, id.clone(), row.clone());
        if let (Some(old), None) = (&old, &row) {
            self.secrets.remove(&old.secret);
        }
        Change::Token(id.clone(), old)
    }
}

/// The name under which a node is known.
fn name(row: &NodeRow) -> Option<&str> {
    (row.standing != Standing::Banned).then_some(&*row.name)
}

fn replace<K: Ord, V>(map: &mut std::collections::BTreeMap<K, V>, key: K, value: Option<V>) -> Option<V> {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    }
}
