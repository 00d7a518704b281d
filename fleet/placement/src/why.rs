//! Reasons of one job, gathered over all nodes and put into sentences.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use loadline_model::{Bytes, CpuRequest, MilliCpu};

use crate::blocks::{Blocks, room, room_empty, scratch, wants_exclusive};
use crate::planner::{Books, about};
use crate::queue::QueueEntry;
use crate::report::{Reason, ReasonCode, Why};
use crate::snapshot::{HeldByTier, Node};

mod constraints;

/// Names of nodes in one reason.
const EXAMPLES_MAX: usize = 3;

type Kept<'a> = BTreeMap<ReasonCode, Vec<(&'a Node, &'a HeldByTier)>>;

impl Books<'_> {
    /// Why `together` workers of the job do not start now.
    pub(crate) fn why(&self, entry: &QueueEntry, together: u32) -> Why {
        let entry = &self.resolved(entry);
        let mut kept: Kept<'_> = BTreeMap::new();
        let (mut considered, mut fitting) = (0u32, 0u32);
        let mut nearest: Option<(&Node, Blocks)> = None;
        for (node, held) in self.iter() {
            let found = self.blocks(node, entry);
            if found.contains(ReasonCode::NodeBanned) && entry.nodes.is_empty() {
                continue;
            }
            considered = considered.saturating_add(1);
            if found.is_empty() {
                fitting = fitting.saturating_add(1);
            }
            for code in ReasonCode::ALL.into_iter().filter(|code| found.contains(*code)) {
                kept.entry(code).or_default().push((node, held));
            }
            if nearest
                .is_none_or(|(best, blocks)| (found.distance(), &node.name) < (blocks.distance(), &best.name))
            {
                nearest = Some((node, found));
            }
        }
        if fitting > 0 {
            return self.fits_somewhere(entry, together, considered, fitting);
        }
        let nearest = nearest.map_or(Blocks::NONE, |(_, blocks)| blocks);
        let mut reasons: Vec<Reason> = self.missing_nodes(entry, considered).into_iter().collect();
        let (mut first, mut rest) = (Vec::new(), Vec::new());
        for code in ReasonCode::ALL {
            let list = if nearest.contains(code) {
                &mut first
            } else {
                &mut rest
            };
            list.extend(kept.get_mut(&code).map(|nodes| match code {
                ReasonCode::KeptForOthers => self.kept_for_others(nodes),
                _ => reason(code, nodes, entry, considered),
            }));
        }
        reasons.append(&mut first);
        reasons.append(&mut rest);
        let beyond = self.beyond_fleet(entry, together);
        let passes = beyond.is_none() && !nearest.is_empty() && nearest.all_pass();
        if let Some(sentence) = beyond {
            reasons.insert(0, gang_beyond(sentence, 0, Vec::new()));
        }
        Why {
            reasons,
            change: self.cheapest_change(entry, together),
            passes,
            considered,
            expected: None,
            before: 0,
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
                expected: None,
                before: 0,
            };
        }
        let mut names: Vec<String> = self
            .iter()
            .filter(|(node, _)| self.blocks(node, entry).is_empty())
            .map(|(node, _)| node.name.clone())
            .collect();
        names.sort_unstable();
        names.truncate(EXAMPLES_MAX);
        let (passes, reason) = match self.beyond_fleet(entry, together) {
            Some(sentence) => (false, gang_beyond(sentence, fitting, names)),
            None => {
                let sentence = format!(
                    "there is room for some of the {together} workers that start together, not for all"
                );
                let reason = Reason {
                    code: ReasonCode::NotAllTogether,
                    sentence,
                    nodes: fitting,
                    examples: names,
                };
                (true, reason)
            }
        };
        let change = self.cheapest_change(entry, together);
        Why {
            reasons: Vec::from([reason]),
            change,
            passes,
            considered,
            expected: None,
            before: 0,
        }
    }

    /// That no end of other work will ever make room for all workers that start together.
    fn beyond_fleet(&self, entry: &QueueEntry, together: u32) -> Option<String> {
        if together < 2 {
            return None;
        }
        let most = self.room_when_empty(entry);
        // Where not even one has room, what is said of the nodes says why.
        (1..together.into()).contains(&most).then(|| {
            format!("even with no other work there is room for {most} of the {together} workers that start together")
        })
    }

    /// Nodes that have room, for someone else.
    fn kept_for_others(&self, kept: &mut [(&Node, &HeldByTier)]) -> Reason {
        kept.sort_by(|(a, _), (b, _)| (&a.name, a.id).cmp(&(&b.name, b.id)));
        let first = kept.first().and_then(|(node, _)| self.kept.get(&node.id));
        let (number, starts_in) = first.map_or((0, None), |kept| (kept.number, kept.starts_in));
        let when = match starts_in {
            Some(span) => format!("is expected to start in {}", about(span)),
            None => "starts when others have ended".to_string(),
        };
        let have = subject(kept, "has room", "have room");
        Reason {
            code: ReasonCode::KeptForOthers,
            sentence: format!("{have}, kept for job {number}, which {when}"),
            nodes: u32::try_from(kept.len()).unwrap_or(u32::MAX),
            examples: kept
                .iter()
                .take(EXAMPLES_MAX)
                .map(|(node, _)| node.name.clone())
                .collect(),
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

fn gang_beyond(sentence: String, nodes: u32, examples: Vec<String>) -> Reason {
    Reason {
        code: ReasonCode::GangBeyondFleet,
        sentence,
        nodes,
        examples,
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
        C::NotAllTogether | C::GangBeyondFleet => "the workers that start together do not all fit".into(),
        C::ScratchBeyondLine => beyond(code, kept, entry, all),
        C::ScratchBusy => busy(code, kept, entry),
        C::LabelsUnmet
        | C::TaintNotTolerated
        | C::GpuTooSmall
        | C::NumaTooSmall
        | C::SpreadFull
        | C::NotNear
        | C::TooNear => constraints::sentence(code, kept, entry, all),
        // Not of nodes, or told where more is known.
        C::KeptForOthers | C::QuotaReached | C::WindowShut | C::BehindOthers => code.word().into(),
        C::NodeNotSelected => subject(
            kept,
            "is not among the nodes the job names",
            "are not among those the job names",
        ),
        C::NodeBanned => subject(kept, "is banned", "are banned"),
        C::NodeRefused => refused(kept, entry, "for good"),
        C::NodeRefusedForNow => refused(kept, entry, "for now"),
        C::NodeDraining => subject(kept, "is being drained", "are being drained"),
        C::NodeSilent => subject(
            kept,
            "has not been heard of for a while",
            "have not been heard of for a while",
        ),
        C::NodeLost => subject(kept, "is lost (silent for long)", "are lost (silent for long)"),
        C::NodeUnattended => subject(
            kept,
            "takes no orders: its warden does not answer",
            "take no orders: their wardens do not answer",
        ),
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
    empty: fn(&Node, &QueueEntry) -> u64,
    now: fn(&Node, &HeldByTier, &QueueEntry) -> u64,
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
            empty: |node, entry| room_empty(node, entry).memory.0,
            now: |node, held, entry| room(node, held, entry).memory.0,
            unit: |bytes, _| Bytes(bytes).to_string(),
        },
        ReasonCode::ScratchBeyondLine | ReasonCode::ScratchBusy => Amount {
            wanted: format!("{} of scratch space", entry.needs.scratch),
            empty: |node, _| scratch(node, &HeldByTier::default()).0.0,
            now: |node, held, _| scratch(node, held).1.0,
            unit: |bytes, _| Bytes(bytes).to_string(),
        },
        ReasonCode::GpusBeyondLine | ReasonCode::GpusBusy => Amount {
            wanted: match entry.needs.gpu_share {
                Some(share) => format!("{share} of a GPU"),
                None => count(entry.request.gpus, "GPU"),
            },
            empty: |node, entry| room_empty(node, entry).gpus.into(),
            now: |node, held, entry| room(node, held, entry).gpus.into(),
            unit: |gpus, _| gpus.to_string(),
        },
        _ => Amount {
            wanted: match entry.request.cpus {
                CpuRequest::Exclusive(n) => count(n, "CPU"),
                CpuRequest::Shared(share) => format!("{share} of CPU"),
            },
            empty: |node, entry| room_empty(node, entry).cpu.0,
            now: |node, held, entry| room(node, held, entry).cpu.0,
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

fn refused(kept: &[(&Node, &HeldByTier)], entry: &QueueEntry, how: &str) -> String {
    let said = |node: &Node| {
        let mine = entry.refusals.iter().filter(|refusal| refusal.node == node.id);
        let wanted = mine.filter(|refusal| refusal.until.is_none() == (how == "for good"));
        wanted
            .map(|refusal| refusal.why.as_str())
            .next_back()
            .unwrap_or("")
    };
    match kept {
        [] => String::new(),
        [(node, _)] => format!("{} refused this job {how}: {}", node.name, said(node)),
        [(first, _), ..] => {
            format!(
                "{} nodes refused this job {how}, {} because: {}",
                kept.len(),
                first.name,
                said(first)
            )
        }
    }
}

fn beyond(code: ReasonCode, kept: &[(&Node, &HeldByTier)], entry: &QueueEntry, all: bool) -> String {
    let amount = amount(code, entry);
    let (name, largest) = most(kept, |node, _| (amount.empty)(node, entry));
    let wanted = &amount.wanted;
    let shown = (amount.unit)(largest, wants_exclusive(entry));
    match kept {
        _ if all && largest == 0 => format!("a worker wants {wanted}, and no node lends any"),
        _ if all => format!("a worker wants {wanted}, and the largest node, {name}, lends {shown}"),
        [_] if largest == 0 => format!("{name} lends none of what a worker wants, {wanted}"),
        [_] => format!("{name} lends at most {shown}, and a worker wants {wanted}"),
        _ if largest == 0 => format!("{} nodes lend none of what a worker wants, {wanted}", kept.len()),
        _ => format!(
            "{} nodes lend less than {wanted} (the largest of them, {name}, {shown})",
            kept.len()
        ),
    }
}

fn busy(code: ReasonCode, kept: &[(&Node, &HeldByTier)], entry: &QueueEntry) -> String {
    let amount = amount(code, entry);
    let (name, free) = most(kept, |node, held| (amount.now)(node, held, entry));
    let wanted = &amount.wanted;
    let shown = (amount.unit)(free, wants_exclusive(entry));
    match kept {
        [_] if free == 0 => format!("a worker wants {wanted}, and {name} has none left to lend"),
        [_] => format!("a worker wants {wanted}, and {name} has {shown} left to lend"),
        _ if free == 0 => format!(
            "a worker wants {wanted}, and {} nodes have none left to lend",
            kept.len()
        ),
        _ => {
            let nodes = kept.len();
            format!(
                "a worker wants {wanted}, and {nodes} nodes have less left to lend (at most {shown}, on {name})"
            )
        }
    }
}
