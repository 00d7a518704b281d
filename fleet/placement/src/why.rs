//! Reasons of one job, gathered over all nodes and put into sentences.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use loadline_model::{Amounts, Bytes, CpuRequest, MilliCpu};

use crate::blocks::{blocks, room, room_empty, wants_exclusive};
use crate::planner::Books;
use crate::queue::QueueEntry;
use crate::report::{Reason, ReasonCode, Why};
use crate::snapshot::{HeldByTier, Node};

/// Names of nodes in one reason.
const EXAMPLES_MAX: usize = 3;

type Kept<'a> = BTreeMap<ReasonCode, Vec<(&'a Node, &'a HeldByTier)>>;

impl Books<'_> {
    /// Why `together` workers of the job do not start now.
    pub(crate) fn why(&self, entry: &QueueEntry, together: u32) -> Why {
        let mut kept: Kept<'_> = BTreeMap::new();
        let (mut considered, mut fitting, mut passes) = (0u32, 0u32, false);
        for (node, held) in self.iter() {
            let found = blocks(node, held, entry, self.now);
            if found.contains(ReasonCode::NodeBanned) && entry.nodes.is_empty() {
                continue;
            }
            considered = considered.saturating_add(1);
            if found.is_empty() {
                fitting = fitting.saturating_add(1);
            }
            passes |= found.all_pass();
            for code in ReasonCode::ALL.into_iter().filter(|code| found.contains(*code)) {
                kept.entry(code).or_default().push((node, held));
            }
        }
        if fitting > 0 {
            return self.fits_somewhere(entry, together, considered, fitting);
        }
        let mut reasons: Vec<Reason> = ReasonCode::ALL
            .into_iter()
            .filter_map(|code| Some(reason(code, kept.get_mut(&code)?, entry, considered)))
            .collect();
        reasons.splice(0..0, self.missing_nodes(entry, considered));
        let change = self.cheapest_change(entry, together);
        Why {
            reasons,
            change,
            passes,
            considered,
        }
    }

    /// Some node has room for one worker: either the job is next in line, or its group does not fit.
    fn fits_somewhere(&self, entry: &QueueEntry, together: u32, considered: u32, fitting: u32) -> Why {
        if self.would_start(entry, together) {
            return Why {
                reasons: Vec::new(),
                change: None,
                passes: true,
                considered,
            };
        }
        let sentence =
            format!("there is room for some of the {together} workers that start together, not for all");
        let mut names: Vec<String> = self
            .iter()
            .filter(|(node, held)| blocks(node, held, entry, self.now).is_empty())
            .map(|(node, _)| node.name.clone())
            .collect();
        names.sort_unstable();
        names.truncate(EXAMPLES_MAX);
        let reason = Reason {
            code: ReasonCode::NotAllTogether,
            sentence,
            nodes: fitting,
            examples: names,
        };
        let change = self.cheapest_change(entry, together);
        Why {
            reasons: Vec::from([reason]),
            change,
            passes: true,
            considered,
        }
    }

    fn missing_nodes(&self, entry: &QueueEntry, considered: u32) -> Option<Reason> {
        let known = |name: &&String| self.nodes.iter().any(|node| node.name == **name);
        let unknown: Vec<&String> = entry.nodes.iter().filter(|name| !known(name)).collect();
        let (code, sentence) = match unknown.as_slice() {
            [] if considered == 0 => (ReasonCode::NoNodes, "the fleet has no node yet".to_string()),
            [] => return None,
            [one] => (
                ReasonCode::NodeUnknown,
                format!("the fleet has no node named {one}"),
            ),
            many => (
                ReasonCode::NodeUnknown,
                format!("the fleet has none of {} nodes that the job names", many.len()),
            ),
        };
        Some(Reason {
            code,
            sentence,
            nodes: u32::try_from(unknown.len()).unwrap_or(u32::MAX),
            examples: unknown.into_iter().take(EXAMPLES_MAX).cloned().collect(),
        })
    }
}

fn reason(
    code: ReasonCode,
    kept: &mut [(&Node, &HeldByTier)],
    entry: &QueueEntry,
    considered: u32,
) -> Reason {
    kept.sort_by(|(a, _), (b, _)| (&a.name, a.id).cmp(&(&b.name, b.id)));
    let nodes = u32::try_from(kept.len()).unwrap_or(u32::MAX);
    let all = nodes == considered;
    Reason {
        code,
        sentence: sentence(code, kept, entry, all),
        nodes,
        examples: kept
            .iter()
            .take(EXAMPLES_MAX)
            .map(|(node, _)| node.name.clone())
            .collect(),
    }
}

/// `n1 is` or `3 nodes are`, for sentences about the state of nodes.
fn subject(kept: &[(&Node, &HeldByTier)], one: &str, many: &str) -> String {
    match kept {
        [(node, _)] => format!("{} {one}", node.name),
        nodes => format!("{} nodes {many}", nodes.len()),
    }
}

