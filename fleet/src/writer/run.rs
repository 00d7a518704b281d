//! The writer's thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use loadline_model::{NodeId, Span};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::handle::{Answer, Envelope, Fleet, Outgoing, Watching};
use super::ids::RandomIds;
use super::shell::Shell;
use super::stats::{Stats, add};
use crate::clock::Clock;
use crate::state::{Batch, Command, Ids, Now, Refused, Reply, SharingRules, State};
use crate::store::{CommitError, Store, StoreError};

/// So many commands go into one commit at most (design §5).
const BATCH_MAX: usize = 256;
/// So many commands wait at most; then whoever sends waits too.
const QUEUE_MAX: usize = 4096;

/// Why the writer cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be read.
    #[error("the fleet's state cannot be loaded")]
    Load(#[source] StoreError),
    /// Rows that contradict each other could not be moved aside, or the repair could not be kept.
    #[error("the fleet's state cannot be made whole")]
    Repair(#[source] CommitError),
    /// The state breaks its own rules: starting would make it worse.
    #[error("the fleet's state contradicts itself: {0}")]
    Contradiction(String),
    /// The machine gives no thread.
    #[error("the writer's thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// The running writer. It ends when every [`Fleet`] is dropped, or when the store breaks.
#[derive(Debug)]
pub struct WriterThread {
    thread: JoinHandle<Result<(), CommitError>>,
}

impl WriterThread {
    /// Waits for its end.
    ///
    /// # Errors
    /// Why it could not go on.
    pub fn join(self) -> Result<(), CommitError> {
        self.thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Loads the state and starts the writer.
///
/// # Errors
/// When the state cannot be loaded.
pub fn start(store: Box<dyn Store>, clock: Clock) -> Result<(Fleet, WriterThread), StartError> {
    start_with(store, clock, SharingRules::default())
}

/// The same, for a fleet that is shared by rules of its own.
///
/// # Errors
/// When the state cannot be loaded.
pub fn start_with(
    mut store: Box<dyn Store>,
    clock: Clock,
    sharing: SharingRules,
) -> Result<(Fleet, WriterThread), StartError> {
    let begun = Instant::now();
    let mut ids = RandomIds;
    let mut state = load(&mut *store, read_clocks(&clock, begun), &mut ids)?;
    state.share_by(sharing);
    let (sender, queue) = mpsc::channel(QUEUE_MAX);
    let (shell, directory) = Shell::new(&state);
    let stats = Arc::new(Stats::default());
    let fleet = Fleet::new(sender, directory, Arc::clone(&stats));
    let writer = Writer {
        state,
        store,
        shell,
        stats,
        clock,
        begun,
        ids,
    };
    let thread = std::thread::Builder::new()
        .name("writer".into())
        .spawn(move || writer.run(queue))
        .map_err(StartError::Thread)?;
    Ok((fleet, WriterThread { thread }))
}

fn read_clocks(clock: &Clock, begun: Instant) -> Now {
    let mono = Span(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
    Now {
        wall: clock.now(),
        mono,
    }
}

/// Loads the state; rows that cannot be used are moved aside and named, and what follows from that is kept.
fn load(store: &mut dyn Store, now: Now, ids: &mut dyn Ids) -> Result<State, StartError> {
    let loaded = store.load().map_err(StartError::Load)?;
    let unreadable = loaded.set_aside.clone();
    for row in &unreadable {
        tracing::error!(
            row = row.row,
            why = row.why,
            "a row of the store cannot be read and was moved aside"
        );
    }
    let (mut state, dangling) = State::load(loaded);
    if !dangling.is_empty() {
        for (change, why) in &dangling {
            tracing::error!(
                ?change,
                why,
                "a row of the store refers to nothing and was moved aside"
            );
        }
        store.set_aside(&dangling).map_err(StartError::Repair)?;
    }
    if !dangling.is_empty() || !unreadable.is_empty() {
        let mut batch = Batch::default();
        state.repair(now, ids, &mut batch);
        store.commit(batch.changes()).map_err(StartError::Repair)?;
    }
    match crate::state::check::violations(&state).into_iter().next() {
        Some(violation) => Err(StartError::Contradiction(violation)),
        None => Ok(state),
    }
}

/// What the last commit was like: those whom it answered ask again at once if they are busy.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    answered: usize,
    took: Duration,
}

impl Last {
    /// How many may come together if those who wait now are joined by those who were just answered.
    fn crowd(self, waiting: usize) -> usize {
        if self.answered > 1 {
            waiting.saturating_add(self.answered).min(BATCH_MAX)
        } else {
            waiting
        }
    }

    /// How long they are waited for: a part of what a sync of their own would cost the others.
    fn patience(self) -> Duration {
        self.took / 4
    }
}

/// Those who were just answered ask again at once: while that goes on they are let in, so that they share one sync
/// instead of waiting for each other's. Someone who is alone is not kept waiting.
fn gather(queue: &mut mpsc::Receiver<Envelope>, inbox: &mut Vec<Envelope>, last: Last) {
    let (crowd, begun) = (last.crowd(inbox.len()), Instant::now());
    let mut before = 1;
    while inbox.len() < BATCH_MAX
        && (inbox.len() > before || (inbox.len() < crowd && begun.elapsed() < last.patience()))
    {
        before = inbox.len();
        std::thread::yield_now();
        take_waiting(queue, inbox);
    }
}

/// The first of those who were just answered is back before a thread that went to sleep would be awake again.
fn expect(queue: &mut mpsc::Receiver<Envelope>, inbox: &mut Vec<Envelope>, last: Last) {
    let begun = Instant::now();
    while inbox.is_empty() && last.answered > 1 && begun.elapsed() < last.patience() {
        take_waiting(queue, inbox);
        std::thread::yield_now();
    }
}

fn take_waiting(queue: &mut mpsc::Receiver<Envelope>, inbox: &mut Vec<Envelope>) {
    while inbox.len() < BATCH_MAX {
        let Ok(envelope) = queue.try_recv() else { return };
        inbox.push(envelope);
    }
}

struct Writer {
    state: State,
    store: Box<dyn Store>,
    shell: Shell,
    stats: Arc<Stats>,
    clock: Clock,
    begun: Instant,
    ids: RandomIds,
}

/// A command's answer, waiting for the commit.
struct Pending {
    answer: Answer,
    result: Result<Reply, Refused>,
    /// It changed nothing and answers nothing that could be undone.
    harmless: bool,
    opening: Option<(NodeId, mpsc::Sender<Outgoing>)>,
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Envelope>) -> Result<(), CommitError> {
        let mut inbox = Vec::with_capacity(BATCH_MAX);
        let mut last = Last::default();
        loop {
            expect(&mut queue, &mut inbox, last);
            if inbox.is_empty() && queue.blocking_recv_many(&mut inbox, BATCH_MAX) == 0 {
                return Ok(());
            }
            gather(&mut queue, &mut inbox, last);
            let (answered, begun) = (inbox.len(), Instant::now());
            let mut more = self.batch(&mut inbox)?;
            last = Last {
                answered,
                took: begun.elapsed(),
            };
            // Placement stopped at its limit: it goes on together with whatever came meanwhile.
            while more {
                take_waiting(&mut queue, &mut inbox);
                more = self.batch(&mut inbox)?;
            }
            self.store.tend(queue.is_empty());
        }
    }

    /// One group commit. True if there is more to place.
    fn batch(&mut self, inbox: &mut Vec<Envelope>) -> Result<bool, CommitError> {
        let now = read_clocks(&self.clock, self.begun);
        let mut batch = Batch::default();
        let mut pending = Vec::with_capacity(inbox.len());
        let mut looks = Vec::new();
        for envelope in inbox.drain(..) {
            match envelope {
                Envelope::Command(command, answer) => {
                    pending.push(self.decide(command, now, &mut batch, answer, None));
                }
                Envelope::Open(hello, sender, answer) => {
                    let opening = Some((hello.node, sender));
                    pending.push(self.decide(Command::Hello(hello), now, &mut batch, answer, opening));
                }
                Envelope::Read(_) | Envelope::Watch(_) => looks.push(envelope),
            }
        }
        add(&self.stats.commands, pending.len());
        self.state.settle(now, &mut self.ids, &mut batch);
        if let Some(problem) = self.state.take_planner_problem() {
            tracing::error!(problem, "a node gets no work: placement cannot tell it apart");
        }
        #[cfg(debug_assertions)]
        {
            let violations = crate::state::check::violations(&self.state);
            assert!(
                violations.is_empty(),
                "the state breaks its own rules: {violations:?}"
            );
        }
        let outcome = self.commit(&batch);
        let more = outcome.is_ok() && self.state.is_unplanned();
        match &outcome {
            Ok(()) => self.act(&batch, pending, now),
            Err(error) => self.refuse(batch, pending, error),
        }
        for look in looks {
            self.look(look, now);
        }
        match outcome {
            Err(broken @ CommitError::Broken { .. }) => Err(broken),
            _ => Ok(more),
        }
    }

    fn decide(
        &mut self,
        command: Command,
        now: Now,
        batch: &mut Batch,
        answer: Answer,
        opening: Option<(NodeId, mpsc::Sender<Outgoing>)>,
    ) -> Pending {
        let before = batch.changes().len();
        let result = self.state.step(command, now, &mut self.ids, batch);
        let harmless = batch.changes().len() == before && matches!(result, Ok(Reply::Done));
        Pending {
            answer,
            result,
            harmless,
            opening,
        }
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        if !batch.is_durable() {
            return Ok(());
        }
        let begun = Instant::now();
        let outcome = self.store.commit(batch.changes());
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.stats.commit_us.fetch_add(took, Ordering::Relaxed);
        let counter = if outcome.is_ok() {
            &self.stats.commits
        } else {
            &self.stats.commits_failed
        };
        add(counter, 1);
        if outcome.is_ok() {
            add(&self.stats.changes, batch.changes().len());
        }
        outcome
    }

    /// The batch is durable: orders first, they are what people wait for.
    fn act(&mut self, batch: &Batch, mut pending: Vec<Pending>, now: Now) {
        let mut opened = Vec::new();
        for one in &mut pending {
            if let (Some((node, sender)), Ok(Reply::Welcome { session, .. })) =
                (one.opening.take(), &one.result)
            {
                self.shell.open(node, *session, sender);
                opened.push(node);
            }
        }
        self.shell.tell(&self.state, batch.changes(), &opened, now);
        for Pending { answer, result, .. } in pending {
            // Whoever asked may have gone; the change stays.
            answer.send(result).ok();
        }
    }

    /// Nothing of the batch is durable: memory goes back to what the store holds.
    fn refuse(&mut self, batch: Batch, pending: Vec<Pending>, error: &CommitError) {
        tracing::error!(%error, commands = pending.len(), "a commit failed and was undone");
        self.state.roll_back(batch);
        for Pending {
            answer,
            result,
            harmless,
            ..
        } in pending
        {
            let result = if harmless {
                result
            } else {
                Err(Refused::StoreFull(error.to_string()))
            };
            answer.send(result).ok();
        }
    }

    fn look(&mut self, look: Envelope, now: Now) {
        match look {
            Envelope::Read(read) => read(&self.state, now),
            Envelope::Watch(watching) => self.watch(*watching, now),
            Envelope::Command(..) | Envelope::Open(..) => {}
        }
    }

    fn watch(&mut self, Watching { job, changes, answer }: Watching, now: Now) {
        let detail = self.state.job(job, now);
        if let Ok(detail) = &detail
            && !self.state.is_done(detail.summary.id)
        {
            self.shell.watch(detail.summary.id, changes);
        }
        answer.send(detail).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_waited_for_and_someone_alone_is_not() {
        let last = |answered| Last {
            answered,
            took: Duration::from_micros(400),
        };
        assert_eq!(last(1).crowd(1), 1, "alone");
        assert_eq!(last(55).crowd(45), 100);
        assert_eq!(last(200).crowd(200), BATCH_MAX);
        assert_eq!(last(55).patience(), Duration::from_micros(100));
        assert_eq!(Last::default().crowd(3), 3, "the first commit waits for nobody");
    }
}
