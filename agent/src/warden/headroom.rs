//! The headroom loop's body: a thread of its own that looks at production ten times a second, and at once when the
//! kernel says that production waits, asks the law, and brakes. While nothing lent runs it looks once a second.
//!
//! Beside the reconciler, not in it: that one may wait for systemd for seconds. Here nobody is waited for. Up to what
//! systemd was told, what is wanted takes effect at once, by the brake, be it lower or higher than before; the reconciler
//! gives systemd what lasts, verifies it, and alone makes anything higher than that. What is wanted is published before the
//! brake is used, so that whoever reads a limit of ours from the kernel afterwards can tell it from a stranger's.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use loadline_model::{MilliCpu, Span};
use loadline_policy::cost::{Cost, CostMeter};
use loadline_policy::headroom::sample::Sample;
use loadline_policy::headroom::{Bounds, Decision, Law, Level, place_of_others};
use loadline_policy::node_policy::Mode;
use loadline_policy::settings::{Place, Slice};
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use super::brakes::{Brakes, Taken, Within};
use super::reconciler::Node;
use super::slo::Promises;
use crate::host::brake::Brake;
use crate::host::clock::Clock;
use crate::host::pressure::{Alarm, Window, Woken};
use crate::host::root::HostRoot;
use crate::host::vitals::Vitals;

/// Two looks are so far apart at least, however often production waits: the kernel tells of it in each cgroup.
const APART: Duration = Duration::from_millis(20);
/// Ten looks a second where nothing happens: a stall is seen within one of them (design §8, P2).
const TICK: Duration = Duration::from_millis(100);
/// The next look where production's use has just risen: of what came within a tick, a look sees a part. Long enough for
/// the law to judge by.
const TICK_RISING: Duration = Duration::from_millis(45);
/// While nothing lent runs, a tick only asks whether that is still so, and looks after so many.
const TICKS_UNLENT: u32 = 10;

/// What the loop has to know of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Given {
    bounds: Bounds,
    most: MilliCpu,
    mode: Mode,
}

impl Given {
    fn of(node: &Node) -> Self {
        Self {
            bounds: Bounds::of(&node.line),
            most: node.line.most().cpu,
            mode: node.policy.lend.mode,
        }
    }
}

/// The running loop. It ends with this value.
#[derive(Debug)]
pub struct Headroom {
    given: Option<Arc<Sender<Given>>>,
    cost: watch::Receiver<Cost>,
    decisions: Decisions,
    window: watch::Receiver<Window>,
    promises: Promises,
    /// Closed when the thread ends, and nothing else.
    over: watch::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// What the law says.
#[derive(Debug, Clone)]
pub struct Decisions {
    /// After each look; none before the first.
    pub latest: watch::Receiver<Option<Decision>>,
    /// Changes only when other setpoints are wanted.
    pub wanted: watch::Receiver<Option<Decision>>,
    /// What memory was taken back.
    pub taken: watch::Receiver<Taken>,
    /// Between what bounds the brake works.
    pub within: watch::Sender<Within>,
}

impl Headroom {
    /// Starts the thread. `others` is told when the program's other threads are to stand elsewhere, `alive` of each turn.
    ///
    /// # Errors
    /// When the machine gives none.
    pub fn start<C: Clock>(
        root: HostRoot,
        clock: C,
        node: &Node,
        others: Others,
        alive: Alive,
    ) -> io::Result<Self> {
        let (sender, receiver) = channel();
        let (latest, told_latest) = watch::channel(None);
        let (wanted, told_wanted) = watch::channel(None);
        let (cost, told_cost) = watch::channel(Cost::default());
        let (taken, told_taken) = watch::channel(Taken::default());
        let (window, told_window) = watch::channel(Window::None);
        let (within, heard) = watch::channel(Within::default());
        let (turns, over) = watch::channel(());
        let given = Given::of(node);
        let promises = Promises::new(&node.policy);
        let turning = Loop {
            law: law(&root, &given),
            brakes: Brakes::new(&root),
            alarm: Alarm::new(&root),
            vitals: Vitals::new(root),
            promises: promises.clone(),
            given,
            latest,
            wanted,
            taken,
            meter: CostMeter::default(),
            cost,
            alive,
            others,
            placed: None,
            heard,
            window,
            alarm_failed: false,
            woken: Woken::Tick,
        };
        let thread = std::thread::Builder::new()
            .name("headroom".into())
            .spawn(move || {
                let _turns = turns;
                turning.turn(&clock, &receiver);
            })?;
        Ok(Self {
            given: Some(Arc::new(sender)),
            cost: told_cost,
            window: told_window,
            decisions: Decisions {
                latest: told_latest,
                wanted: told_wanted,
                taken: told_taken,
                within,
            },
            promises,
            over,
            thread: Some(thread),
        })
    }

