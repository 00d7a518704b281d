//! Looks at the machine for the test: what the line leaves now, the memory that can be had, production's stalls.

use std::path::PathBuf;

use loadline_model::{MilliCpu, Span, Topology};
use loadline_policy::line::{Line, ProductionUse};
use loadline_policy::node_policy::NodePolicy;
use loadline_policy::prove::room::Room;

use super::flow::{Look, Watcher};
use crate::host::clock::{Clock, SystemClock};
use crate::host::production::{self, Usage};
use crate::host::root::HostRoot;
use crate::host::trial::{disk_free, last_level_cache};
use crate::host::vitals::Vitals;

/// Rates over less than this say more about the reading than about the machine.
const SHORTEST: Span = Span::from_millis(500);
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
        let line = self.line();
        Look {
            room: Room {
                cpu: line.cpu.now,
                cpus: line.lendable.len(),
                memory: line.memory.now.minus(self.last.1.memory_lent.unwrap_or_default()),
                memory_available: sample.memory_available,
                memory_headroom: line.memory.headroom,
                cache: last_level_cache(&self.root),
                disk_free: disk_free(&PathBuf::from(TEMPORARY)),
            },
            memory_full: sample.stalls.memory_full,
        }
    }
}