fn sentence(code: ReasonCode, kept: &[(&Node, &HeldByTier)], entry: &QueueEntry, all: bool) -> String {
    use ReasonCode as C;
    match code {
        C::CpusBeyondLine | C::MemoryBeyondLine | C::GpusBeyondLine => beyond(code, kept, entry, all),
        C::CpusBusy | C::MemoryBusy | C::GpusBusy => busy(code, kept, entry),
        C::NoNodes => "the fleet has no node yet".into(),
        C::NodeUnknown => "the job names a node that the fleet does not have".into(),
        C::NotAllTogether => "the workers that start together do not all fit".into(),
        C::NodeNotSelected => subject(
            kept,
            "is not among the nodes the job names",
            "are not among those the job names",
        ),
        C::NodeBanned => subject(kept, "is banned", "are banned"),
        C::NodeRefused => subject(kept, "refused this job for good", "refused this job for good"),
        C::NodeRefusedForNow => subject(kept, "refused this job for now", "refused this job for now"),
        C::NodeDraining => subject(kept, "is being drained", "are being drained"),
        C::NodeSilent => subject(
            kept,
            "has not been heard of for a while",
            "have not been heard of for a while",
        ),
        C::NodeLost => subject(kept, "is lost (silent for long)", "are lost (silent for long)"),
        C::NodeNeverSeen => subject(
            kept,
            "has joined but never connected",
            "have joined but never connected",
        ),
        C::NodeLendsNothing => subject(kept, "lends nothing at present", "lend nothing at present"),
        C::TeamNotAllowed if entry.team.is_empty() => subject(
            kept,
            "lends only to certain teams, and you are in none",
            "lend only to certain teams, and you are in none",
        ),
        C::TeamNotAllowed => {
            let team = &entry.team;
            subject(
                kept,
                &format!("does not lend to team {team}"),
                &format!("do not lend to team {team}"),
            )
        }
        C::ExclusiveCpusUnsupported => subject(
            kept,
            "shares its CPUs and gives none for exclusive use",
            "share their CPUs and give none for exclusive use",
        ),
    }
}

/// One resource of a request, in words.
struct Amount {
    wanted: String,
    of: fn(&Amounts) -> u64,
    unit: fn(u64, bool) -> String,
}

fn amount(code: ReasonCode, entry: &QueueEntry) -> Amount {
    let cpus = |millis: u64, whole: bool| {
        if whole {
            (millis / 1000).to_string()
        } else {
            MilliCpu(millis).to_string()
        }
    };
    match code {
        ReasonCode::MemoryBeyondLine | ReasonCode::MemoryBusy => Amount {
            wanted: format!("{} of memory", entry.request.memory),
            of: |amounts| amounts.memory.0,
            unit: |bytes, _| Bytes(bytes).to_string(),
        },
        ReasonCode::GpusBeyondLine | ReasonCode::GpusBusy => Amount {
            wanted: count(entry.request.gpus, "GPU"),
            of: |amounts| amounts.gpus.into(),
            unit: |gpus, _| gpus.to_string(),
        },
        _ => Amount {
            wanted: match entry.request.cpus {
                CpuRequest::Exclusive(n) => count(n, "CPU"),
                CpuRequest::Shared(share) => format!("{share} of CPU"),
            },
            of: |amounts| amounts.cpu.0,
            unit: cpus,
        },
    }
}

fn count(number: u32, what: &str) -> String {
    if number == 1 {
        format!("1 {what}")
    } else {
        format!("{number} {what}s")
    }
}

/// The node with the most of a resource, the first by name among equals.
fn most<'a>(kept: &[(&'a Node, &HeldByTier)], value: impl Fn(&Node, &HeldByTier) -> u64) -> (&'a str, u64) {
    let mut best: (&str, u64) = ("", 0);
    for (node, held) in kept {
        let value = value(node, held);
        if best.0.is_empty() || value > best.1 {
            best = (&node.name, value);
        }
    }
    best
}

fn beyond(code: ReasonCode, kept: &[(&Node, &HeldByTier)], entry: &QueueEntry, all: bool) -> String {
    let amount = amount(code, entry);
    let (name, largest) = most(kept, |node, _| (amount.of)(&room_empty(node, entry)));
    let wanted = &amount.wanted;
    let largest = (amount.unit)(largest, wants_exclusive(entry));
    match kept {
        [_] if !all => format!("{name} lends at most {largest}, and a worker wants {wanted}"),
        _ if all => format!("a worker wants {wanted}, and the largest node, {name}, lends {largest}"),
        _ => format!(
            "{} nodes lend less than {wanted} (the largest of them, {name}, {largest})",
            kept.len()
        ),
    }
}

fn busy(code: ReasonCode, kept: &[(&Node, &HeldByTier)], entry: &QueueEntry) -> String {
    let amount = amount(code, entry);
    let (name, free) = most(kept, |node, held| (amount.of)(&room(node, held, entry)));
    let wanted = &amount.wanted;
    let free = (amount.unit)(free, wants_exclusive(entry));
    match kept {
        [_] => format!("a worker wants {wanted}, and {name} has {free} left to lend"),
        _ => format!(
            "a worker wants {wanted}, and on {} nodes that is taken (most left: {free} on {name})",
            kept.len()
        ),
    }
}
