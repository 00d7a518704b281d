//! Staying with a job until it ends, over broken connections.
//!
//! One loop per connection takes job events, log lines and a timer as they come; when the connection breaks the
//! job goes on, and so does this, with a new connection after a random pause.

use std::collections::BTreeMap;
use std::time::Duration;

use loadline_model::{JobId, JobSpec};
use rand::RngExt;
use tokio::time::{Instant, sleep, sleep_until};

use super::Session;
use super::seen::Seen;
use crate::output::Note;
use crate::problem::Problem;
use crate::view::{AttemptView, JobRow};
use crate::wire::{CallError, Client, JobRef, JobUpdate, Kind, LogBatch, LogQuery};

/// A wait shorter than this is not worth a word.
const SILENT_WAIT: Duration = Duration::from_secs(1);
/// After the end of a job its last lines are on their way for at most so long: fleetd itself waits 10 s for a node.
const LAST_LINES: Duration = Duration::from_secs(15);
/// The first pause is at most this long, each next twice as long, never longer than the second.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// fleetd may be down for a while (an upgrade, a reboot) and the job goes on; a person has given up by then.
const PATIENCE: Duration = Duration::from_secs(600);

type Events = crate::wire::JobEvents;
type Logs = crate::wire::LogBatches;

/// How often and since when a connection is tried again.
#[derive(Debug, Default)]
pub(super) struct Patience {
    since: Option<Instant>,
    tries: u32,
}

/// True if the connection is the problem, not the request.
pub(super) fn tried_again(problem: &Problem) -> bool {
    match problem {
        Problem::Connect(error) => !matches!(
            error,
            crate::tls::ConnectError::Expired { .. } | crate::tls::ConnectError::Identity { .. }
        ),
        Problem::Call(call) => call.kind == Kind::Unreachable,
        _ => false,
    }
}

impl Patience {
    /// All is well again.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// A new connection, after pauses of random length (so that many clients do not come at once).
    pub(super) async fn connect_again(
        &mut self,
        session: &mut Session,
        job: Option<u64>,
        problem: Problem,
    ) -> Result<Client, Problem> {
        let mut last = problem;
        if self.since.is_none() {
            session.out.note(&Note::Broken {
                job,
                sentence: &last.to_string(),
            })?;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        loop {
            if since.elapsed() > PATIENCE {
                return Err(Problem::Gone {
                    job,
                    source: Box::new(last),
                });
            }
            let most = PAUSE_FIRST.saturating_mul(1 << self.tries.min(10)).min(PAUSE_MAX);
            self.tries += 1;
            sleep(rand::rng().random_range(Duration::ZERO..=most)).await;
            match session.connect().await {
                Ok(client) => return Ok(client),
                Err(problem) if tried_again(&problem) => last = problem,
                Err(problem) => return Err(problem),
            }
        }
    }
}

/// A job that is submitted here.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) id: JobId,
    pub(super) spec: JobSpec,
}

#[derive(Debug)]
enum Target {
    /// Submit it, until the fleet confirms it.
    New(Box<Submission>),
    /// It is there.
    Known(JobRef),
}

/// What is printed on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Telling {
    notes: bool,
    logs: bool,
}

/// A job that is followed, and what is known of it.
#[derive(Debug)]
pub(super) struct Follow {
    target: Target,
    telling: Telling,
    row: Option<JobRow>,
    attempts: BTreeMap<(u32, u32), &'static str>,
    waiting_told: Option<String>,
    tell_waiting_at: Option<Instant>,
    seen: Seen,
    patience: Patience,
}

/// What came next on a connection.
enum Next {
    Event(Result<Option<JobUpdate>, CallError>),
    Logs(Result<Option<LogBatch>, CallError>),
    StillWaiting,
}

impl Follow {
    /// Submits a job, prints its logs and where it stands.
    pub(super) fn of_run(submission: Submission, quiet: bool) -> Self {
        Self::new(
            Target::New(Box::new(submission)),
            Telling {
                notes: !quiet,
                logs: true,
            },
        )
    }

    /// Waits for a job that is there.
    pub(super) fn of_wait(job: JobRef, quiet: bool) -> Self {
        Self::new(
            Target::Known(job),
            Telling {
                notes: !quiet,
                logs: false,
            },
        )
    }

    fn new(target: Target, telling: Telling) -> Self {
        Self {
            target,
            telling,
            row: None,
            attempts: BTreeMap::new(),
            waiting_told: None,
            tell_waiting_at: None,
            seen: Seen::default(),
            patience: Patience::default(),
        }
    }

    /// The job's number, once the fleet has confirmed it.
    pub(super) fn number(&self) -> Option<u64> {
        self.row.as_ref().map(|row| row.job)
    }

    /// Follows the job to its end.
    pub(super) async fn until_done(&mut self, session: &mut Session) -> Result<JobRow, Problem> {
        let mut client = session.connect().await?;
        loop {
            let done = self.on_connection(session, &mut client).await;
            match done.map_err(|problem| session.judged(problem)) {
                Err(problem) if tried_again(&problem) => {
                    let job = self.number();
                    client = self.patience.connect_again(session, job, problem).await?;
                    if let (Some(job), true) = (job, self.telling.notes) {
                        session.out.note(&Note::Back { job })?;
                    }
                }
                done => return done,
            }
        }
    }

    async fn events(&mut self, client: &mut Client) -> Result<Events, CallError> {
        match &self.target {
            Target::New(submission) => client.run(submission.id, &submission.spec).await,
            Target::Known(job) => client.watch(*job).await,
        }
    }

