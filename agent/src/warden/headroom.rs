//! The headroom loop's body: a thread of its own that looks at production ten times a second, asks the law, and
//! brakes.
//!
//! Beside the reconciler, not in it: that one may wait for systemd for seconds. Here nobody is waited for. What is
//! lower than before takes effect at once, by the brake; the reconciler then gives systemd the same value, verifies
//! it, and alone makes anything higher. What is wanted is published before the brake is used, so that whoever reads
//! a limit of ours from the kernel afterwards can tell it from a stranger's.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use loadline_model::MilliCpu;
use loadline_policy::headroom::{Bounds, Decision, Law};
use loadline_policy::node_policy::Mode;
use loadline_policy::settings::{Setpoints, Slice, cpu_quota};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::reconciler::Node;
use crate::host::brake::Brake;
use crate::host::clock::Clock;
use crate::host::root::HostRoot;
use crate::host::vitals::Vitals;

/// Ten looks a second: a stall is seen within one of them (design §8, P2).
const TICK: Duration = Duration::from_millis(100);

/// What the loop has to know of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Given {
    bounds: Bounds,
    firm: MilliCpu,
    mode: Mode,
}

impl Given {
    fn of(node: &Node) -> Self {
        Self {
            bounds: Bounds::of(&node.line),
            firm: node.line.cpu.firm,
            mode: node.policy.lend.mode,
        }
    }
}

/// The running loop. It ends with this value.
#[derive(Debug)]
pub struct Headroom {
    given: Option<Sender<Given>>,
    decisions: Decisions,
    thread: Option<JoinHandle<()>>,
}

/// What the law says.
#[derive(Debug, Clone)]
pub struct Decisions {
    /// After each look; none before the first.
    pub latest: watch::Receiver<Option<Decision>>,
    /// Changes only when other setpoints are wanted.
    pub wanted: watch::Receiver<Option<Decision>>,
}

impl Headroom {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the machine gives none.
    pub fn start<C: Clock>(root: HostRoot, clock: C, node: &Node) -> io::Result<Self> {
        let (sender, receiver) = channel();
        let (latest, told_latest) = watch::channel(None);
        let (wanted, told_wanted) = watch::channel(None);
        let given = Given::of(node);
        let turning = Loop {
            law: Law::new(given.bounds),
            brakes: Slice::ALL.map(|slice| (slice, Brake::new(&root, slice))),
            vitals: Vitals::new(root),
            given,
            latest,
            wanted,
            brake_failed: false,
        };
        let thread = std::thread::Builder::new()
            .name("headroom".into())
            .spawn(move || turning.turn(&clock, &receiver))?;
        Ok(Self {
            given: Some(sender),
            decisions: Decisions {
                latest: told_latest,
                wanted: told_wanted,
            },
            thread: Some(thread),
        })
    }

    /// What the law says, now and from now on.
    pub fn decisions(&self) -> Decisions {
        self.decisions.clone()
    }

    /// The owner changed the policy.
    pub fn replace(&self, node: &Node) {
        if let Some(Err(_)) = self.given.as_ref().map(|sender| sender.send(Given::of(node))) {
            error!("the headroom loop has ended; the static line stays in force");
        }
    }
}

impl Drop for Headroom {
    fn drop(&mut self) {
        self.given = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the headroom loop ended in a panic; the static line stays in force");
        }
    }
}

struct Loop {
    law: Law,
    vitals: Vitals,
    brakes: [(Slice, Brake); 3],
    given: Given,
    latest: watch::Sender<Option<Decision>>,
    wanted: watch::Sender<Option<Decision>>,
    /// Said once, not ten times a second.
    brake_failed: bool,
}

impl Loop {
    fn turn<C: Clock>(mut self, clock: &C, given: &Receiver<Given>) {
        loop {
            let decision = self.law.step(&self.vitals.look(clock.monotonic()));
            self.publish(decision);
            if self.given.mode != Mode::Shadow {
                self.brake(&decision.setpoints);
            }
            match given.recv_timeout(TICK) {
                Ok(fresh) => {
                    self.given = fresh;
                    self.law.rebound(fresh.bounds);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn publish(&self, decision: Decision) {
        let before = self
            .latest
            .send_replace(Some(decision))
            .map(|before| before.level);
        if before != Some(decision.level) {
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

    fn brake(&mut self, setpoints: &Setpoints) {
        for (slice, brake) in &self.brakes {
            match brake.lower(cpu_quota(*slice, self.given.firm, setpoints)) {
                Ok(_) => self.brake_failed = false,
                Err(error) if !self.brake_failed => {
                    self.brake_failed = true;
                    warn!(%error, slice = slice.unit(), "the brake does not work; systemd is asked instead");
                }
                Err(_) => {}
            }
        }
    }
}
