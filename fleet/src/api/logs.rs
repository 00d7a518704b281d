//! What a job's workers wrote, read from their nodes.
//!
//! Logs stay on the nodes. A node that cannot be reached is said in a notice, with the time since when, and not
//! guessed about. While following, a broken stream is taken up again at its cursor.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use loadline_model::{AttemptId, AttemptPhase, EndReason, JobPhase};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use super::Edge;
use super::call::Call;
use super::failure::Failure;
use crate::session::{LogLines, LogStart};
use crate::state::{AttemptView, JobDetail, JobRef};

/// A node that is connected answers at once; its disk may be busy.
const ANSWER_WAIT: Duration = Duration::from_secs(15);
/// How long after an attempt's end its last lines may still come.
const LAST_LINES_WAIT: Duration = Duration::from_secs(10);
/// So many pieces may wait for the reader.
const PARTS_MAX: usize = 16;

/// What of a job's output is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// None: of all.
    pub(crate) worker: Option<u32>,
    /// Go on until the job is done.
    pub(crate) follow: bool,
    /// Only so many lines of each attempt.
    pub(crate) tail: Option<u32>,
}

/// A piece of it.
#[derive(Debug, Default)]
pub(crate) struct LogPart {
    pub(crate) worker: u32,
    pub(crate) attempt_number: u32,
    pub(crate) lines: LogLines,
    /// For standard error.
    pub(crate) notice: String,
}

type Parts = mpsc::Sender<Result<LogPart, Failure>>;

/// The reader has gone.
struct Gone;

impl Edge {
    pub(super) fn read_logs(
        self: &Arc<Self>,
        call: &Call,
        detail: JobDetail,
        wanted: Wanted,
    ) -> ReceiverStream<Result<LogPart, Failure>> {
        let (parts, stream) = mpsc::channel(PARTS_MAX);
        let (edge, mut drain) = (self.clone(), call.drain.clone());
        tokio::spawn(async move {
            let reading = async {
                if wanted.follow {
                    follow_job(&edge, detail, wanted, &parts).await
                } else {
                    read_job(&edge, detail, wanted, &parts).await
                }
            };
            // Whatever is dropped here cancels its requests at the nodes.
            let drained = tokio::select! {
                _ = reading => false,
                () = parts.closed() => false,
                // The guard that `wait_for` answers must not live across an await.
                drained = async { drain.wait_for(|drain| *drain).await.is_ok() } => drained,
            };
            if drained {
                parts.send(Err(Failure::draining())).await.ok();
            }
        });
        ReceiverStream::new(stream)
    }
}

/// Has this attempt ever been on its node, so that there can be output?
fn ran(attempt: &AttemptView) -> bool {
    let refused = |reason: EndReason| matches!(reason, EndReason::Refused { .. });
    match &attempt.ended {
        Some(ended) => !refused(ended.reason),
        None => attempt.phase != AttemptPhase::Assigned,
    }
}

async fn read_job(edge: &Arc<Edge>, detail: JobDetail, wanted: Wanted, parts: &Parts) -> Result<(), Gone> {
    let mut attempts: Vec<AttemptView> = detail.attempts.into_iter().filter(ran).collect();
    attempts.retain(|attempt| wanted.worker.is_none_or(|worker| worker == attempt.worker));
    attempts.sort_by_key(|attempt| (attempt.worker, attempt.number));
    for attempt in attempts {
        // Nothing more will come: the end of what is there now is the end.
        let (_ended, is_ended) = watch::channel(true);
        let source = Source {
            edge: edge.clone(),
            attempt,
            tail: wanted.tail,
            follow: false,
            is_ended,
        };
        source.read(parts).await?;
    }
    Ok(())
}

async fn follow_job(edge: &Arc<Edge>, detail: JobDetail, wanted: Wanted, parts: &Parts) -> Result<(), Gone> {
    let job = JobRef::Id(detail.summary.id);
    let mut known: HashMap<AttemptId, watch::Sender<bool>> = HashMap::new();
    let mut readers = JoinSet::new();
    loop {
        let watched = match edge.fleet.watch_job(job).await {
            Ok(watched) => watched,
            Err(refused) => return parts.send(Err(Failure::from(refused))).await.map_err(|_| Gone),
        };
        let (mut phase, mut attempts) = (watched.detail.summary.phase, watched.detail.attempts);
        let mut changes = watched.changes;
        loop {
            for attempt in attempts {
                if wanted.worker.is_some_and(|worker| worker != attempt.worker) || !ran(&attempt) {
                    continue;
                }
                let over = attempt.ended.is_some();
                let ended = known.entry(attempt.id).or_insert_with(|| {
                    let (ended, is_ended) = watch::channel(over);
                    let (edge, tail) = (edge.clone(), wanted.tail);
                    let source = Source {
                        edge,
                        attempt,
                        tail,
                        follow: true,
                        is_ended,
                    };
                    let parts = parts.clone();
                    readers.spawn(async move { source.read(&parts).await });
                    ended
                });
                ended.send_replace(over);
            }
            if matches!(phase, JobPhase::Done(_)) {
                while let Some(read) = readers.join_next().await {
                    if matches!(read, Ok(Err(Gone))) {
                        return Err(Gone);
                    }
                }
                return Ok(());
            }
            // Too slow for the changes: watch again from the state.
            let Some(change) = changes.recv().await else { break };
            (phase, attempts) = (change.summary.phase, change.changed);
        }
    }
}

