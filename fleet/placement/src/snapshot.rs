//! The nodes as placement sees them: what each lends, what is promised already, whether it takes new work.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use loadline_model::{
    Amounts, Bytes, CpuRequest, Labels, MilliCpu, Needs, NodeId, PerMille, Taint, Tier, WorkerRequest,
};
use serde::{Deserialize, Serialize};

use crate::engine::NumaRoom;

/// Whether a node takes new work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It does.
    Ready,
    /// Silent for a while: nothing new until it is heard again.
    Suspect,
    /// Silent for so long that its workers may be replaced.
    Lost,
    /// Its agent is heard, and cannot reach its warden: an order would lie there unread.
    Unattended,
    /// An operator wants it empty.
    Draining,
    /// Joined, and never heard of since.
    NeverSeen,
    /// Shut out: its certificate is refused.
    Banned,
}

/// How much a node lends: amounts of shared use, and how many whole CPUs of it can be given exclusively.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// For the standard tier.
    pub firm: Amounts,
    /// At this moment; for the burst tier.
    pub now: Amounts,
    /// Hardware threads that can be given for exclusive use.
    pub whole_cpus: u32,
    /// Space on its own disks, for both tiers together.
    pub scratch: Bytes,
}

/// What a node is, beside what it lends. It seldom changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traits {
    /// Its labels, those that the fleet fills in itself among them.
    pub labels: Arc<Labels>,
    /// What keeps work away that does not tolerate it.
    pub taints: BTreeSet<Taint>,
    /// The least memory among its GPUs; zero: not known, or none.
    pub gpu_memory: Bytes,
    /// Its NUMA nodes; empty: not known.
    pub numa: Arc<[NumaRoom]>,
}

/// What the workers of one tier on a node were promised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// All amounts, whole CPUs included.
    pub amounts: Amounts,
    /// Of which whole CPUs for exclusive use.
    pub whole_cpus: u32,
    /// Shares of GPUs, in thousandths of one, together; not among the whole ones.
    pub gpu_shares: u32,
    /// Space on disks.
    pub scratch: Bytes,
}

/// What all workers on a node were promised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldByTier {
    /// By standard workers.
    pub standard: Held,
    /// By burst workers.
    pub burst: Held,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its identity.
    pub id: NodeId,
    /// Its name, unique among nodes that are not banned.
    pub name: String,
    /// The pool it belongs to.
    pub pool: String,
    /// Whether it takes new work.
    pub state: NodeState,
    /// False while its owner lends nothing: mode off or shadow.
    pub lending: bool,
    /// What it is.
    pub traits: Arc<Traits>,
    /// Its lines.
    pub line: Line,
    /// False: it shares CPUs by weight only and refuses exclusive requests for good.
    pub exclusive_cpus: bool,
    /// The teams it lends to; empty: all.
    pub allow_teams: Vec<String>,
    /// What is promised already: everything assigned and not ended, also on silent nodes.
    pub held: HeldByTier,
}

impl Node {
    /// True if it takes new work at all.
    pub(crate) const fn takes_work(&self) -> bool {
        self.lending && matches!(self.state, NodeState::Ready)
    }
}

/// All nodes that are not forgotten, at one moment. The order does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The nodes.
    pub nodes: Vec<Node>,
}

/// How many whole CPUs a request takes: only the standard tier gets CPUs of its own, burst shares what is left.
pub(crate) fn whole_cpus(tier: Tier, request: &WorkerRequest) -> u32 {
    match (tier, request.cpus) {
        (Tier::Standard, CpuRequest::Exclusive(cpus)) => cpus,
        (Tier::Standard | Tier::Burst, _) => 0,
    }
}

/// What a worker holds, a share of a GPU apart, in thousandths of one.
fn whole_gpus(request: &WorkerRequest, needs: &Needs) -> (Amounts, u32) {
    let amounts = Amounts::from(*request);
    match needs.gpu_share {
        Some(share) if request.gpus > 0 => (Amounts { gpus: 0, ..amounts }, share.0.into()),
        _ => (amounts, 0),
    }
}

impl Held {
    /// What one worker holds.
    pub(crate) fn of(tier: Tier, request: &WorkerRequest, needs: &Needs) -> Self {
        let (amounts, gpu_shares) = whole_gpus(request, needs);
        Self {
            amounts,
            whole_cpus: whole_cpus(tier, request),
            gpu_shares,
            scratch: needs.scratch,
        }
    }

    /// GPUs, in thousandths of one.
    const fn gpu_parts(&self) -> u32 {
        parts(self.amounts.gpus).saturating_add(self.gpu_shares)
    }
}

const fn parts(gpus: u32) -> u32 {
    gpus.saturating_mul(PerMille::ONE.0 as u32)
}

impl HeldByTier {
    fn tier(&mut self, tier: Tier) -> &mut Held {
        match tier {
            Tier::Standard => &mut self.standard,
            Tier::Burst => &mut self.burst,
        }
    }

