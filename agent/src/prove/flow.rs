//! The test itself: round after round, with an antagonist or without, watched every second, and nothing left behind.
//!
//! Touches one transient unit among burst work at a time. Whatever ends a round (its end, danger, a signal, an error),
//! its antagonist is killed before anything else is done; if this process dies, systemd ends the unit by its time limit.

use std::collections::BTreeMap;
use std::time::Duration;

use loadline_model::{Bytes, MilliCpu, Span};
use loadline_policy::prove::danger::{Second, Watch};
use loadline_policy::prove::estimate::{Ratio, median, on_time};
use loadline_policy::prove::plan::{Step, WARM_UP};
use loadline_policy::prove::room::{Allowance, Room, allowance};
use loadline_policy::prove::{Resource, Side};
use loadline_policy::reconcile::UnitActive;
use loadline_policy::settings::Slice;
use tokio::sync::watch;

use super::antagonist;
use super::probe::{Heard, Measured, Prober, RoundAsk, Target};
use crate::host::cgroup::CgroupFs;
use crate::host::clock::Clock;
use crate::host::root::HostRoot;
use crate::host::systemd::Systemd;
use crate::host::systemd::aside::{Aside, AsideUnit, Place};
use crate::host::trial::{burst_cgroup, kill_now};
use crate::sentence::chain;

/// What an antagonist lives longer than its round at most, from when it runs: for the last answers and its end.
const SPARE_LIFE: Span = Span::from_secs(15);
/// The probe speaks every second; silent for so long, it is gone.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a killed unit may take to be gone: dying needs CPU.
const GONE_LIMIT: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const SIGKILL: i32 = 9;

/// What is looked at besides the probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// What the line leaves.
    pub room: Room,
    /// How long production has waited for memory since boot.
    pub memory_full: Option<Span>,
}

/// Looks at the machine.
pub trait Watcher: Send {
    /// One look.
    fn look(&mut self) -> Look;
}

/// The world of a test.
#[derive(Debug)]
pub struct Outside<'a, S, P, W, C> {
    /// systemd.
    pub systemd: &'a S,
    /// Production's probe.
    pub prober: P,
    /// The machine.
    pub watcher: W,
    /// Time.
    pub clock: C,
    /// To read what antagonists used.
    pub cgroups: CgroupFs,
    /// Where kernel files are.
    pub root: HostRoot,
    /// Says why to stop, once there is a reason.
    pub stop: watch::Receiver<Option<&'static str>>,
    /// Told what happens.
    pub tell: fn(&str),
}

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Task {
    /// The rounds.
    pub steps: Vec<Step>,
    /// Length of one.
    pub round: Span,
    /// The end of everything.
    pub limit: Span,
    /// What is probed.
    pub target: Target,
    /// How often a second.
    pub rate: u32,
    /// Of the instants.
    pub seed: u64,
    /// No warden holds the line: antagonists get the line of now as a quota of their own.
    pub hold_line: bool,
    /// This program.
    pub program: String,
}

/// What an antagonist used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// CPU time.
    pub cpu_time: Option<Span>,
    /// The most memory.
    pub memory_peak: Option<Bytes>,
}

/// One round that came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// Which.
    pub step: Step,
    /// What the probe saw.
    pub measured: Measured,
    /// Why it does not count.
    pub discarded: Option<String>,
    /// What the antagonist used.
    pub work: Work,
}

/// How a test went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// All rounds that came to their end.
    pub rounds: Vec<Round>,
    /// Resources that could not be tried, and why.
    pub not_measured: BTreeMap<Resource, String>,
    /// Why it was stopped before its end.
    pub aborted: Option<String>,
    /// Lent work of this resource brought production into danger.
    pub harmful: Option<Resource>,
    /// What could not be taken away, and what to do about it.
    pub left_behind: Vec<String>,
}

/// How a round ended.
enum End {
    Over(Box<Round>),
    NotMeasurable(String),
    Stopped { why: String, danger: bool },
}

/// The unit of an antagonist.
pub fn unit_of(resource: Resource) -> String {
    format!("loadline-prove-{resource}.service")
}

