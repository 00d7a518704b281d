//! Keeps the test that the fleet ordered: has systemd start `loadline-prove.service`, looks after it, and tells the
//! reconciler what it does and what came out.
//!
//! The warden itself runs no test: its sandbox has no network to probe with, and what holds the line must not be what
//! leans on it. It starts a unit of the package by name; the order lies in a file ([`Handover`]), and so does what came
//! out. The file outlives a warden that is restarted meanwhile: the next one goes on where this one was.

use std::sync::Arc;
use std::time::Duration;

use loadline_policy::prove::Resource;
use loadline_policy::prove::ordered::{Ended, Standing};
use loadline_policy::reconcile::UnitActive;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, warn};

use super::reconciler::{Command, Doing, ProveSeen, Prover, Seen};
use crate::host::systemd::{Systemd, SystemdError};
use crate::prove::STAND_IN;
use crate::prove::flow::unit_of;
use crate::prove::handover::{Handover, HandoverError, Noted, Texts};
use crate::sentence::chain;

/// The unit that runs a test.
pub const UNIT: &str = "loadline-prove.service";
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A unit that has no process for so many looks is over or will never begin; systemd forgets how a unit ended that ended
/// well, and then tells of it as of one that has not begun.
const IDLE_LOOKS: u32 = 60;
const SIGKILL: i32 = 9;
const SILENT: &str = "it ended without a report: see `journalctl -u loadline-prove` on the node";

/// The reconciler's end of it.
#[derive(Debug)]
pub struct Keeper {
    handover: Handover,
    found: Option<Standing>,
    doings: mpsc::UnboundedSender<Doing>,
}

impl Keeper {
    /// Takes over what is noted and begins to keep it.
    pub fn start<S: Systemd>(handover: Handover, systemd: Arc<S>, commands: mpsc::Sender<Command>) -> Self {
        let (doings, orders) = mpsc::unbounded_channel();
        let noted = handover.noted().unwrap_or_else(|problem| {
            // Nobody can say which test that was; the fleet gives it up by itself.
            error!(
                error = &problem as &dyn std::error::Error,
                "the noted test is dropped"
            );
            tell_if_failed("dropping the noted test", handover.clear());
            None
        });
        let found = noted.as_ref().map(|noted| noted.standing.clone());
        let kept = Kept {
            handover: handover.clone(),
            systemd,
            commands,
            current: noted.map(Test::new),
        };
        tokio::spawn(kept.run(orders));
        Self {
            handover,
            found,
            doings,
        }
    }
}

impl Prover for Keeper {
    fn standing(&self) -> Option<Standing> {
        self.found.clone()
    }

    fn note(&self, doing: &Doing) {
        let noted = match doing {
            Doing::Begin(standing) => Ok(Noted::new(standing.clone(), false)),
            Doing::Stop(standing) => self
                .handover
                .noted()
                .map(|noted| Noted::new(standing.clone(), noted.is_none_or(|noted| noted.started))),
        };
        // What follows finds no order and says so.
        tell_if_failed(
            "noting a test",
            noted.and_then(|noted| self.handover.note(&noted)),
        );
    }

    fn go(&self, doing: Doing) {
        // Its task ends with this program only.
        let _ = self.doings.send(doing);
    }
}

fn tell_if_failed(what: &str, done: Result<(), HandoverError>) {
    if let Err(problem) = done {
        error!(error = &problem as &dyn std::error::Error, "{what}");
    }
}

/// A test that is not over.
struct Test {
    noted: Noted,
    told: Option<String>,
    idle: u32,
}

impl Test {
    const fn new(noted: Noted) -> Self {
        Self {
            noted,
            told: None,
            idle: 0,
        }
    }
}

struct Kept<S> {
    handover: Handover,
    systemd: Arc<S>,
    commands: mpsc::Sender<Command>,
    current: Option<Test>,
}

type Over = (Ended, Option<Texts>);

impl<S: Systemd> Kept<S> {
    async fn run(mut self, mut doings: mpsc::UnboundedReceiver<Doing>) {
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if self.current.is_some() {
            self.resume().await;
        }
        loop {
            // Both arms are cancel-safe: a channel and a timer.
            tokio::select! {
                doing = doings.recv() => match doing {
                    None => return,
                    Some(Doing::Begin(standing)) => {
                        self.current = Some(Test::new(Noted::new(standing, false)));
                        self.begin().await;
                    }
                    Some(Doing::Stop(standing)) => self.stop(standing).await,
                },
                _ = tick.tick(), if self.current.is_some() => self.look().await,
            }
        }
    }

