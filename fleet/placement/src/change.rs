//! The cheapest change that would start a waiting job.
//!
//! Approach: propose changes in the order of what they cost the person (nothing lost first, an operator's doing
//! last), try each on a copy of the books, name the first that works. So what is proposed is true by trial.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use loadline_model::{
    Arrange, Bytes, CpuRequest, MilliCpu, Needs, Numa, Requirement, Span, Taint, Tier, WallTime,
    WorkerRequest,
};

use crate::blocks::{blocks, room, room_empty, scratch};
use crate::planner::Books;
use crate::queue::QueueEntry;
use crate::report::ReasonCode;
use crate::snapshot::Node;

/// A job that gets less than a quarter of what it asked for would hardly do its work; it is told so only where
/// even an empty node has no more.
const REDUCTION_MAX: u64 = 4;

/// One change, and the node where the job would then start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Let it run on one more node.
    AllowNode {
        /// Which.
        node: String,
    },
    /// Ask for a share of CPU instead of whole CPUs.
    ShareCpus {
        /// How much.
        cpus: MilliCpu,
        /// Where.
        node: String,
    },
    /// Ask for less per worker.
    AskForLess {
        /// What would fit.
        request: WorkerRequest,
        /// Which of it is less than before.
        less: Less,
        /// Where.
        node: String,
    },
    /// Start with fewer workers.
    FewerWorkers {
        /// How many fit at once.
        min: u32,
    },
    /// Use the other tier.
    UseTier {
        /// Which.
        tier: Tier,
    },
    /// Leave out something that the job says of its nodes.
    LeaveOut {
        /// What.
        what: Restriction,
    },
    /// Tolerate a taint.
    Tolerate {
        /// Which.
        taint: Taint,
        /// Where.
        node: String,
    },
    /// Ask for less space on disks.
    LessScratch {
        /// How much.
        scratch: Bytes,
        /// Where.
        node: String,
    },
    /// Say how long it may run: its team has a budget of hours.
    GiveTime,
    /// Be gone before those for whom room is kept.
    ShorterTime {
        /// The time limit.
        time: Span,
    },
    /// An operator raises the team's quota, or some of the team's work ends.
    RaiseQuota {
        /// Whose.
        team: String,
    },
    /// An operator ends the drain of a node.
    ResumeNode {
        /// Which.
        node: String,
    },
}

/// Something that a job says of where its workers may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restriction {
    /// One requirement on labels.
    Require(Requirement),
    /// How large GPUs must be.
    GpuMemory,
    /// That a worker must fit one NUMA node.
    Numa,
    /// That workers must be spread: as far as there is room will do.
    Spread,
    /// A job to be near.
    Near(String),
}

impl Restriction {
    /// The job without it.
    #[must_use]
    pub fn left_out(&self, entry: &QueueEntry) -> QueueEntry {
        let (mut needs, mut ties) = ((*entry.needs).clone(), entry.ties.as_deref().cloned());
        match self {
            Self::Require(requirement) => needs.require.retain(|other| other != requirement),
            Self::GpuMemory => needs.gpu_memory = Bytes::ZERO,
            Self::Numa => needs.numa = Numa::Any,
            Self::Spread => {
                if let Arrange::Spread(domain) = needs.arrange {
                    needs.arrange = Arrange::PreferSpread(domain);
                }
                if let Some(ties) = &mut ties {
                    ties.crowded.clear();
                }
            }
            Self::Near(name) => needs.near.retain(|other| other != name),
        }
        // Where others are is known of all of them together.
        if let Some(ties) = &mut ties {
            ties.near = ties.near.take().filter(|_| !needs.near.is_empty());
        }
        QueueEntry {
            needs: Arc::new(needs),
            ties: ties.map(Arc::new),
            ..entry.clone()
        }
    }

