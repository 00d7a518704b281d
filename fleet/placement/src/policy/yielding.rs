//! Whose workers make room for a job that outranks them.
//!
//! Problem: standard work must not wait for burst, nor urgent work for patient work; but what is stopped has run for
//! nothing, and a job that is stopped again and again never ends. Approach: for each worker of the claimant the node
//! is sought where the least is lost, then everyone is spared whose going turns out not to be needed. If all of the
//! claimant cannot be placed that way, nobody goes.
//!
//! Terms: *rank*, tier, then priority; *extra*, workers that a job has beyond those it needs at once; *unit*, workers
//! that can only go together: all of a job that needs so many at once, or one worker that its job can do without;
//! *loss*, CPU and GPU time since the last saved state.
//!
//! Properties: who yields is of strictly lower rank, or is extra and of no higher rank; what is needed never yields to
//! its equals and what is extra never asks, so no two workers ever yield to each other. No job is left with fewer than
//! it needs: all of it goes or enough stays. No unit goes in vain; who has started is left alone for a while, each time
//! twice as long as before, so a job comes to its end however often it is chosen. Waiting beyond the patience changes
//! the order of the queue and not the rank: else who yielded would come back and take the room again.

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
    /// For whom its job can do without it never grows beyond this: the job goes on, and others wait for what it has too
    /// much.
    pub cool_down_extra: Span,
    /// By so much a priority has to be higher within one tier.
    pub priority_gap: u16,
}