    /// Accounts one more worker.
    pub fn add(&mut self, tier: Tier, request: &WorkerRequest, needs: &Needs) {
        let held = self.tier(tier);
        let more = Held::of(tier, request, needs);
        held.amounts = held.amounts.plus(more.amounts);
        held.whole_cpus = held.whole_cpus.saturating_add(more.whole_cpus);
        held.gpu_shares = held.gpu_shares.saturating_add(more.gpu_shares);
        held.scratch = held.scratch.plus(more.scratch);
    }

    /// Accounts one worker less.
    pub fn remove(&mut self, tier: Tier, request: &WorkerRequest, needs: &Needs) {
        self.take_back(tier, &Held::of(tier, request, needs));
    }

    /// Accounts less, by what was held.
    pub(crate) fn take_back(&mut self, tier: Tier, less: &Held) {
        let held = self.tier(tier);
        held.amounts = held.amounts.minus(less.amounts);
        held.whole_cpus = held.whole_cpus.saturating_sub(less.whole_cpus);
        held.gpu_shares = held.gpu_shares.saturating_sub(less.gpu_shares);
        held.scratch = held.scratch.minus(less.scratch);
    }

    /// Both tiers together.
    pub const fn total(&self) -> Amounts {
        self.standard.amounts.plus(self.burst.amounts)
    }

    /// GPUs of both tiers, in thousandths of one: shares are among them.
    pub const fn milli_gpus(&self) -> u32 {
        self.standard.gpu_parts().saturating_add(self.burst.gpu_parts())
    }
}

impl Line {
    /// The higher of the two lines, per resource.
    pub fn higher(&self) -> Amounts {
        most(self.firm, self.now)
    }

    /// What one tier may still get.
    ///
    /// Standard counts against the firm line and burst, together with standard, against the line of now. Both
    /// together never exceed the higher of the two: nothing makes burst give way to a new standard worker yet.
    pub fn free(&self, tier: Tier, held: &HeldByTier) -> Amounts {
        let amounts = match tier {
            Tier::Burst => self.now.minus(held.total()),
            Tier::Standard => least(
                self.firm.minus(held.standard.amounts),
                self.higher().minus(held.total()),
            ),
        };
        let gpus = self.free_gpu_parts(tier, held) / parts(1);
        Amounts { gpus, ..amounts }
    }

    /// GPUs that one tier may still get, in thousandths of one: a share fits if so much is free, since shares are
    /// taken to lie as close together as they can.
    pub(crate) fn free_gpu_parts(&self, tier: Tier, held: &HeldByTier) -> u32 {
        let (firm, now) = (parts(self.firm.gpus), parts(self.now.gpus));
        let standard = held.standard.gpu_parts();
        let all = standard.saturating_add(held.burst.gpu_parts());
        match tier {
            Tier::Burst => now.saturating_sub(all),
            Tier::Standard => firm
                .saturating_sub(standard)
                .min(firm.max(now).saturating_sub(all)),
        }
    }

    /// Space on disks that is still free.
    pub(crate) const fn free_scratch(&self, held: &HeldByTier) -> Bytes {
        self.scratch.minus(held.standard.scratch.plus(held.burst.scratch))
    }

    /// True if all that is held lies within the lines, as far as a tier is concerned.
    pub(crate) fn has(&self, held: &HeldByTier, tier: Tier) -> bool {
        let within = match tier {
            Tier::Burst => held.total().fits_in(&self.now),
            Tier::Standard => {
                held.standard.amounts.fits_in(&self.firm) && held.total().fits_in(&self.higher())
            }
        };
        let (firm, now) = (parts(self.firm.gpus), parts(self.now.gpus));
        let standard = held.standard.gpu_parts();
        let all = standard.saturating_add(held.burst.gpu_parts());
        let gpus = match tier {
            Tier::Burst => all <= now,
            Tier::Standard => standard <= firm && all <= firm.max(now),
        };
        let scratch = held.standard.scratch.plus(held.burst.scratch) <= self.scratch;
        let given = held.standard.whole_cpus.saturating_add(held.burst.whole_cpus);
        within && gpus && scratch && (tier == Tier::Burst || given <= self.whole_cpus)
    }

    /// The whole CPUs that may still be given for exclusive use, within the free amount.
    pub fn free_whole_cpus(&self, free_cpu: MilliCpu, held: &HeldByTier) -> u32 {
        let given = held.standard.whole_cpus.saturating_add(held.burst.whole_cpus);
        let by_amount = u32::try_from(free_cpu.whole_cpus()).unwrap_or(u32::MAX);
        self.whole_cpus.saturating_sub(given).min(by_amount)
    }
}

fn least(a: Amounts, b: Amounts) -> Amounts {
    Amounts {
        cpu: a.cpu.min(b.cpu),
        memory: a.memory.min(b.memory),
        gpus: a.gpus.min(b.gpus),
    }
}

fn most(a: Amounts, b: Amounts) -> Amounts {
    Amounts {
        cpu: a.cpu.max(b.cpu),
        memory: a.memory.max(b.memory),
        gpus: a.gpus.max(b.gpus),
    }
}
