//! The headroom loop's body: a thread of its own that looks at production ten times a second, asks the law, and
//! brakes.
//!
//! Beside the reconciler, not in it: that one may wait for systemd for seconds. Here nobody is waited for. What is
//! lower than before takes effect at once, by the brake; the reconciler then gives systemd the same value, verifies
//! it, and alone makes anything higher. What is wanted is published before the brake is used, so that whoever reads
//! a limit of ours from the kernel afterwards can tell it from a stranger's.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use loadline_model::MilliCpu;
use loadline_policy::cost::{Cost, CostMeter};
use loadline_policy::headroom::{Bounds, Decision, Law, Level};
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
    given: Option<Arc<Sender<Given>>>,
    cost: watch::Receiver<Cost>,
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
        let (cost, told_cost) = watch::channel(Cost::default());
        let given = Given::of(node);
        let turning = Loop {
            law: Law::new(given.bounds),
            brakes: Slice::ALL.map(|slice| (slice, Brake::new(&root, slice))),
            vitals: Vitals::new(root),
            given,
            latest,
            wanted,
            meter: CostMeter::default(),
            cost,
            brake_failed: false,
        };
        let thread = std::thread::Builder::new()
            .name("headroom".into())
            .spawn(move || turning.turn(&clock, &receiver))?;
        Ok(Self {
            given: Some(Arc::new(sender)),
            cost: told_cost,
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

    /// Returns when the loop has ended by itself, which it should not: then nobody follows production any more.
    pub async fn ended(&self) {
        let mut wanted = self.decisions.wanted.clone();
        while wanted.changed().await.is_ok() {}
    }

    /// What lending has cost, now and from now on.
    pub fn cost(&self) -> watch::Receiver<Cost> {
        self.cost.clone()
    }

    /// Tells the loop what this node may do from now on. It looks, and brakes, at once. Whoever holds it does not keep
    /// the loop going.
    pub fn teller(&self) -> Box<dyn Fn(&Node) + Send> {
        let given = self.given.as_ref().map(Arc::downgrade).unwrap_or_default();
        Box::new(move |node| {
            if let Some(Err(_)) = given.upgrade().map(|sender| sender.send(Given::of(node))) {
                error!("the headroom loop has ended; the static line stays in force");
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
    meter: CostMeter,
    cost: watch::Sender<Cost>,
    /// Said once, not ten times a second.
    brake_failed: bool,
}

impl Loop {
    fn turn<C: Clock>(mut self, clock: &C, given: &Receiver<Given>) {
        loop {
            let sample = self.vitals.look(clock.monotonic());
            let decision = self.law.step(&sample);
            self.meter
                .look(&sample, &decision, self.given.mode == Mode::Enforce);
            self.cost.send_replace(self.meter.cost());
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

#[cfg(test)]
mod tests {
    use loadline_model::{PerMille, Span, WallTime};
    use loadline_policy::ceiling::{Ceiling, Ceilings, Setter};

    use super::*;
    use crate::host::clock::SystemClock;
    use crate::warden::reconciler::tests::rig::node;

    /// A machine of 4 CPUs whose files say what they are told.
    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            for (name, text) in [
                ("proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 7000000 kB\n"),
                ("sys/fs/cgroup/cpu.stat", "usage_usec 0\n"),
                ("sys/fs/cgroup/loadline.slice/cpu.stat", "usage_usec 0\n"),
                ("sys/fs/cgroup/loadline.slice/cpu.max", "max 100000\n"),
            ] {
                tree.put(name, text);
            }
            tree
        }

        fn put(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn cpu_max(&self) -> String {
            let path = self.0.path().join("sys/fs/cgroup/loadline.slice/cpu.max");
            std::fs::read_to_string(path).unwrap().trim().to_owned()
        }

        fn start(&self, mode: Mode) -> Headroom {
            let mut node = node();
            node.policy.lend.mode = mode;
            Headroom::start(HostRoot::new(self.0.path()), SystemClock, &node).unwrap()
        }
    }

    /// Uses all 4 CPUs until the loop has seen it; gives the decision.
    async fn under_load(tree: &Tree, headroom: &Headroom) -> Decision {
        let (begun, mut latest) = (SystemClock.monotonic(), headroom.decisions().latest);
        let seen = async {
            loop {
                let used = SystemClock.monotonic().minus(begun).times(4);
                tree.put("sys/fs/cgroup/cpu.stat", &format!("usage_usec {}\n", used.0));
                latest.changed().await.unwrap();
                let decision = latest
                    .borrow_and_update()
                    .filter(|one| one.setpoints.cpu.is_some_and(|cpu| cpu.0 <= 200));
                if let Some(decision) = decision {
                    return decision;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), seen)
            .await
            .expect("production was not seen")
    }

    #[tokio::test]
    async fn a_busy_machine_is_seen_and_the_brake_is_used() {
        let tree = Tree::new();
        let headroom = tree.start(Mode::Enforce);
        let decision = under_load(&tree, &headroom).await;
        assert!(decision.production >= MilliCpu(3000), "{decision:?}");
        drop(headroom);
        assert_eq!(tree.cpu_max(), "2000 10000", "5 % of 4 CPUs, as written last");
    }

    #[tokio::test]
    async fn in_shadow_the_brake_is_not_touched() {
        let tree = Tree::new();
        let headroom = tree.start(Mode::Shadow);
        under_load(&tree, &headroom).await;
        drop(headroom);
        assert_eq!(tree.cpu_max(), "max 100000");
    }

    #[tokio::test]
    async fn it_ends_with_its_value_and_whoever_waits_for_that_is_told() {
        let tree = Tree::new();
        let headroom = tree.start(Mode::Enforce);
        let mut wanted = headroom.decisions().wanted;
        drop(headroom);
        while wanted.changed().await.is_ok() {}
    }

    #[tokio::test]
    async fn a_closed_line_is_braked_at_once_and_whoever_tells_it_keeps_nothing_going() {
        let tree = Tree::new();
        let headroom = tree.start(Mode::Enforce);
        let tell = headroom.teller();
        let closed = Ceiling {
            mode: Mode::Enforce,
            line: PerMille(0),
            by: "ada".into(),
            at: WallTime(1),
        };
        let mut ceilings = Ceilings::default();
        ceilings.set(Setter::Here, closed);
        let (mut latest, begun) = (headroom.decisions().latest, SystemClock.monotonic());
        tell(&node().under(&ceilings));
        while tree.cpu_max() != "1000 20000" {
            latest.changed().await.unwrap();
            let passed = SystemClock.monotonic().minus(begun);
            assert!(passed < Span::from_secs(2), "{} after {passed}", tree.cpu_max());
        }
        drop(headroom);
        tell(&node());
    }
}