    /// Everything that a job says.
    fn all(needs: &Needs) -> Vec<Self> {
        let mut all: Vec<Self> = needs.require.iter().cloned().map(Self::Require).collect();
        all.extend((!needs.gpu_memory.is_zero()).then_some(Self::GpuMemory));
        all.extend((needs.numa == Numa::Single).then_some(Self::Numa));
        all.extend(matches!(needs.arrange, Arrange::Spread(_)).then_some(Self::Spread));
        // Of several what each alone keeps away is not known.
        if let [only] = needs.near.as_slice() {
            all.push(Self::Near(only.clone()));
        }
        all
    }
}

impl fmt::Display for Restriction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Require(requirement) => write!(f, "leave out what it requires (--require '{requirement}')"),
            Self::GpuMemory => f.write_str("take GPUs of any size (leave out --gpu-memory)"),
            Self::Numa => f.write_str("let a worker reach over several NUMA nodes (leave out --numa)"),
            Self::Spread => f.write_str("spread the workers only as far as there is room (--prefer-spread)"),
            Self::Near(name) => write!(f, "let it run elsewhere too (leave out --near {name})"),
        }
    }
}

/// Which parts of a request were lowered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Less {
    /// CPU.
    pub cpus: bool,
    /// Memory.
    pub memory: bool,
    /// GPUs.
    pub gpus: bool,
}

impl fmt::Display for Change {
    /// In the imperative, for the person who submitted, with the flags to type.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllowNode { node } => write!(f, "also allow node {node} (--node {node})"),
            Self::ShareCpus { cpus, node } => {
                write!(
                    f,
                    "ask for a share of CPU (--cpus {}m), which fits on {node}",
                    cpus.0
                )
            }
            Self::AskForLess { request, less, node } => {
                f.write_str("ask for at most")?;
                let mut separator = "";
                if less.cpus {
                    write!(f, " --cpus {}", request.cpus)?;
                    separator = " and";
                }
                if less.memory {
                    write!(f, "{separator} --memory {}MiB", request.memory.0 >> 20)?;
                    separator = " and";
                }
                if less.gpus {
                    write!(f, "{separator} --gpus {}", request.gpus)?;
                }
                write!(f, " per worker, which fits on {node}")
            }
            Self::FewerWorkers { min } => write!(f, "start with fewer workers (a minimum of {min})"),
            Self::UseTier { tier } => write!(f, "use the {} tier (--tier {})", tier.word(), tier.word()),
            Self::LeaveOut { what } => what.fmt(f),
            Self::Tolerate { taint, node } => {
                write!(f, "tolerate what {node} is kept for (--tolerate {taint})")
            }
            Self::LessScratch { scratch, node } => {
                let mib = scratch.0 >> 20;
                write!(
                    f,
                    "ask for at most --scratch {mib}MiB per worker, which fits on {node}"
                )
            }
            Self::GiveTime => f.write_str("give it a time limit (--time 2h)"),
            Self::ShorterTime { time } => write!(
                f,
                "give it a shorter time limit (--time {}m)",
                time.0 / 60_000_000
            ),
            Self::RaiseQuota { team } => write!(
                f,
                "end other work of team {team}, or ask an operator to raise its quota (fleet quota set {team})"
            ),
            Self::ResumeNode { node } => {
                write!(
                    f,
                    "ask an operator to end the drain of {node} (fleet node resume {node})"
                )
            }
        }
    }
}