    /// What an earlier warden had in hand.
    async fn resume(&mut self) {
        let Some(test) = &self.current else { return };
        match (test.noted.started, test.noted.standing.stopped_by.is_some()) {
            (false, true) => self.over((Ended::Failed(String::new()), None)).await,
            (false, false) => self.begin().await,
            (true, true) => self.end_unit().await,
            (true, false) => {}
        }
    }

    async fn begin(&mut self) {
        let Some(test) = &mut self.current else { return };
        test.noted.started = true;
        let noted = self
            .handover
            .note(&Noted::new(test.noted.standing.clone(), false));
        let started = match noted {
            Ok(()) => self
                .systemd
                .start(UNIT)
                .await
                .map_err(|problem| format!("systemd did not start {UNIT}: {}", chain(&problem))),
            Err(problem) => Err(format!("the test could not be written down: {}", chain(&problem))),
        };
        match started {
            Ok(()) => {
                let noted = test.noted.clone();
                tell_if_failed("noting that a test runs", self.handover.note(&noted));
            }
            Err(why) => {
                // Of a start that got no answer it is not known whether it runs.
                self.end_unit().await;
                self.over((Ended::Failed(why), None)).await;
            }
        }
    }

    async fn stop(&mut self, standing: Standing) {
        if let Some(test) = &mut self.current
            && test.noted.standing.run == standing.run
        {
            test.noted.standing = standing;
            self.end_unit().await;
        }
    }

    async fn end_unit(&self) {
        gone(UNIT, self.systemd.stop(UNIT).await);
    }

    /// One look at the files and at the unit.
    async fn look(&mut self) {
        self.pass_progress_on().await;
        let Some(test) = &mut self.current else { return };
        let run = test.noted.standing.run;
        let over = match self.systemd.observe(UNIT).await {
            Ok(None) => true,
            Ok(Some(state)) if state.active == UnitActive::Over => true,
            Ok(Some(state)) if state.main_pid == 0 => {
                test.idle += 1;
                test.idle >= IDLE_LOOKS
            }
            // Until it is gone the next test could not start, whatever is written down already.
            Ok(Some(_)) => {
                test.idle = 0;
                return;
            }
            Err(problem) => {
                return warn!(error = &problem as &dyn std::error::Error, "looking at {UNIT}");
            }
        };
        // After the unit: what it wrote before it ended is there now.
        match self.handover.outcome(run) {
            Ok(Some(outcome)) => self.over(outcome.ended()).await,
            Ok(None) if over => {
                self.sweep().await;
                self.over((Ended::Failed(SILENT.into()), None)).await;
            }
            Ok(None) => {}
            Err(problem) => {
                let why = format!("its report cannot be used: {}", chain(&problem));
                self.over((Ended::Failed(why), None)).await;
            }
        }
    }

    async fn pass_progress_on(&mut self) {
        let line = match self.handover.progress() {
            Ok(Some(line)) => line,
            Ok(None) => return,
            Err(problem) => return warn!(error = &problem as &dyn std::error::Error, "progress"),
        };
        let Some(test) = &mut self.current else { return };
        if test.told.as_ref() == Some(&line) {
            return;
        }
        test.told = Some(line.clone());
        let run = test.noted.standing.run;
        // Told again with the next line, if it is lost.
        self.say(run, Seen::Running(line)).await;
    }

    /// Tells how it ended. Only what is durable there is forgotten here; until then the next look tells it.
    async fn over(&mut self, (ended, texts): Over) {
        let Some(test) = &self.current else { return };
        let run = test.noted.standing.run;
        if self.say(run, Seen::Over(ended, texts)).await {
            tell_if_failed("clearing up after a test", self.handover.clear());
            self.current = None;
        }
    }

    async fn say(&self, run: loadline_model::ProveId, seen: Seen) -> bool {
        let (reply, answer) = oneshot::channel();
        let command = Command::Proved(ProveSeen { run, seen, reply });
        self.commands.send(command).await.is_ok() && answer.await.is_ok()
    }

    /// A test that was killed could take nothing away itself. systemd would end it all, but only by its time.
    async fn sweep(&self) {
        for unit in Resource::ALL
            .map(unit_of)
            .iter()
            .map(String::as_str)
            .chain([STAND_IN])
        {
            gone(unit, self.systemd.kill(unit, SIGKILL).await);
            gone(unit, self.systemd.stop(unit).await);
        }
    }
}

/// Gone already is what was wanted.
fn gone(unit: &str, done: Result<(), SystemdError>) {
    match done {
        Ok(()) | Err(SystemdError::NoSuchUnit { .. }) => {}
        Err(problem) => warn!(unit, error = &problem as &dyn std::error::Error, "ending"),
    }
}

#[cfg(test)]
mod tests;
