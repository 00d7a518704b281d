//! Whose workers make room for a job that outranks them.
//!
//! Problem: standard work must not wait for burst, nor urgent work for patient work; but what is stopped has run for
//! nothing, and a job that is stopped again and again never ends. Approach: for each worker of the claimant the node
//! is sought where the least is lost, then everyone is spared whose going turns out not to be needed. If all of the
//! claimant cannot be placed that way, nobody goes.
//!
//! Terms: *rank*, tier, then priority; *unit*, workers that can only go together: a gang that needs all of them, or one
//! worker that its job can do without; *loss*, CPU and GPU time since the last saved state.
//!
//! Properties: who yields is of strictly lower rank, so no two jobs ever yield to each other; no unit goes in vain;
//! who has started is left alone for a while, each time twice as long as before, so a job comes to its end however
//! often it is chosen. Waiting beyond the patience changes the order of the queue and not the rank: else who yielded
//! would come back and take the room again.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::cmp::Reverse;

use loadline_model::{Amounts, Bytes, JobId, Span, Tier, WallTime};
use serde::{Deserialize, Serialize};

use crate::policy::Priority;

/// What the operators decide about yielding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct YieldRules {
    /// Who has started is left alone for so long; twice as long after each time it yielded.
    pub cool_down: Span,
    /// It never grows beyond this.
    pub cool_down_max: Span,
    /// By so much a priority has to be higher within one tier.
    pub priority_gap: u16,
}

impl Default for YieldRules {
    /// A minute, since an environment takes about as long to be ready; a day at most, since nobody outranks for ever.
    fn default() -> Self {
        Self {
            cool_down: Span::from_secs(60),
            cool_down_max: Span::from_secs(24 * 3600),
            priority_gap: 1,
        }
    }
}

/// A worker that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Victim {
    /// Whose.
    pub job: JobId,
    /// Which of it.
    pub worker: u32,
    /// On which node, by its place in the list of rooms.
    pub node: usize,
    /// Its job's tier.
    pub tier: Tier,
    /// Its job's priority.
    pub priority: Priority,
    /// What it would give back.
    pub amounts: Amounts,
    /// Of which whole CPUs for exclusive use.
    pub whole_cpus: u32,
    /// Of a share of a GPU so many thousandths; not among the whole ones.
    pub gpu_shares: u32,
    /// Space on disks.
    pub scratch: Bytes,
    /// When its attempt began.
    pub started: WallTime,
    /// Its last saved state; its start where it saves none.
    pub saved: WallTime,
    /// How often its job has yielded before.
    pub yielded: u32,
    /// Its job ends with it: all its workers would have to go.
    pub gang: bool,
}

/// Who wants room, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimant {
    /// Its tier.
    pub tier: Tier,
    /// Its priority.
    pub priority: Priority,
    /// How many workers; all or none.
    pub workers: u32,
}

/// What one node has left, for the claimant's demand.
pub trait NodeRoom: Clone {
    /// A worker has gone.
    fn give_back(&mut self, victim: &Victim);
    /// Books one of the claimant's workers, if it fits.
    fn take(&mut self) -> bool;
}

/// Who has to go, and where the claimant's workers then fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Yielded {
    /// By their places in the list of workers, ascending.
    pub victims: Vec<usize>,
    /// The node of each of the claimant's workers, by its place in the list of rooms. The room is theirs: whoever takes
    /// it meanwhile makes the victims go in vain.
    pub nodes: Vec<usize>,
}

/// What it costs to let units go; compared from the first to the last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    /// The highest rank among them: burst before standard, then the lower priority.
    rank: Option<Rank>,
    gangs: usize,
    /// Thousandths of a CPU and of a GPU's hundred, times microseconds.
    loss: u128,
    workers: usize,
}

type Rank = (Reverse<Tier>, Priority);

/// A GPU's time weighs as much as that of so many thousandths of a CPU: nodes lend a hundred CPUs to a few GPUs.
const GPU_IN_MILLI_CPU: u128 = 16_000;