/// Runs the test.
pub async fn run<S, P, W, C>(outside: Outside<'_, S, P, W, C>, task: &Task) -> Outcome
where
    S: Systemd + Aside,
    P: Prober,
    W: Watcher,
    C: Clock,
{
    let begun = outside.clock.monotonic();
    let mut flow = Flow {
        deadline: begun.plus(task.limit),
        outside,
        task,
        alone: Vec::new(),
        left_behind: Vec::new(),
    };
    let mut outcome = Outcome::default();
    for step in &task.steps {
        if outcome.not_measured.contains_key(&step.resource) {
            continue;
        }
        match flow.round(*step).await {
            End::Over(round) => outcome.rounds.push(*round),
            End::NotMeasurable(why) => {
                (flow.outside.tell)(&format!("{}: not measured: {why}", step.resource));
                outcome.not_measured.insert(step.resource, why);
            }
            End::Stopped { why, danger } => {
                (flow.outside.tell)(&format!("stopped: {why}"));
                outcome.harmful = (danger && step.side == Side::Lent).then_some(step.resource);
                outcome.aborted = Some(why);
            }
        }
        if outcome.aborted.is_some() {
            break;
        }
    }
    outcome.left_behind = flow.left_behind;
    outcome
}

struct Flow<'a, S, P, W, C> {
    outside: Outside<'a, S, P, W, C>,
    task: &'a Task,
    deadline: Span,
    /// The p99 of every round alone.
    alone: Vec<Span>,
    left_behind: Vec<String>,
}

