//! What all of the machine used, once a second, and at each look where its cgroups do not tell in time.

use loadline_model::Span;

use super::open::{Buffer, Counter};
use crate::host::busy::{STAT, UPTIME, busy, idle, is_tickless, online, uptime};
use crate::host::cgroup::MOUNT;
use crate::host::root::HostRoot;

/// Its files are long, and what the kernel uses itself does not change from one tenth of a second to the next.
const EVERY: Span = Span::from_secs(1);

/// The files it is counted from.
#[derive(Debug)]
pub(super) struct Machine {
    stat: Counter,
    uptime: Counter,
    cpus: Option<u64>,
    root: Counter,
    is_tickless: bool,
    looked: Option<Span>,
}

impl Machine {
    pub(super) fn new(root: &HostRoot) -> Self {
        Self {
            stat: Counter::new(root.path(STAT)),
            uptime: Counter::new(root.path(UPTIME)),
            cpus: None,
            root: Counter::new(root.path(&format!("{MOUNT}/cpu.stat"))),
            is_tickless: false,
            looked: None,
        }
    }

    /// Looks up the CPUs again.
    pub(super) fn scan(&mut self, root: &HostRoot) {
        (self.cpus, self.is_tickless) = (online(root), is_tickless(root));
    }

    /// What all but lent work used since boot: what its cgroups count, or where they cannot, what is left of the root's.
    pub(super) fn units(
        &mut self,
        buffer: &mut Buffer,
        counted: Option<Span>,
        lent: Option<Span>,
    ) -> Option<Span> {
        if !self.is_tickless {
            return counted;
        }
        let all = self.root.value(buffer, "", "usage_usec ").map(Span)?;
        Some(all.minus(lent?))
    }

    /// Since boot; none if that was told less than a second ago, or the kernel does not tell.
    pub(super) fn used(&mut self, buffer: &mut Buffer, now: Span) -> Option<Span> {
        if self.looked.is_some_and(|looked| now.minus(looked) < EVERY) {
            return None;
        }
        self.looked = Some(now);
        let idle = self.stat.text(buffer, idle)??;
        let uptime = self.uptime.text(buffer, uptime)??;
        Some(busy(uptime, self.cpus?, idle))
    }
}