    async fn on_connection(&mut self, session: &mut Session, client: &mut Client) -> Result<JobRow, Problem> {
        let mut events = self.events(client).await?;
        let mut logs: Option<Logs> = None;
        let mut logs_asked = false;
        loop {
            let next = tokio::select! {
                // Each branch only takes what has arrived whole: nothing is lost when another one wins.
                event = events.next() => Next::Event(event),
                batch = next_logs(&mut logs) => Next::Logs(batch),
                () = sleep_until(self.tell_waiting_at.unwrap_or_else(Instant::now)), if self.tell_waiting_at.is_some() => {
                    Next::StillWaiting
                }
            };
            match next {
                Next::Event(event) => {
                    let Some(update) = event? else {
                        return Err(CallError::ended_early().into());
                    };
                    let row = self.take(session, update)?;
                    if self.telling.logs && !logs_asked && !self.attempts.is_empty() {
                        logs_asked = true;
                        self.seen.begin_again();
                        logs = self.open_logs(session, client, &row).await?;
                    }
                    if row.is_done() {
                        self.last_lines(session, logs).await?;
                        if self.telling.logs && self.telling.notes {
                            session.out.note(&Note::Ended(&row))?;
                        }
                        return Ok(row);
                    }
                }
                Next::Logs(batch) => {
                    if !self.print_logs(session, batch)? {
                        logs = None;
                    }
                }
                Next::StillWaiting => self.tell_waiting(session, client).await?,
            }
        }
    }

    /// Notes what an event says; answers where the job stands.
    fn take(&mut self, session: &mut Session, update: JobUpdate) -> Result<JobRow, Problem> {
        self.patience.reset();
        let JobUpdate { row, changed } = update;
        if let Target::New(submission) = &self.target {
            self.target = Target::Known(submission.id.into());
            if self.telling.notes {
                session.out.note(&Note::Submitted(&row))?;
            }
        }
        for attempt in &changed {
            self.take_attempt(session, row.job, attempt)?;
        }
        match &row.waiting_for {
            Some(why) if self.waiting_told.as_ref() != Some(why) => {
                self.tell_waiting_at
                    .get_or_insert_with(|| Instant::now() + SILENT_WAIT);
            }
            Some(_) => {}
            None => self.tell_waiting_at = None,
        }
        self.row = Some(row.clone());
        Ok(row)
    }

    fn take_attempt(
        &mut self,
        session: &mut Session,
        job: u64,
        attempt: &AttemptView,
    ) -> Result<(), Problem> {
        let known = self
            .attempts
            .insert((attempt.worker, attempt.attempt), attempt.state);
        let is_news = known != Some(attempt.state) && !matches!(attempt.state, "assigned" | "starting");
        if is_news && self.telling.notes && self.telling.logs {
            session.out.note(&Note::Attempt { job, attempt })?;
        }
        Ok(())
    }

    async fn tell_waiting(&mut self, session: &mut Session, client: &mut Client) -> Result<(), Problem> {
        self.tell_waiting_at = None;
        let Some(row) = self.row.clone() else {
            return Ok(());
        };
        self.waiting_told.clone_from(&row.waiting_for);
        if !self.telling.notes || row.is_done() {
            return Ok(());
        }
        session.out.note(&Note::Waiting(&row))?;
        let why = client.explain(JobRef::from_row(&row)).await?;
        session.out.note(&Note::Explained(&why))?;
        Ok(())
    }

    async fn open_logs(
        &mut self,
        session: &mut Session,
        client: &mut Client,
        row: &JobRow,
    ) -> Result<Option<Logs>, Problem> {
        let query = LogQuery {
            job: JobRef::from_row(row),
            worker: None,
            follow: true,
            tail: None,
        };
        match client.logs(query).await {
            Ok(logs) => Ok(Some(logs)),
            Err(call) if call.kind == Kind::Unreachable => Err(call.into()),
            Err(call) => {
                session.out.note(&Note::Notice {
                    job: row.job,
                    sentence: &call.to_string(),
                })?;
                Ok(None)
            }
        }
    }

    /// Prints what came; false: there is no more.
    fn print_logs(
        &mut self,
        session: &mut Session,
        batch: Result<Option<LogBatch>, CallError>,
    ) -> Result<bool, Problem> {
        let job = self.number().unwrap_or_default();
        let many = self.row.as_ref().is_some_and(|row| row.workers_max > 1);
        match batch {
            Ok(None) => Ok(false),
            Ok(Some(batch)) => {
                for line in batch.lines.iter().filter(|line| self.seen.is_new(line)) {
                    session.out.log(line, many)?;
                }
                if let Some(sentence) = &batch.notice {
                    session.out.note(&Note::Notice { job, sentence })?;
                }
                Ok(true)
            }
            Err(call) if call.kind == Kind::Unreachable => Err(call.into()),
            Err(call) => {
                session.out.note(&Note::Notice {
                    job,
                    sentence: &call.to_string(),
                })?;
                Ok(false)
            }
        }
    }

    /// The job is over; what it wrote last may still be on its way.
    async fn last_lines(&mut self, session: &mut Session, mut logs: Option<Logs>) -> Result<(), Problem> {
        let until = Instant::now() + LAST_LINES;
        while logs.is_some() {
            match tokio::time::timeout_at(until, next_logs(&mut logs)).await {
                Ok(batch) => {
                    if !self.print_logs(session, batch)? {
                        return Ok(());
                    }
                }
                Err(_) => {
                    let job = self.number().unwrap_or_default();
                    let sentence = format!("its last lines have not arrived yet; later: `fleet logs {job}`");
                    session.out.note(&Note::Notice {
                        job,
                        sentence: &sentence,
                    })?;
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// The next lines; never, if no logs are read.
async fn next_logs(logs: &mut Option<Logs>) -> Result<Option<LogBatch>, CallError> {
    match logs {
        Some(logs) => logs.next().await,
        None => std::future::pending().await,
    }
}