impl<S: Systemd + Aside, P: Prober, W: Watcher, C: Clock> Flow<'_, S, P, W, C> {
    async fn round(&mut self, step: Step) -> End {
        if step.side == Side::Alone {
            return self.listen(step).await;
        }
        if self.alone.is_empty() {
            let why =
                "production alone was not measured, and nothing is lent without a mark to stop at".into();
            return End::Stopped { why, danger: false };
        }
        let room = self.outside.watcher.look().room;
        let given = match allowance(step.resource, &room) {
            Ok(given) => given,
            Err(why) => return End::NotMeasurable(why),
        };
        let unit = self.antagonist(step.resource, given, room.cpu);
        let mut stop = self.outside.stop.clone();
        let end = tokio::select! {
            started = self.outside.systemd.start_aside(&unit) => match started {
                Ok(true) => None,
                Ok(false) => Some(End::NotMeasurable(format!(
                    "its unit did not start: see `journalctl -u {}`", unit.name
                ))),
                Err(error) => Some(End::NotMeasurable(format!("its unit was not started: {}", chain(&error)))),
            },
            // Cancel safe: a start under way is undone below, as any other.
            why = told(&mut stop) => Some(End::Stopped { why, danger: false }),
        };
        let mut end = match end {
            Some(end) => end,
            None => self.listen(step).await,
        };
        if let End::Over(round) = &mut end {
            self.see_work(&unit.name, round).await;
        }
        self.take_away(&unit.name).await;
        end
    }

    fn antagonist(&self, resource: Resource, given: Allowance, line: MilliCpu) -> AsideUnit {
        let life = WARM_UP.plus(self.task.round).plus(SPARE_LIFE);
        let Allowance {
            threads,
            amount,
            memory_max,
        } = given;
        AsideUnit {
            name: unit_of(resource),
            description: format!("Interference test of Loadline: {resource}"),
            argv: antagonist::Arguments::argv(&self.task.program, resource, threads, amount, life),
            place: Place::Lent {
                slice: Slice::Burst,
                memory_max,
                cpu_quota: self.task.hold_line.then_some(line),
            },
            life,
        }
    }

    /// Probes one round and watches it.
    async fn listen(&mut self, step: Step) -> End {
        let side = u64::from(step.side == Side::Lent);
        // A pair's sides get different instants: the same ones could beat with something on the machine.
        let seed = self.task.seed.wrapping_add(u64::from(step.pair) * 2 + side);
        let mut heard = self.outside.prober.begin(RoundAsk {
            target: self.task.target.clone(),
            rate: self.task.rate,
            seed,
            warm_up: WARM_UP,
            length: self.task.round,
        });
        let look = self.outside.watcher.look();
        let mut guard = Watch::new(step.side, middle(&self.alone), look.room.memory_headroom);
        let mut stop = self.outside.stop.clone();
        let stopped = |why: String| End::Stopped { why, danger: false };
        loop {
            let next = tokio::select! {
                // Cancel safe: what was not received stays in the channel.
                next = tokio::time::timeout(SILENCE, heard.recv()) => next,
                // Cancel safe: the reason stays.
                why = told(&mut stop) => return stopped(why),
            };
            match next {
                Ok(Some(Heard::Second(seen))) => {
                    let look = self.outside.watcher.look();
                    let danger = guard.look(&Second {
                        p99: seen.p99,
                        requests: seen.requests,
                        errors: seen.errors,
                        memory_available: look.room.memory_available,
                        memory_full: look.memory_full,
                    });
                    if let Some(danger) = danger {
                        let (why, danger) = (danger.to_string(), true);
                        return End::Stopped { why, danger };
                    }
                    if self.outside.clock.monotonic() >= self.deadline {
                        return stopped(format!("the limit of {} was reached", self.task.limit));
                    }
                }
                Ok(Some(Heard::Done(measured))) => return End::Over(Box::new(self.judge(step, measured))),
                Ok(Some(Heard::Failed(why))) => {
                    return stopped(format!("production could not be probed: {why}"));
                }
                Ok(None) | Err(_) => return stopped("the probe fell silent".into()),
            }
        }
    }

    fn judge(&mut self, step: Step, measured: Measured) -> Round {
        let discarded = match measured.quantile(990) {
            None => Some("no request was answered".to_owned()),
            Some(p99) if !on_time(measured.lateness_p99, p99, measured.served_p99) => Some(format!(
                "the probe itself was too late: p99 {} us, and the service's p99 was {} us, {} without it",
                measured.lateness_p99.0, p99.0, measured.served_p99.0
            )),
            Some(_) => None,
        };
        let p99 = measured.quantile(990);
        if step.side == Side::Alone {
            // Also of a round that does not count: a mark that is too high still guards, none does not.
            self.alone.extend(p99);
        }
        (self.outside.tell)(&format!(
            "{} {} of pair {}: p99 {} us of {} requests{}",
            step.resource,
            if step.side == Side::Alone {
                "alone"
            } else {
                "with lent work"
            },
            step.pair + 1,
            p99.unwrap_or_default().0,
            measured.requests,
            discarded
                .as_ref()
                .map_or(String::new(), |why| format!(" (discarded: {why})")),
        ));
        Round {
            step,
            measured,
            discarded,
            work: Work::default(),
        }
    }

    /// What the antagonist used, and whether it was there to the end.
    async fn see_work(&self, unit: &str, round: &mut Round) {
        let usage = self.outside.cgroups.usage(&burst_cgroup(unit));
        round.work = Work {
            cpu_time: usage.cpu_time,
            memory_peak: usage.memory_peak.or(usage.memory),
        };
        let there = match self.outside.systemd.observe(unit).await {
            Ok(Some(state)) => state.active == UnitActive::Running,
            Ok(None) => false,
            Err(_) => usage.tasks.is_some_and(|tasks| tasks > 0),
        };
        if !there {
            round.discarded = Some(format!("lent work ended by itself: see `journalctl -u {unit}`"));
        }
    }

    /// Kills the antagonist and waits until it is gone.
    async fn take_away(&mut self, unit: &str) {
        let Outside { systemd, root, .. } = &self.outside;
        // At once; systemd is told after, and what it says of a unit that is gone already does not matter.
        let direct = kill_now(root, unit);
        let killed = systemd.kill(unit, SIGKILL).await;
        let stopped = systemd.stop(unit).await;
        let gone = async {
            loop {
                let over = |active| active == UnitActive::Over;
                match systemd.observe(unit).await {
                    Ok(None) => return,
                    Ok(Some(state)) if over(state.active) => return,
                    Ok(Some(_)) | Err(_) => tokio::time::sleep(LOOK_EVERY).await,
                }
            }
        };
        if tokio::time::timeout(GONE_LIMIT, gone).await.is_err() {
            let mut reasons: Vec<String> = direct.err().map(|error| error.to_string()).into_iter().collect();
            reasons.extend(
                [killed, stopped]
                    .into_iter()
                    .filter_map(Result::err)
                    .map(|error| chain(&error)),
            );
            self.left_behind.push(format!(
                "{unit} could not be ended ({}); systemd ends it within {}; `systemctl kill -s KILL {unit}` ends it now",
                reasons.join("; "),
                WARM_UP.plus(self.task.round).plus(SPARE_LIFE),
            ));
        }
    }
}

/// Waits for a reason to stop. Whoever would give one is gone: that is one.
async fn told(stop: &mut watch::Receiver<Option<&'static str>>) -> String {
    match stop.wait_for(Option::is_some).await {
        Ok(why) => why.unwrap_or("interrupted").to_owned(),
        Err(_) => "interrupted".to_owned(),
    }
}

/// The middle of the rounds alone; none before the first.
fn middle(alone: &[Span]) -> Option<Span> {
    let values: Vec<Ratio> = alone.iter().map(|span| Ratio(span.0)).collect();
    median(&values).map(|middle| Span(middle.0))
}

#[cfg(test)]
mod tests;