impl Books<'_> {
    /// The cheapest change that makes `together` workers of the job start now.
    pub(crate) fn cheapest_change(&self, entry: &QueueEntry, together: u32) -> Option<Change> {
        self.allow_node(entry, together)
            .or_else(|| self.leave_out(entry, together))
            .or_else(|| self.tolerate(entry, together))
            .or_else(|| self.less_scratch(entry, together))
            .or_else(|| self.share_cpus(entry, together))
            .or_else(|| self.fewer_workers(entry, together))
            .or_else(|| self.ask_for_less(entry, together))
            .or_else(|| self.use_tier(entry, together))
            .or_else(|| self.resume_node(entry, together))
    }

    fn by_name(&self) -> Vec<&Node> {
        let mut nodes = self.nodes.clone();
        nodes.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        nodes
    }

    fn allow_node(&self, entry: &QueueEntry, together: u32) -> Option<Change> {
        let selected = |node: &Node| entry.nodes.is_empty() || entry.nodes.contains(&node.name);
        let candidates = self.by_name();
        let mut others = candidates.into_iter().filter(|node| !selected(node));
        others.find_map(|node| {
            let mut wider = entry.clone();
            wider.nodes.push(node.name.clone());
            let fits = self.blocks(node, &wider).is_empty();
            (fits && self.would_start(&wider, together)).then(|| Change::AllowNode {
                node: node.name.clone(),
            })
        })
    }

    fn leave_out(&self, entry: &QueueEntry, together: u32) -> Option<Change> {
        let starts = |what: &Restriction| self.would_start(&what.left_out(entry), together);
        let what = Restriction::all(&entry.needs).into_iter().find(starts)?;
        Some(Change::LeaveOut { what })
    }

    fn tolerate(&self, entry: &QueueEntry, together: u32) -> Option<Change> {
        let tolerated = |taint: &Taint| entry.needs.tolerate.iter().any(|it| it.tolerates(taint));
        self.by_name().into_iter().find_map(|node| {
            let mut taints = node.traits.taints.iter().filter(|taint| !tolerated(taint));
            let (taint, None) = (taints.next()?, taints.next()) else {
                return None;
            };
            let mut needs = (*entry.needs).clone();
            needs.tolerate.push(taint.clone());
            let tolerant = QueueEntry {
                needs: Arc::new(needs),
                ..entry.clone()
            };
            let fits = blocks(node, &node.held, &tolerant, self.now).is_empty();
            (fits && self.would_start(&tolerant, together)).then(|| Change::Tolerate {
                taint: taint.clone(),
                node: node.name.clone(),
            })
        })
    }

    fn less_scratch(&self, entry: &QueueEntry, together: u32) -> Option<Change> {
        if entry.needs.scratch.is_zero() {
            return None;
        }
        let less = |node: &Node| {
            let free = scratch(node, &node.held).1.min(entry.needs.scratch);
            let scratch = Bytes::from_mib(free.0 >> 20);
            let enough = scratch.0.saturating_mul(REDUCTION_MAX) >= entry.needs.scratch.0;
            let needs = Needs {
                scratch,
                ..(*entry.needs).clone()
            };
            let smaller = QueueEntry {
                needs: Arc::new(needs),
                ..entry.clone()
            };
            let fits = enough && blocks(node, &node.held, &smaller, self.now).is_empty();
            (fits && self.would_start(&smaller, together)).then(|| Change::LessScratch {
                scratch,
                node: node.name.clone(),
            })
        };
        self.by_name().into_iter().find_map(less)
    }

    fn share_cpus(&self, entry: &QueueEntry, together: u32) -> Option<Change> {
        let (Tier::Standard, CpuRequest::Exclusive(cpus)) = (entry.tier, entry.request.cpus) else {
            return None;
        };
        // A share may not be a whole number of CPUs, so it is a little less than what was asked for.
        let share = MilliCpu::from_cpus(cpus).minus(MilliCpu(100));
        let mut shared = entry.clone();
        shared.request.cpus = CpuRequest::Shared(share);
        let node = self.first_fit(&shared)?;
        self.would_start(&shared, together).then(|| Change::ShareCpus {
            cpus: share,
            node: node.name.clone(),
        })
    }

    fn fewer_workers(&self, entry: &QueueEntry, together: u32) -> Option<Change> {
        let room = u32::try_from(self.room_for(entry)).unwrap_or(u32::MAX);
        let min = room.min(together.saturating_sub(1));
        (min > 0).then_some(Change::FewerWorkers { min })
    }

    fn ask_for_less(&self, entry: &QueueEntry, together: u32) -> Option<Change> {
        let mut best: Option<(u64, Change)> = None;
        for node in self.by_name() {
            if self.kept.contains_key(&node.id) {
                continue;
            }
            let Some((lost, less, request)) = reduced(entry, node, self.now) else {
                continue;
            };
            if best.as_ref().is_some_and(|(least, _)| *least <= lost) {
                continue;
            }
            let smaller = QueueEntry {
                request,
                ..entry.clone()
            };
            // One worker fits by the construction of the request; only a group has to be tried.
            if together == 1 || self.would_start(&smaller, together) {
                let node = node.name.clone();
                best = Some((lost, Change::AskForLess { request, less, node }));
            }
        }
        best.map(|(_, change)| change)
    }

    fn use_tier(&self, entry: &QueueEntry, together: u32) -> Option<Change> {
        let tier = match entry.tier {
            Tier::Standard => Tier::Burst,
            Tier::Burst => Tier::Standard,
        };
        let other = QueueEntry {
            tier,
            ..entry.clone()
        };
        self.would_start(&other, together)
            .then_some(Change::UseTier { tier })
    }

    fn resume_node(&self, entry: &QueueEntry, together: u32) -> Option<Change> {
        if together > 1 {
            return None;
        }
        self.by_name().into_iter().find_map(|node| {
            let found = self.blocks(node, entry);
            let only_drain = found.contains(ReasonCode::NodeDraining)
                && found.without(ReasonCode::NodeDraining).is_empty();
            only_drain.then(|| Change::ResumeNode {
                node: node.name.clone(),
            })
        })
    }

    fn first_fit(&self, entry: &QueueEntry) -> Option<&Node> {
        let fits = |node: &&Node| self.blocks(node, entry).is_empty();
        self.by_name().into_iter().find(fits)
    }
}

