//! Looks at the machine for the test: what the line leaves now, the memory that can be had, production's stalls.

use std::path::PathBuf;

use loadline_model::{Bytes, MilliCpu, PerMille, Span, Topology};
use loadline_policy::line::{Line, ProductionUse};
use loadline_policy::node_policy::NodePolicy;
use loadline_policy::prove::room::Room;
use loadline_policy::settings::Limit;

use super::flow::{Look, Watcher};
use crate::host::cgroup::{CgroupFs, MOUNT};
use crate::host::clock::{Clock, SystemClock};
use crate::host::production::{self, Usage};
use crate::host::root::HostRoot;
use crate::host::systemd::SLICE;
use crate::host::trial::{disk_free, last_level_cache};
use crate::host::vitals::Vitals;

/// Rates over less than this say more about the reading than about the machine.
const SHORTEST: Span = Span::from_millis(500);
/// What the shipped `loadline.slice` allows until a warden has rendered the line for the first time.
const SLICE_SHIPPED: PerMille = PerMille(500);
/// Where antagonists keep their files.
const TEMPORARY: &str = "/var/tmp";

/// The machine's own files.
#[derive(Debug)]
pub(super) struct LiveWatcher {
    root: HostRoot,
    topology: Topology,
    policy: NodePolicy,
    vitals: Vitals,
    last: (Span, Usage),
    /// None before there are two readings of the same slice.
    production: Option<MilliCpu>,
}

impl LiveWatcher {
    pub(super) fn new(root: HostRoot, topology: Topology, policy: NodePolicy) -> Self {
        Self {
            last: (SystemClock.monotonic(), production::usage(&root)),
            vitals: Vitals::new(root.clone()),
            root,
            topology,
            policy,
            production: None,
        }
    }

    /// The line of now, with all of the machine counted as used by production as long as its use is not known.
    pub(super) fn line(&self) -> Line {
        let all = MilliCpu::from_cpus(self.topology.cpus().len());
        let used = ProductionUse {
            cpu: self.production.unwrap_or(all),
            memory: self.last.1.memory_production.unwrap_or(self.topology.memory()),
            cpu_week: None,
            memory_week: None,
        };
        let no_gpus = 0;
        Line::new(&self.topology, no_gpus, &self.policy, &used)
    }

    /// What the slice of all lent work allows, which may be less than the line: an antagonist that goes by the line alone
    /// would be killed there. Of a slice that is not there yet only its shipped limit is known.
    fn slice_allows(&self) -> Bytes {
        let limits = CgroupFs::new(self.root.path(MOUNT)).limits(&format!("/{SLICE}"));
        let at = |limit: Option<Limit<Bytes>>| match limit {
            Some(Limit::At(bytes)) => Some(bytes),
            Some(Limit::Max) | None => None,
        };
        let known = [at(limits.memory_high), at(limits.memory_max)];
        let shipped = self.topology.memory().share(SLICE_SHIPPED);
        known.into_iter().flatten().min().unwrap_or(shipped)
    }

    fn read(&mut self, now: Span) {
        let usage = production::usage(&self.root);
        let passed = now.minus(self.last.0);
        if passed < SHORTEST {
            return;
        }
        if let Some(rates) = production::cpu_rates(&self.last.1, &usage, passed) {
            self.production = Some(rates.production);
        }
        self.last = (now, usage);
    }
}

impl Watcher for LiveWatcher {
    fn look(&mut self) -> Look {
        let now = SystemClock.monotonic();
        self.read(now);
        let sample = self.vitals.look(now);
        let (line, lent) = (self.line(), self.last.1.memory_lent.unwrap_or_default());
        Look {
            room: Room {
                cpu: line.cpu.now,
                cpus: line.lendable.len(),
                memory: line.memory.now.min(self.slice_allows()).minus(lent),
                memory_available: sample.memory_available,
                memory_headroom: line.memory.headroom,
                cache: last_level_cache(&self.root),
                disk_free: disk_free(&PathBuf::from(TEMPORARY)),
            },
            memory_full: sample.stalls.memory_full,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use loadline_model::{NumaNode, Thread};

    use super::*;

    fn topology() -> Topology {
        let thread = |cpu| Thread {
            cpu,
            core: cpu,
            l3: 0,
            numa: 0,
            socket: 0,
        };
        let memory = NumaNode {
            id: 0,
            memory: Bytes::from_mib(1000),
        };
        Topology::new((0..4).map(thread).collect(), vec![memory]).unwrap()
    }

    #[test]
    fn nothing_is_lent_before_production_s_use_is_known_nor_beyond_the_slice() {
        let place = tempfile::tempdir().unwrap();
        let root = HostRoot::new(place.path());
        let watcher = LiveWatcher::new(root.clone(), topology(), NodePolicy::default());
        assert_eq!(watcher.line().cpu.now, MilliCpu::ZERO);
        assert_eq!(watcher.slice_allows(), Bytes::from_mib(500), "as shipped");
        let slice = root.path(&format!("{MOUNT}/{SLICE}"));
        fs::create_dir_all(&slice).unwrap();
        fs::write(slice.join("memory.max"), "734003200\n").unwrap();
        fs::write(slice.join("memory.high"), "max\n").unwrap();
        assert_eq!(watcher.slice_allows(), Bytes::from_mib(700));
        fs::write(slice.join("memory.high"), "629145600\n").unwrap();
        assert_eq!(
            watcher.slice_allows(),
            Bytes::from_mib(600),
            "beyond it it would be slowed down, not pressed"
        );
    }
}