    /// What the law says, now and from now on.
    pub fn decisions(&self) -> Decisions {
        self.decisions.clone()
    }

    /// How production's promises stand, as the law is told.
    pub fn promises(&self) -> Promises {
        self.promises.clone()
    }

    /// Returns when the loop has ended by itself, which it should not: then nobody follows production any more.
    pub async fn ended(&self) {
        let mut over = self.over.clone();
        while over.changed().await.is_ok() {}
    }

    /// What lending has cost, now and from now on.
    pub fn cost(&self) -> watch::Receiver<Cost> {
        self.cost.clone()
    }

    /// The windows of the pressure triggers that wake it, now and from now on.
    pub fn window(&self) -> watch::Receiver<Window> {
        self.window.clone()
    }

    /// Tells the loop what this node may do from now on. It looks, and brakes, at once. Whoever holds it does not keep
    /// the loop going.
    pub fn teller(&self) -> Box<dyn Fn(&Node) + Send> {
        let given = self.given.as_ref().map(Arc::downgrade).unwrap_or_default();
        let promises = self.promises.clone();
        Box::new(move |node| {
            promises.replace(&node.policy);
            if let Some(Err(_)) = given.upgrade().map(|sender| sender.send(Given::of(node))) {
                error!("the headroom loop has ended; the last limits stay in force");
            }
        })
    }
}

impl Drop for Headroom {
    fn drop(&mut self) {
        self.given = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the headroom loop ended in a panic; the last limits stay in force");
        }
    }
}

/// Goes on from the limit that an earlier run of the warden left in force.
fn law(root: &HostRoot, given: &Given) -> Law {
    match Brake::new(root, Slice::Root).in_force() {
        // In shadow nothing is ours.
        Ok(Some(cpu)) if given.mode != Mode::Shadow => Law::resume(given.bounds, cpu),
        Ok(_) => Law::new(given.bounds),
        Err(error) => {
            warn!(%error, "what lent work may use now cannot be read; it begins with the static line");
            Law::new(given.bounds)
        }
    }
}

fn since<C: Clock>(then: Span, clock: &C) -> Duration {
    Duration::from_micros(clock.monotonic().minus(then).0)
}

/// Told when the loop turns.
pub type Alive = Box<dyn Fn(Span) + Send>;
/// Places the program's other threads. Called by the loop's own.
pub type Others = Box<dyn Fn(Place) + Send>;

struct Loop {
    law: Law,
    vitals: Vitals,
    promises: Promises,
    brakes: Brakes,
    given: Given,
    latest: watch::Sender<Option<Decision>>,
    wanted: watch::Sender<Option<Decision>>,
    taken: watch::Sender<Taken>,
    meter: CostMeter,
    cost: watch::Sender<Cost>,
    alive: Alive,
    others: Others,
    placed: Option<Place>,
    heard: watch::Receiver<Within>,
    alarm: Alarm,
    window: watch::Sender<Window>,
    /// Said once; from then on the tick has to do.
    alarm_failed: bool,
    /// What ended the last rest.
    woken: Woken,
}