/// What would fit on a node whose only fault is too little room, and how much is lost, in thousandths.
fn reduced(entry: &QueueEntry, node: &Node, now: WallTime) -> Option<(u64, Less, WorkerRequest)> {
    let held = &node.held;
    let free = room(node, held, entry);
    let wants = entry.request;
    let cpus = match wants.cpus {
        CpuRequest::Exclusive(cpus) => {
            CpuRequest::Exclusive(cpus.min(u32::try_from(free.cpu.whole_cpus()).unwrap_or(u32::MAX)))
        }
        CpuRequest::Shared(share) => CpuRequest::Shared(writable_share(share.min(free.cpu))),
    };
    let memory = if wants.memory <= free.memory {
        wants.memory
    } else {
        Bytes::from_mib(free.memory.0 >> 20)
    };
    let request = WorkerRequest {
        cpus,
        memory,
        gpus: wants.gpus.min(free.gpus),
    };
    let empty = room_empty(node, entry);
    let parts = [
        (request.cpus.amount().0, wants.cpus.amount().0, empty.cpu.0),
        (request.memory.0, wants.memory.0, empty.memory.0 >> 20 << 20),
        (request.gpus.into(), wants.gpus.into(), empty.gpus.into()),
    ];
    let enough = |(now, before, empty): &(u64, u64, u64)| {
        now.saturating_mul(REDUCTION_MAX) >= *before || (*now > 0 && now >= empty)
    };
    let smaller = QueueEntry {
        request,
        ..entry.clone()
    };
    if request == wants || !parts.iter().all(enough) || !blocks(node, held, &smaller, now).is_empty() {
        return None;
    }
    let lost = |(now, before, _): &(u64, u64, u64)| {
        (before - now)
            .saturating_mul(1000)
            .checked_div(*before)
            .unwrap_or(0)
    };
    let less = Less {
        cpus: request.cpus != wants.cpus,
        memory: request.memory != wants.memory,
        gpus: request.gpus != wants.gpus,
    };
    Some((parts.iter().map(lost).sum(), less, request))
}

/// The largest share not above `amount` that may be written: not a whole number of CPUs.
fn writable_share(amount: MilliCpu) -> MilliCpu {
    if amount.0.is_multiple_of(1000) {
        amount.minus(MilliCpu(1))
    } else {
        amount
    }
}