/// Chooses who makes room; none if not all of the claimant can be placed.
#[must_use]
pub fn choose<R: NodeRoom>(
    claimant: &Claimant,
    rooms: &[R],
    workers: &[Victim],
    rules: &YieldRules,
    now: WallTime,
) -> Option<Yielded> {
    let mut search = Search::new(claimant, rooms, workers, rules, now);
    let mut nodes = Vec::new();
    for _ in 0..claimant.workers {
        let (node, units) = search.cheapest()?;
        search.go(&units);
        if !search.rooms.get_mut(node)?.take() {
            return None;
        }
        nodes.push(node);
    }
    search.spare(&nodes);
    Some(Yielded {
        victims: search.victims(),
        nodes,
    })
}

/// True if a worker may be asked to yield to the claimant at all.
#[must_use]
pub fn may_yield(victim: &Victim, claimant: &Claimant, rules: &YieldRules, now: WallTime) -> bool {
    let outranked = match (victim.tier, claimant.tier) {
        (Tier::Burst, Tier::Standard) => true,
        (Tier::Standard, Tier::Burst) => false,
        _ => {
            let gap = i32::from(claimant.priority.0) - i32::from(victim.priority.0);
            gap >= i32::from(rules.priority_gap.max(1))
        }
    };
    outranked && now.since(victim.started) >= rules.left_alone(victim.yielded)
}

impl YieldRules {
    /// How long an attempt is left alone whose job has yielded so often before.
    #[must_use]
    pub fn left_alone(&self, yielded: u32) -> Span {
        let times = 1u64.checked_shl(yielded).unwrap_or(u64::MAX);
        self.cool_down
            .times(times)
            .min(self.cool_down_max.max(self.cool_down))
    }
}

struct Search<'a, R> {
    original: &'a [R],
    rooms: Vec<R>,
    workers: &'a [Victim],
    /// Workers by their places, all of one unit.
    units: Vec<Vec<usize>>,
    by_node: BTreeMap<usize, Vec<usize>>,
    going: BTreeSet<usize>,
    now: WallTime,
}

impl<'a, R: NodeRoom> Search<'a, R> {
    fn new(
        claimant: &Claimant,
        rooms: &'a [R],
        workers: &'a [Victim],
        rules: &YieldRules,
        now: WallTime,
    ) -> Self {
        let mut gangs: BTreeMap<JobId, Vec<usize>> = BTreeMap::new();
        let mut units: Vec<Vec<usize>> = Vec::new();
        for (place, victim) in workers.iter().enumerate() {
            if victim.gang {
                gangs.entry(victim.job).or_default().push(place);
            } else {
                units.push(alloc::vec![place]);
            }
        }
        units.extend(gangs.into_values());
        // A gang of which one worker may not go stays whole.
        units.retain(|unit| {
            unit.iter().all(|place| {
                workers[*place].node < rooms.len() && may_yield(&workers[*place], claimant, rules, now)
            })
        });
        let mut by_node: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (unit, places) in units.iter().enumerate() {
            for node in places
                .iter()
                .map(|place| workers[*place].node)
                .collect::<BTreeSet<_>>()
            {
                by_node.entry(node).or_default().push(unit);
            }
        }
        Self {
            original: rooms,
            rooms: rooms.to_vec(),
            workers,
            units,
            by_node,
            going: BTreeSet::new(),
            now,
        }
    }