impl Loop {
    fn turn<C: Clock>(mut self, clock: &C, given: &Receiver<Given>) {
        loop {
            let now = clock.monotonic();
            (self.alive)(now);
            let sample = Sample {
                slo: self.promises.told(now),
                ..self.vitals.look(now)
            };
            let decision = self.law.step(&sample);
            self.meter
                .look(&sample, &decision, self.given.mode == Mode::Enforce);
            self.cost.send_replace(self.meter.cost());
            self.publish(decision);
            let within = *self.heard.borrow();
            self.place_others(&decision, &within);
            if self.given.mode != Mode::Shadow {
                self.brakes.apply(&decision, self.given.most, &within);
                self.taken.send_replace(self.brakes.taken());
            }
            self.watch_pressure(now);
            let tick = if decision.rises { TICK_RISING } else { TICK };
            if self.rest(now, tick, clock, given).is_break() {
                return;
            }
        }
    }

    fn place_others(&mut self, decision: &Decision, within: &Within) {
        let place = place_of_others(decision, &self.given.bounds, within.granted.is_some());
        if self.placed.replace(place) != Some(place) {
            (self.others)(place);
        }
    }

    /// Has the kernel wake the loop for whatever production has now.
    fn watch_pressure(&mut self, now: Span) {
        self.alarm.scan(now);
        self.window.send_if_modified(|told| {
            let before = std::mem::replace(told, self.alarm.window());
            before != *told
        });
    }

    /// Until there is something to look at, or a tick is over; breaks when nobody wants a loop any more.
    fn rest<C: Clock>(
        &mut self,
        now: Span,
        length: Duration,
        clock: &C,
        given: &Receiver<Given>,
    ) -> ControlFlow<()> {
        let ticks = if self.lends() { 1 } else { TICKS_UNLENT };
        for tick in 0..ticks {
            // Whoever was woken by the kernel, at a part of the wait that is bad or at one that lies partly before the last
            // look, looks again soon: whether it goes on is seen at once, not a tick later.
            let heard = match std::mem::replace(&mut self.woken, Woken::Tick) {
                Woken::Pressure => given.recv_timeout(APART),
                Woken::Tick if ticks > 1 => given.recv_timeout(TICK),
                Woken::Tick if self.alarm_failed => given.recv_timeout(length),
                Woken::Tick => {
                    self.wait(length);
                    let left = APART.saturating_sub(since(now, clock));
                    given.recv_timeout(if self.woken == Woken::Pressure {
                        left
                    } else {
                        Duration::ZERO
                    })
                }
            };
            match heard {
                Ok(fresh) => {
                    self.given = fresh;
                    self.law.rebound(fresh.bounds);
                    return ControlFlow::Continue(());
                }
                Err(RecvTimeoutError::Disconnected) => return ControlFlow::Break(()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if tick + 1 < ticks && self.lends() {
                break;
            }
            (self.alive)(clock.monotonic());
        }
        ControlFlow::Continue(())
    }

    /// A tick, or less if production waits before it is over.
    fn wait(&mut self, length: Duration) {
        match self.alarm.wait(length) {
            Ok(woken) => self.woken = woken,
            Err(error) => {
                self.alarm_failed = true;
                warn!(%error, "pressure cannot be waited for; the tick has to do");
            }
        }
    }

    /// True unless it is known that nothing lent runs: then production has the machine for itself. A node that watches
    /// only is to see what it would do.
    fn lends(&mut self) -> bool {
        self.given.mode == Mode::Shadow || self.vitals.lends()
    }

    fn publish(&self, decision: Decision) {
        let before = self.latest.send_replace(Some(decision));
        if before
            .is_none_or(|before| before.level != decision.level || before.setpoints != decision.setpoints)
        {
            debug!(?decision, "headroom");
        }
        let before = before.map(|before| before.level);
        // Below that it changes often, and what is written to the journal is production's CPU and disk.
        let tells = before.is_some_and(|before| before.max(decision.level) >= Level::Squeeze);
        if tells && before != Some(decision.level) {
            info!(level = ?decision.level, reason = ?decision.reason, setpoints = ?decision.setpoints, "headroom");
        }
        self.wanted.send_if_modified(|wanted| {
            let other = wanted.is_none_or(|wanted| wanted.setpoints != decision.setpoints);
            if other {
                *wanted = Some(decision);
            }
            other
        });
    }
}

#[cfg(test)]
mod tests;
