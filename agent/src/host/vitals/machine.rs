//! What all of the machine used, once a second.

use loadline_model::Span;

use super::open::{Buffer, Counter};
use crate::host::busy::{STAT, UPTIME, busy, idle, online, uptime};
use crate::host::root::HostRoot;

/// Its files are long, and what the kernel uses itself does not change from one tenth of a second to the next.
const EVERY: Span = Span::from_secs(1);

/// The files it is counted from.
#[derive(Debug)]
pub(super) struct Machine {
    stat: Counter,
    uptime: Counter,
    cpus: Option<u64>,
    looked: Option<Span>,
}

impl Machine {
    pub(super) fn new(root: &HostRoot) -> Self {
        Self {
            stat: Counter::new(root.path(STAT)),
            uptime: Counter::new(root.path(UPTIME)),
            cpus: None,
            looked: None,
        }
    }

    /// Looks up the CPUs again.
    pub(super) fn scan(&mut self, root: &HostRoot) {
        self.cpus = online(root);
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
