//! The node's sample: per resource, what there is, what is kept, what production and lent work use now.

use std::sync::{Mutex, PoisonError};

use loadline_model::{NodeSample, ResourceSample, Span};
use loadline_policy::line::{Line, ProductionUse};

use super::reconciler::Node;
use crate::host::clock::Clock;
use crate::host::production::{self, CpuRates, Usage};
use crate::host::root::HostRoot;

/// Rates over less than this say more about the reading than about the machine.
const SHORTEST: Span = Span::from_millis(500);

/// Remembers the last reading, since use of CPU is a difference of two.
#[derive(Debug)]
pub struct Sampler<C> {
    root: HostRoot,
    clock: C,
    last: Mutex<Option<Last>>,
}

#[derive(Debug)]
struct Last {
    at: Span,
    usage: Usage,
    rates: Option<CpuRates>,
}

impl<C: Clock> Sampler<C> {
    /// A sampler that has read nothing yet.
    pub const fn new(root: HostRoot, clock: C) -> Self {
        Self {
            root,
            clock,
            last: Mutex::new(None),
        }
    }

    /// The sample of now; none before there are two readings, since nothing is not zero.
    pub fn sample(&self, node: &Node) -> Option<NodeSample> {
        let (usage, now) = (production::usage(&self.root), self.clock.monotonic());
        let rates = self.rates(usage, now)?;
        let used = ProductionUse {
            cpu: rates.production,
            memory: usage.memory_production?,
            cpu_week: node.week.cpu,
            memory_week: node.week.memory,
        };
        let line = Line::new(&node.topology, node.gpus, &node.policy, &used);
        let line = node.ceilings.line(line);
        Some(NodeSample {
            at: self.clock.wall(),
            cpu: ResourceSample {
                capacity: line.cpu.capacity,
                reserve: line.cpu.reserve,
                production: line.cpu.production,
                lent: rates.lent,
                now: line.cpu.now,
                firm: line.cpu.firm,
                headroom: line.cpu.headroom,
            },
            memory: ResourceSample {
                capacity: line.memory.capacity,
                reserve: line.memory.reserve,
                production: line.memory.production,
                lent: usage.memory_lent?,
                now: line.memory.now,
                firm: line.memory.firm,
                headroom: line.memory.headroom,
            },
            pressure: production::pressure(&self.root),
        })
    }

    fn rates(&self, usage: Usage, now: Span) -> Option<CpuRates> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let rates = match &*last {
            Some(last) if now.minus(last.at) < SHORTEST => return last.rates,
            Some(last) => production::cpu_rates(&last.usage, &usage, now.minus(last.at)),
            None => None,
        };
        *last = Some(Last {
            at: now,
            usage,
            rates,
        });
        rates
    }
}
