//! What the headroom loop does by itself at a look: holds lent work to what it decided, as far as systemd has been told, and
//! takes memory back while it is scarce.
//!
//! Burst first, then standard. A slice from which nothing more can be had is left alone for a while: to search it costs
//! CPU, which is production's.

use loadline_model::{Bytes, MilliCpu, Tier};
use loadline_policy::headroom::Decision;
use loadline_policy::reap::Budget;
use loadline_policy::settings::{Setpoints, Slice, cpu_quota};
use tracing::warn;

use crate::host::brake::Brake;
use crate::host::root::HostRoot;

/// For so many looks nothing is asked of a slice that gave less than was asked for: a second.
const RESTS: u8 = 10;

/// What the kernel has taken back from each tier since the warden started. Where it found less than was asked for, how
/// much is not known, and not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    burst: Bytes,
    standard: Bytes,
}

impl Taken {
    /// From this tier.
    pub const fn from(&self, tier: Tier) -> Bytes {
        match tier {
            Tier::Burst => self.burst,
            Tier::Standard => self.standard,
        }
    }

    /// More was taken.
    pub(super) fn add(&mut self, tier: Tier, amount: Bytes) {
        let sum = match tier {
            Tier::Burst => &mut self.burst,
            Tier::Standard => &mut self.standard,
        };
        *sum = sum.plus(amount);
    }
}

/// What the reconciler lets the brakes know.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Within {
    /// What systemd was told: the brakes let go that far, and no further.
    pub setpoints: Setpoints,
    /// What those who are being ended may use: it is not taken from them.
    pub granted: Option<Budget>,
}

/// The brakes of all slices.
#[derive(Debug)]
pub(super) struct Brakes {
    slices: [(Slice, Brake); 3],
    /// In the order in which memory is taken.
    resting: [(Tier, u8); 2],
    taken: Taken,
    /// Said once, not ten times a second.
    failed: bool,
}

impl Brakes {
    pub(super) fn new(root: &HostRoot) -> Self {
        Self {
            slices: Slice::ALL.map(|slice| (slice, Brake::new(root, slice))),
            resting: [(Tier::Burst, 0), (Tier::Standard, 0)],
            taken: Taken::default(),
            failed: false,
        }
    }

    /// What was taken until now.
    pub(super) const fn taken(&self) -> Taken {
        self.taken
    }

    /// `most`: the static line.
    pub(super) fn apply(&mut self, decision: &Decision, most: MilliCpu, within: &Within) {
        let lowered = self.hold(&decision.setpoints, most, within);
        let taken = self.take(decision.reclaim);
        match lowered.and(taken) {
            Ok(()) => self.failed = false,
            Err(error) if !self.failed => {
                self.failed = true;
                warn!(%error, "the brake does not work; systemd is asked instead");
            }
            Err(_) => {}
        }
    }

    /// CPUs first: they take no time.
    fn hold(&mut self, wanted: &Setpoints, most: MilliCpu, within: &Within) -> std::io::Result<()> {
        let mut all = Ok(());
        for (slice, brake) in &mut self.slices {
            let quota = |setpoints| {
                let quota = cpu_quota(*slice, most, setpoints);
                within.granted.map_or(quota, |budget| budget.quota(*slice, quota))
            };
            let done = brake.hold(quota(wanted), quota(&within.setpoints));
            all = all.and(done.map(drop));
        }
        let [(_, root), ..] = &mut self.slices;
        let memory = wanted
            .memory_high
            .map_or(Ok(false), |high| root.lower_memory(high));
        all.and(memory.map(drop))
    }

    fn take(&mut self, amount: Bytes) -> std::io::Result<()> {
        for (tier, rests) in &mut self.resting {
            if *rests > 0 || amount == Bytes::ZERO {
                *rests = rests.saturating_sub(1);
                continue;
            }
            let brake = self.slices.iter().find(|(slice, _)| *slice == Slice::of(*tier));
            match brake.map_or(Ok(false), |(_, brake)| brake.reclaim(amount)) {
                Ok(true) => {
                    self.taken.add(*tier, amount);
                    break;
                }
                Ok(false) => *rests = RESTS,
                Err(error) => {
                    *rests = RESTS;
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join("sys/fs/cgroup/loadline.slice").join(name)
        }

        fn put(&self, name: &str, text: &str) {
            fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
            fs::write(self.path(name), text).unwrap();
        }

        fn text(&self, name: &str) -> String {
            fs::read_to_string(self.path(name)).unwrap_or_default()
        }
    }

    const BURST: &str = "loadline-burst.slice/memory.reclaim";
    const STANDARD: &str = "loadline-standard.slice/memory.reclaim";

    #[test]
    fn memory_is_lowered_and_taken_from_burst_before_standard() {
        let tree = Tree(tempfile::tempdir().unwrap());
        let mut brakes = Brakes::new(&HostRoot::new(tree.0.path()));
        let mut scarce = Decision {
            reclaim: Bytes::from_mib(3),
            ..Decision::default()
        };
        scarce.setpoints.memory_high = Some(Bytes::from_mib(100));
        tree.put("memory.high", "max\n");
        tree.put(BURST, "");
        tree.put(STANDARD, "");
        brakes.apply(&scarce, MilliCpu(1000), &Within::default());
        assert_eq!(tree.text("memory.high"), "104857600\n");
        assert_eq!(
            (tree.text(BURST), tree.text(STANDARD)),
            ("3145728\n".into(), String::new())
        );
        // Without a burst slice standard gives, and burst is asked again only after a second.
        fs::remove_file(tree.path(BURST)).unwrap();
        brakes.apply(&scarce, MilliCpu(1000), &Within::default());
        assert_eq!(tree.text(STANDARD), "3145728\n");
        let taken = [Tier::Burst, Tier::Standard].map(|tier| brakes.taken().from(tier));
        assert_eq!(taken, [Bytes::from_mib(3); 2]);
        tree.put(BURST, "");
        for look in 1..=11 {
            brakes.apply(&scarce, MilliCpu(1000), &Within::default());
            assert_eq!(!tree.text(BURST).is_empty(), look == 11, "{look}");
        }
    }

    #[test]
    fn what_was_pressed_is_let_go_as_far_as_systemd_was_told() {
        let tree = Tree(tempfile::tempdir().unwrap());
        let mut brakes = Brakes::new(&HostRoot::new(tree.0.path()));
        let wants = |cpu| Setpoints {
            cpu: Some(MilliCpu(cpu)),
            ..Setpoints::default()
        };
        let within = Within {
            setpoints: wants(500),
            granted: None,
        };
        tree.put("cpu.max", "5000 10000\n");
        for (cpu, held) in [
            (300, "3000 10000\n"),
            (450, "4500 10000\n"),
            (700, "5000 10000\n"),
        ] {
            let decision = Decision {
                setpoints: wants(cpu),
                ..Decision::default()
            };
            brakes.apply(&decision, MilliCpu(1000), &within);
            assert_eq!(tree.text("cpu.max"), held, "{cpu}m wanted");
        }
    }

    #[test]
    fn with_enough_memory_nothing_is_taken() {
        let tree = Tree(tempfile::tempdir().unwrap());
        let mut brakes = Brakes::new(&HostRoot::new(tree.0.path()));
        tree.put(BURST, "");
        tree.put("memory.high", "max\n");
        brakes.apply(&Decision::default(), MilliCpu(1000), &Within::default());
        assert_eq!(
            (tree.text(BURST), tree.text("memory.high")),
            (String::new(), "max\n".into())
        );
    }
}