    fn cost<'u>(&self, units: impl IntoIterator<Item = &'u usize>) -> Cost {
        let mut cost = Cost::default();
        for unit in units {
            let places = &self.units[*unit];
            cost.gangs += usize::from(places.len() > 1);
            for victim in places.iter().map(|place| &self.workers[*place]) {
                let worth =
                    u128::from(victim.amounts.cpu.0) + u128::from(victim.amounts.gpus) * GPU_IN_MILLI_CPU;
                let lost = self.now.since(victim.saved.max(victim.started));
                cost.loss = cost.loss.saturating_add(worth * u128::from(lost.0));
                cost.rank = cost.rank.max(Some((Reverse(victim.tier), victim.priority)));
                cost.workers += 1;
            }
        }
        cost
    }

    /// The node where one more worker costs least, and who has to go there; nobody where there is room.
    fn cheapest(&self) -> Option<(usize, Vec<usize>)> {
        let mut best: Option<(Cost, usize, Vec<usize>)> = None;
        for node in 0..self.rooms.len() {
            let Some(units) = self.needed_on(node) else {
                continue;
            };
            let cost = self.cost(&units);
            if best.as_ref().is_none_or(|(least, ..)| cost < *least) {
                best = Some((cost, node, units));
            }
        }
        best.map(|(_, node, units)| (node, units))
    }

    /// The units that have to go from a node, the dearest of them spared where that is possible.
    fn needed_on(&self, node: usize) -> Option<Vec<usize>> {
        let fits = |units: &[usize]| {
            let mut room = self.rooms[node].clone();
            self.victims_on(units, node)
                .for_each(|victim| room.give_back(victim));
            room.take()
        };
        if fits(&[]) {
            return Some(Vec::new());
        }
        let on_node = self.by_node.get(&node)?;
        let mut staying: Vec<usize> = on_node
            .iter()
            .copied()
            .filter(|unit| !self.going.contains(unit))
            .collect();
        staying.sort_by_key(|unit| (self.cost([unit]), *unit));
        let enough = (1..=staying.len()).find(|count| fits(&staying[..*count]))?;
        let mut needed = staying[..enough].to_vec();
        for unit in staying[..enough].iter().rev() {
            let without: Vec<usize> = needed.iter().copied().filter(|other| other != unit).collect();
            if fits(&without) {
                needed = without;
            }
        }
        Some(needed)
    }

    fn victims_on<'u>(&'u self, units: &'u [usize], node: usize) -> impl Iterator<Item = &'u Victim> {
        units
            .iter()
            .flat_map(|unit| &self.units[*unit])
            .map(|place| &self.workers[*place])
            .filter(move |victim| victim.node == node)
    }

    /// Lets units go, on all the nodes where they have workers.
    fn go(&mut self, units: &[usize]) {
        for unit in units {
            if self.going.insert(*unit) {
                for victim in self.units[*unit].iter().map(|place| &self.workers[*place]) {
                    self.rooms[victim.node].give_back(victim);
                }
            }
        }
    }

    /// Spares every unit without which the claimant's workers still fit where they are: what went for a later
    /// worker may have made room for an earlier one too.
    fn spare(&mut self, nodes: &[usize]) {
        let mut going: Vec<usize> = self.going.iter().copied().collect();
        going.sort_by_key(|unit| Reverse((self.cost([unit]), *unit)));
        for unit in going {
            self.going.remove(&unit);
            if !self.all_fit(nodes) {
                self.going.insert(unit);
            }
        }
    }

    fn all_fit(&self, nodes: &[usize]) -> bool {
        let mut rooms: BTreeMap<usize, R> = BTreeMap::new();
        for node in nodes {
            let original = &self.original[*node];
            rooms.entry(*node).or_insert_with(|| original.clone());
        }
        for place in self.going.iter().flat_map(|unit| &self.units[*unit]) {
            let victim = &self.workers[*place];
            if let Some(room) = rooms.get_mut(&victim.node) {
                room.give_back(victim);
            }
        }
        nodes
            .iter()
            .all(|node| rooms.get_mut(node).is_some_and(NodeRoom::take))
    }

    fn victims(&self) -> Vec<usize> {
        let mut victims: Vec<usize> = self
            .going
            .iter()
            .flat_map(|unit| self.units[*unit].iter().copied())
            .collect();
        victims.sort_unstable();
        victims
    }
}