impl Default for YieldRules {
    /// A minute, since an environment takes about as long to be ready; a day at most, since nobody outranks for ever; ten
    /// minutes for what is extra, as one who comes to a fleet that elastic jobs fill should not wait for long.
    fn default() -> Self {
        Self {
            cool_down: Span::from_secs(60),
            cool_down_max: Span::from_secs(24 * 3600),
            cool_down_extra: Span::from_secs(600),
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
    /// So many workers its job needs at once: with fewer all of them would have to go. None: each runs on its own.
    pub least: Option<u32>,
    /// So many of its job's workers are beyond that.
    pub extra: u32,
    /// It had waited beyond the patience when it began.
    pub aged: bool,
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
    /// The domain that the node lies in, by a number, and how many of the claimant's workers it may get in all; none:
    /// as many as fit.
    fn domain(&self) -> Option<(usize, u32)> {
        None
    }
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

/// A GPU's time weighs as much as that of so many CPUs: nodes lend a hundred CPUs to a few GPUs.
const GPU_IN_CPU: u128 = 16;

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
        if !search.take(node) {
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
    may_go_alone(victim, claimant, rules, now) || may_go_with_all(victim, claimant, rules, now)
}

/// Its job can do without it.
fn may_go_alone(victim: &Victim, claimant: &Claimant, rules: &YieldRules, now: WallTime) -> bool {
    let ran = now.since(victim.started);
    match victim.least {
        None => is_outranked(victim, claimant, rules) && ran >= rules.left_alone(victim.yielded),
        Some(_) => is_extra_for(victim, claimant) && ran >= rules.extra_left_alone(victim.yielded),
    }
}

/// It may if all of its job do.
fn may_go_with_all(victim: &Victim, claimant: &Claimant, rules: &YieldRules, now: WallTime) -> bool {
    let ran = now.since(victim.started);
    victim.least.is_some() && is_outranked(victim, claimant, rules) && ran >= rules.left_alone(victim.yielded)
}

/// The claimant's rank is higher: it gets what the other needs. Of a tier, nobody goes before whoever waited beyond the
/// patience, and so not after it has begun either.
fn is_outranked(victim: &Victim, claimant: &Claimant, rules: &YieldRules) -> bool {
    match (victim.tier, claimant.tier) {
        (Tier::Burst, Tier::Standard) => true,
        (Tier::Standard, Tier::Burst) => false,
        _ if victim.aged => false,
        _ => {
            let gap = i32::from(claimant.priority.0) - i32::from(victim.priority.0);
            gap >= i32::from(rules.priority_gap.max(1))
        }
    }
}

/// Its job has more than it needs, and the claimant, which has less, is of no lower rank.
fn is_extra_for(victim: &Victim, claimant: &Claimant) -> bool {
    let rank = |tier, priority| (Reverse(tier), priority);
    victim.extra > 0 && rank(victim.tier, victim.priority) <= rank(claimant.tier, claimant.priority)
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

    /// The same, where its job can do without it.
    #[must_use]
    pub fn extra_left_alone(&self, yielded: u32) -> Span {
        let most = self.cool_down_extra.max(self.cool_down);
        self.left_alone(yielded).min(most)
    }
}

/// Workers that can only go together.
struct Unit {
    /// By their places in the list of workers.
    places: Vec<usize>,
    /// One of the extra workers of this job.
    extra_of: Option<JobId>,
    cost: Cost,
}

struct Search<'a, R> {
    original: &'a [R],
    rooms: Vec<R>,
    workers: &'a [Victim],
    units: Vec<Unit>,
    by_node: BTreeMap<usize, Vec<usize>>,
    going: BTreeSet<usize>,
    /// The workers of those that go, by their places.
    gone: BTreeSet<usize>,
    /// How many more each job can do without.
    extra: BTreeMap<JobId, u32>,
    /// How many of the claimant's workers each domain has got.
    given: BTreeMap<usize, u32>,
}

/// Who can go: workers that their jobs can do without one by one, and whole jobs of lower rank. A job of which one
/// worker has just started stays, but for what it has too much.
fn units(
    claimant: &Claimant,
    rooms: usize,
    workers: &[Victim],
    rules: &YieldRules,
    now: WallTime,
) -> Vec<Unit> {
    let cost = |places: &[usize]| {
        let mut cost = Cost::default();
        cost.gangs += usize::from(places.len() > 1);
        for place in places {
            cost.add(&workers[*place], now);
        }
        cost
    };
    let mut wholes: BTreeMap<JobId, Vec<usize>> = BTreeMap::new();
    let mut units = Vec::new();
    for (place, victim) in workers.iter().enumerate() {
        if victim.least.is_some() {
            wholes.entry(victim.job).or_default().push(place);
        }
        if victim.node < rooms && may_go_alone(victim, claimant, rules, now) {
            let places = alloc::vec![place];
            units.push(Unit {
                cost: cost(&places),
                places,
                extra_of: victim.least.map(|_| victim.job),
            });
        }
    }
    let wholes = wholes.into_values().filter(|places| {
        let mut all = places.iter().map(|place| &workers[*place]);
        all.all(|victim| victim.node < rooms && may_go_with_all(victim, claimant, rules, now))
    });
    units.extend(wholes.map(|places| Unit {
        cost: cost(&places),
        places,
        extra_of: None,
    }));
    units
}

impl Cost {
    fn add(&mut self, victim: &Victim, now: WallTime) {
        let gpus = u128::from(victim.amounts.gpus) * 1000 + u128::from(victim.gpu_shares);
        let worth = u128::from(victim.amounts.cpu.0) + gpus * GPU_IN_CPU;
        let lost = now.since(victim.saved.max(victim.started));
        self.loss = self.loss.saturating_add(worth * u128::from(lost.0));
        self.rank = self.rank.max(Some((Reverse(victim.tier), victim.priority)));
        self.workers += 1;
    }

    fn plus(self, other: Self) -> Self {
        Self {
            rank: self.rank.max(other.rank),
            gangs: self.gangs + other.gangs,
            loss: self.loss.saturating_add(other.loss),
            workers: self.workers + other.workers,
        }
    }
}

impl<'a, R: NodeRoom> Search<'a, R> {
    fn new(
        claimant: &Claimant,
        rooms: &'a [R],
        workers: &'a [Victim],
        rules: &YieldRules,
        now: WallTime,
    ) -> Self {
        let units = units(claimant, rooms.len(), workers, rules, now);
        let mut by_node: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (number, unit) in units.iter().enumerate() {
            let nodes = unit.places.iter().map(|place| workers[*place].node);
            for node in nodes.collect::<BTreeSet<_>>() {
                by_node.entry(node).or_default().push(number);
            }
        }
        Self {
            original: rooms,
            rooms: rooms.to_vec(),
            workers,
            units,
            by_node,
            going: BTreeSet::new(),
            gone: BTreeSet::new(),
            extra: workers.iter().map(|victim| (victim.job, victim.extra)).collect(),
            given: BTreeMap::new(),
        }
    }

    fn cost(&self, units: &[usize]) -> Cost {
        let costs = units.iter().map(|unit| self.units[*unit].cost);
        costs.fold(Cost::default(), Cost::plus)
    }

    /// True if the node's domain may get one more.
    fn is_open(&self, node: usize) -> bool {
        let domain = self.rooms.get(node).and_then(NodeRoom::domain);
        domain.is_none_or(|(domain, most)| {
            self.given.get(&domain).is_none_or(|given| *given < most) && most > 0
        })
    }

    fn take(&mut self, node: usize) -> bool {
        let Some(room) = self.rooms.get_mut(node) else {
            return false;
        };
        if let Some((domain, _)) = room.domain() {
            *self.given.entry(domain).or_default() += 1;
        }
        room.take()
    }

    /// The node where one more worker costs least, and who has to go there; nobody where there is room.
    fn cheapest(&self) -> Option<(usize, Vec<usize>)> {
        let mut best: Option<(Cost, usize, Vec<usize>)> = None;
        for node in (0..self.rooms.len()).filter(|node| self.is_open(*node)) {
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
            for place in self.places_of(units) {
                let victim = &self.workers[place];
                if victim.node == node && !self.gone.contains(&place) {
                    room.give_back(victim);
                }
            }
            room.take()
        };
        if fits(&[]) {
            return Some(Vec::new());
        }
        let staying = self.staying(node);
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

    /// The units on a node that can still go, the cheapest first. All workers of a job ask for the same, so of what it has
    /// too much it is enough to know how many, and the cheapest stand for the others.
    fn staying(&self, node: usize) -> Vec<usize> {
        let on_node = self.by_node.get(&node).into_iter().flatten().copied();
        let mut staying: Vec<usize> = on_node.filter(|unit| !self.going.contains(unit)).collect();
        staying.sort_by_key(|unit| (self.units[*unit].cost, *unit));
        let mut spent: BTreeMap<JobId, u32> = BTreeMap::new();
        staying.retain(|unit| {
            let unit = &self.units[*unit];
            let Some(job) = unit.extra_of else { return true };
            let spent = spent.entry(job).or_default();
            *spent += 1;
            let left = self.extra.get(&job).copied().unwrap_or(0);
            *spent <= left && !unit.places.iter().all(|place| self.gone.contains(place))
        });
        staying
    }

    /// A worker can be among them alone and with its whole job.
    fn places_of<'u>(&self, units: impl IntoIterator<Item = &'u usize>) -> BTreeSet<usize> {
        let places = units.into_iter().flat_map(|unit| &self.units[*unit].places);
        places.copied().collect()
    }

    /// Lets units go, on all the nodes where they have workers.
    fn go(&mut self, units: &[usize]) {
        for unit in units.iter().filter(|unit| self.going.insert(**unit)) {
            let Unit { places, extra_of, .. } = &self.units[*unit];
            for place in places.iter().filter(|place| self.gone.insert(**place)) {
                let victim = &self.workers[*place];
                self.rooms[victim.node].give_back(victim);
            }
            if let Some(extra) = extra_of.and_then(|job| self.extra.get_mut(&job)) {
                *extra = extra.saturating_sub(1);
            }
        }
    }

    /// Spares every unit without which the claimant's workers still fit where they are: what went for a later
    /// worker may have made room for an earlier one too.
    fn spare(&mut self, nodes: &[usize]) {
        let mut going: Vec<usize> = self.going.iter().copied().collect();
        going.sort_by_key(|unit| Reverse((self.units[*unit].cost, *unit)));
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
        for place in self.places_of(&self.going) {
            let victim = &self.workers[place];
            if let Some(room) = rooms.get_mut(&victim.node) {
                room.give_back(victim);
            }
        }
        nodes
            .iter()
            .all(|node| rooms.get_mut(node).is_some_and(NodeRoom::take))
    }

    /// Ascending.
    fn victims(&self) -> Vec<usize> {
        self.places_of(&self.going).into_iter().collect()
    }
}
