//! Watches what production uses, for the firm line: looks every five seconds, keeps what
//! [`loadline_policy::week`] makes of them, and tells the reconciler.
//!
//! A task beside the reconciler, at its own pace: the headroom loop's look allocates nothing, and this one need not be
//! in time. What is known goes to the reconciler and to the disk every five minutes, as often as a percentile of a week
//! may be expected to move, and once more at an orderly end; a warden that is killed loses so much. The history is this
//! node's own. The fleet has samples of eight days too, but the node must hold its line with the fleet gone.

pub mod file;

use std::path::PathBuf;
use std::time::Duration;

use loadline_model::Span;
use loadline_policy::week::{Capacity, Known, Look, Week};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::reconciler::{Command, Node};
use crate::host::clock::Clock;
use crate::host::production::{self, Usage};
use crate::host::root::HostRoot;
use crate::sentence::chain;

const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Of these looks.
const SAVE_EVERY: u32 = 60;

/// How far the watch has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watched {
    /// What is known, as the reconciler was told.
    pub known: Known,
    /// How much of the week was watched.
    pub over: Span,
    /// Why it is not on the disk, if it could not be written last.
    pub unsaved: Option<String>,
}

/// What it needs.
#[derive(Debug)]
pub struct Watch<C> {
    /// The machine.
    pub root: HostRoot,
    /// The clock.
    pub clock: C,
    /// Where it is kept.
    pub path: PathBuf,
    /// All there is.
    pub capacity: Capacity,
    /// As it was kept.
    pub week: Week,
    /// Who is told.
    pub commands: mpsc::Sender<Command>,
}

/// All there is on a node.
pub fn capacity(node: &Node) -> Capacity {
    Capacity {
        cpu: node.line.cpu.capacity,
        memory: node.line.memory.capacity,
    }
}

/// The running watch. It ends with this value; what came since it was last saved is lost then.
#[derive(Debug)]
pub struct Watching {
    watched: watch::Receiver<Watched>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Watching {
    /// Begins to watch.
    pub fn start<C: Clock>(watch: Watch<C>) -> Self {
        let now = Watched {
            known: watch.week.known(),
            over: watch.week.watched(),
            unsaved: None,
        };
        let (tell, watched) = watch::channel(now);
        let (stop, stopped) = oneshot::channel();
        let last = (watch.clock.monotonic(), production::usage(&watch.root));
        let turning = Turning { watch, last, tell };
        Self {
            watched,
            stop: Some(stop),
            task: tokio::spawn(turning.turn(stopped)),
        }
    }

    /// How far it has come, now and from now on.
    pub fn watched(&self) -> watch::Receiver<Watched> {
        self.watched.clone()
    }

    /// Ends it in order, with everything saved.
    pub async fn end(mut self) {
        // It may have ended by itself, in a panic: there is nothing more to save then.
        if let Some(stop) = self.stop.take()
            && stop.send(()).is_ok()
            && (&mut self.task).await.is_err()
        {
            warn!("the watch over production's week ended in a panic; what came since it was saved is lost");
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Turning<C> {
    watch: Watch<C>,
    last: (Span, Usage),
    tell: watch::Sender<Watched>,
}

impl<C: Clock> Turning<C> {
    async fn turn(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = 0;
        loop {
            // Both arms are cancel-safe: a channel and a timer.
            tokio::select! {
                _ = &mut stopped => return self.save().await,
                _ = tick.tick() => {
                    self.look();
                    looks += 1;
                    if looks % SAVE_EVERY == 0 {
                        self.tell().await;
                        self.save().await;
                    }
                }
            }
        }
    }

    fn look(&mut self) {
        let (usage, now) = (production::usage(&self.watch.root), self.watch.clock.monotonic());
        let (then, before) = std::mem::replace(&mut self.last, (now, usage));
        // A test of ours presses production, or stands in for it: that is not what it needs.
        if production::is_tested(&self.watch.root) {
            return;
        }
        let over = now.minus(then);
        let rates = production::cpu_rates(&before, &usage, over);
        let look = Look {
            over,
            cpu: rates.map(|rates| rates.production),
            memory: usage.memory_production,
        };
        self.watch.week.see(&self.watch.capacity, &look);
    }

    async fn tell(&mut self) {
        let (known, over) = (self.watch.week.known(), self.watch.week.watched());
        let before = self.tell.borrow().known;
        self.tell
            .send_modify(|told| (told.known, told.over) = (known, over));
        if known == before {
            return;
        }
        if (before.cpu, before.memory) == (None, None) {
            info!(
                ?known,
                "a day of production's use is known; the firm line goes by it"
            );
        }
        // Without a reconciler this program is about to end.
        let _ = self.watch.commands.send(Command::Week(known)).await;
    }

    /// On a thread of its own: a disk that is busy with production's work may keep it for seconds.
    async fn save(&mut self) {
        let (path, kept) = (self.watch.path.clone(), self.watch.week.kept());
        let saved = spawn_blocking(move || file::save(&path, &kept)).await;
        let unsaved = match saved {
            Ok(Ok(())) => None,
            Ok(Err(problem)) => Some(chain(&problem)),
            Err(_) => Some("writing it ended in a panic".into()),
        };
        if let Some(problem) = &unsaved {
            warn!(
                problem,
                "production's week is not saved; it is tried again in five minutes"
            );
        }
        self.tell.send_modify(|told| told.unsaved = unsaved);
    }
}

#[cfg(test)]
mod tests;