/// One attempt's output.
struct Source {
    edge: Arc<Edge>,
    attempt: AttemptView,
    tail: Option<u32>,
    follow: bool,
    is_ended: watch::Receiver<bool>,
}

/// Why reading from a node stopped.
enum Stopped {
    AllRead,
    Broken,
    NoAnswer,
}

impl Source {
    async fn read(mut self, parts: &Parts) -> Result<(), Gone> {
        let mut cursor: Option<String> = None;
        let mut said = false;
        loop {
            let start = LogStart {
                attempt: self.attempt.id,
                follow: self.follow,
                tail: self.tail.filter(|_| cursor.is_none()),
                after: cursor.clone(),
            };
            let stopped = match self.edge.sessions.read_logs(self.attempt.node, start) {
                Ok(mut reader) => self.drink(&mut reader, &mut cursor, parts).await?,
                Err(_) => {
                    if !said {
                        self.notice(parts, self.unreachable().await).await?;
                        said = true;
                    }
                    if !self.follow {
                        return Ok(());
                    }
                    self.edge.sessions.connected(self.attempt.node).await;
                    continue;
                }
            };
            match stopped {
                Stopped::AllRead => return Ok(()),
                Stopped::Broken => {}
                Stopped::NoAnswer => {
                    let name = &self.attempt.node_name;
                    let text = format!(
                        "node {name} does not answer: lines may be missing here, and stay there; try `fleet logs` later"
                    );
                    return self.notice(parts, text).await;
                }
            }
        }
    }

    async fn drink(
        &mut self,
        reader: &mut crate::session::LogReader,
        cursor: &mut Option<String>,
        parts: &Parts,
    ) -> Result<Stopped, Gone> {
        loop {
            let Ok(chunk) = self.next(reader).await else {
                return Ok(Stopped::NoAnswer);
            };
            let Some(chunk) = chunk else {
                return Ok(Stopped::Broken);
            };
            if !chunk.cursor.is_empty() {
                *cursor = Some(chunk.cursor);
            }
            let part = LogPart {
                lines: chunk.lines,
                ..self.part(chunk.error)
            };
            if !part.lines.0.is_empty() || !part.notice.is_empty() {
                parts.send(Ok(part)).await.map_err(|_| Gone)?;
            }
            if chunk.end {
                return Ok(Stopped::AllRead);
            }
        }
    }

    /// The next chunk. A living attempt may be silent for ever; one that has ended, or whose output is only read
    /// as far as it goes, may not.
    async fn next(
        &mut self,
        reader: &mut crate::session::LogReader,
    ) -> Result<Option<crate::session::LogChunk>, tokio::time::error::Elapsed> {
        if !self.follow {
            return timeout(ANSWER_WAIT, reader.next()).await;
        }
        if !*self.is_ended.borrow() {
            // Both arms are cancel-safe.
            tokio::select! {
                chunk = reader.next() => return Ok(chunk),
                _ = self.is_ended.wait_for(|ended| *ended) => {}
            }
        }
        timeout(LAST_LINES_WAIT, reader.next()).await
    }

    fn part(&self, notice: String) -> LogPart {
        let AttemptView { worker, number, .. } = self.attempt;
        LogPart {
            worker,
            attempt_number: number,
            lines: LogLines::default(),
            notice,
        }
    }

    async fn notice(&self, parts: &Parts, text: String) -> Result<(), Gone> {
        parts.send(Ok(self.part(text))).await.map_err(|_| Gone)
    }

    async fn unreachable(&self) -> String {
        let name = self.attempt.node_name.clone();
        let wanted = name.clone();
        let node = self
            .edge
            .fleet
            .read(move |state, now| state.node(&wanted, now))
            .await;
        let since = match node {
            Ok(Ok(node)) => node.summary.last_seen,
            _ => None,
        };
        let since = since.and_then(|at| Timestamp::from_microsecond(at.0).ok());
        match since {
            Some(at) => format!("node {name} cannot be reached since {at:.0}; its logs stay there"),
            None => format!("node {name} cannot be reached; its logs stay there"),
        }
    }
}
