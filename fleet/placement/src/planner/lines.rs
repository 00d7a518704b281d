//! The queue, in lines of jobs that wait for the same thing.
//!
//! Of each line only the first job is tried: if there is no room for it there is none for those behind it. Lines
//! that found no room rest until room appears, so a queue that stands still costs nothing.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use loadline_model::{JobId, Needs, Priority, Span, Tier, WallTime, WorkerRequest};

use crate::engine::ShapeIx;
use crate::planner::together;
use crate::queue::{QueueEntry, Refusal, Ties, Wanted};

/// What is tried together: all of standard before burst, as what it takes on top of its needs would push burst over
/// its line again; and needs before wishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Phase {
    pub(crate) tier: Tier,
    /// What elastic jobs would like on top of what they need.
    pub(crate) extra: bool,
}

impl Phase {
    pub(crate) const ALL: [Self; 4] = [
        Self::new(Tier::Standard, false),
        Self::new(Tier::Standard, true),
        Self::new(Tier::Burst, false),
        Self::new(Tier::Burst, true),
    ];

    const fn new(tier: Tier, extra: bool) -> Self {
        Self { tier, extra }
    }
}

/// What decides where a worker can go: jobs of one kind wait for the same reasons.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(crate) phase: Phase,
    pub(crate) request: WorkerRequest,
    pub(crate) team: String,
    pub(crate) needs: Arc<Needs>,
    pub(crate) ties: Option<Arc<Ties>>,
    pub(crate) user: String,
    pub(crate) priority: Priority,
    pub(crate) time: Option<Span>,
    pub(crate) grace: Span,
    /// By name; empty: all.
    pub(crate) nodes: Vec<String>,
    pub(crate) refusals: Vec<Refusal>,
    /// How many must start at once.
    pub(crate) together: u32,
}

/// When a job's turn comes among equals, and which it is: by number, whatever the wall clock did meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn {
    pub(crate) number: u64,
    pub(crate) submitted_at: WallTime,
    pub(crate) job: JobId,
}

impl Turn {
    const fn of(entry: &QueueEntry) -> Self {
        Self {
            number: entry.number,
            submitted_at: entry.submitted_at,
            job: entry.job,
        }
    }
}

/// Jobs of one kind.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) kind: Arc<Kind>,
    jobs: BTreeMap<Turn, Wanted>,
    /// Of the kind, once it was asked for, and what was known of names and teams then.
    pub(crate) shape: Option<(ShapeIx, u64)>,
    /// Workers that the engine has not counted as asked for.
    pub(crate) unlearnt: u32,
}

/// Until when lines rest that could not start: what the engine counted as freed, what was known of names and teams,
/// and how often anything else has turned that could let them start.
pub(crate) type Mark = (u64, u64, u64);

/// The lines of one phase.
#[derive(Debug, Clone, Default)]
struct Lot {
    ready: BTreeSet<u64>,
    resting: BTreeSet<u64>,
    since: Mark,
}

/// All lines.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines {
    lines: BTreeMap<u64, Line>,
    next: u64,
    numbers: BTreeMap<Arc<Kind>, u64>,
    jobs: BTreeMap<JobId, (u64, Turn)>,
    lots: BTreeMap<Phase, Lot>,
}

impl Lines {
    /// Takes over what is said of a job; false if it is what was known.
    pub(crate) fn put(&mut self, entry: &QueueEntry) -> bool {
        let known = self.jobs.get(&entry.job).copied();
        if entry.wanted.missing.is_empty() {
            return known.is_some() && self.remove(entry.job);
        }
        let kind = Arc::new(Kind::of(entry));
        if let Some((number, turn)) = known {
            let line = self.lines.get(&number);
            let same = line.filter(|line| line.kind == kind && turn == Turn::of(entry));
            let wanted = same.and_then(|line| line.jobs.get(&turn));
            if wanted == Some(&entry.wanted) {
                return false;
            }
            self.remove(entry.job);
        }
        let fresh = if known.is_none() {
            u32::try_from(entry.wanted.missing.len()).unwrap_or(u32::MAX)
        } else {
            0
        };
        self.insert(kind, Turn::of(entry), entry.wanted.clone(), fresh);
        true
    }

    fn insert(&mut self, kind: Arc<Kind>, turn: Turn, wanted: Wanted, fresh: u32) {
        let Self {
            lines,
            next,
            numbers,
            lots,
            ..
        } = self;
        let phase = kind.phase;
        let number = *numbers.entry(Arc::clone(&kind)).or_insert_with(|| {
            *next += 1;
            lots.entry(phase).or_default().ready.insert(*next);
            *next
        });
        let line = lines.entry(number).or_insert_with(|| Line {
            kind,
            jobs: BTreeMap::new(),
            shape: None,
            unlearnt: 0,
        });
        line.jobs.insert(turn, wanted);
        line.unlearnt = line.unlearnt.saturating_add(fresh);
        self.jobs.insert(turn.job, (number, turn));
    }

    /// Forgets a job; false if it was not known.
    pub(crate) fn remove(&mut self, job: JobId) -> bool {
        let Some((number, turn)) = self.jobs.remove(&job) else {
            return false;
        };
        let Some(line) = self.lines.get_mut(&number) else {
            return true;
        };
        line.jobs.remove(&turn);
        if line.jobs.is_empty() {
            let kind = Arc::clone(&line.kind);
            self.lines.remove(&number);
            self.numbers.remove(&kind);
            if let Some(lot) = self.lots.get_mut(&kind.phase) {
                lot.ready.remove(&number);
                lot.resting.remove(&number);
            }
        }
        true
    }

    /// The lines of a phase that are to be tried.
    pub(crate) fn ready(&mut self, phase: Phase, mark: Mark) -> Vec<u64> {
        let lot = self.lots.entry(phase).or_default();
        if lot.since != mark {
            lot.since = mark;
            lot.ready.append(&mut lot.resting);
        }
        lot.ready.iter().copied().collect()
    }

    /// True if a line is to be tried.
    pub(crate) fn is_ready(&self, number: u64) -> bool {
        let lot = self
            .lines
            .get(&number)
            .and_then(|line| self.lots.get(&line.kind.phase));
        lot.is_some_and(|lot| lot.ready.contains(&number))
    }

    /// The first job of a line.
    pub(crate) fn head(&self, number: u64) -> Option<(Turn, &Kind, &Wanted)> {
        let line = self.lines.get(&number)?;
        let (turn, wanted) = line.jobs.first_key_value()?;
        Some((*turn, &line.kind, wanted))
    }

    /// The job of a line that comes after one of it.
    pub(crate) fn after(&self, number: u64, turn: Turn) -> Option<(Turn, &Kind, &Wanted)> {
        let line = self.lines.get(&number)?;
        let from = (core::ops::Bound::Excluded(turn), core::ops::Bound::Unbounded);
        let (turn, wanted) = line.jobs.range(from).next()?;
        Some((*turn, &line.kind, wanted))
    }

    /// The numbers of all lines.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.lines.keys().copied()
    }

    pub(crate) fn is_extra(&self, number: u64) -> bool {
        self.lines.get(&number).is_some_and(|line| line.kind.phase.extra)
    }

    pub(crate) fn line(&mut self, number: u64) -> Option<&mut Line> {
        self.lines.get_mut(&number)
    }

    /// Lines that could not start: they rest until something turns.
    pub(crate) fn rest(&mut self, mut numbers: Vec<u64>) {
        numbers.sort_unstable();
        for (phase, lot) in &mut self.lots {
            let lines = &self.lines;
            let here = |number: &u64| lines.get(number).is_some_and(|line| line.kind.phase == *phase);
            let mut resting: BTreeSet<u64> = numbers.iter().copied().filter(here).collect();
            // One after the other costs more than all at once, if they are many.
            if resting.len() * 8 < lot.ready.len() {
                for number in &resting {
                    lot.ready.remove(number);
                }
            } else {
                lot.ready.retain(|number| !resting.contains(number));
            }
            lot.resting.append(&mut resting);
        }
    }

    /// Takes the first so many missing workers of a job. One that has all it needs goes on to its wishes.
    pub(crate) fn take(&mut self, number: u64, turn: Turn, count: usize) -> Vec<u32> {
        let Some(line) = self.lines.get_mut(&number) else {
            return Vec::new();
        };
        let kind = Arc::clone(&line.kind);
        let Some(wanted) = line.jobs.get_mut(&turn) else {
            return Vec::new();
        };
        let taken: Vec<u32> = wanted.missing.drain(..count.min(wanted.missing.len())).collect();
        let done = u32::try_from(taken.len()).unwrap_or(u32::MAX);
        wanted.needed = wanted.needed.saturating_sub(done);
        if wanted.missing.is_empty() {
            self.remove(turn.job);
        } else if wanted.needed == 0 && !kind.phase.extra {
            let wanted = wanted.clone();
            self.remove(turn.job);
            let phase = Phase::new(kind.phase.tier, true);
            let wishes = Kind {
                phase,
                together: 1,
                ..(*kind).clone()
            };
            self.insert(Arc::new(wishes), turn, wanted, 0);
        }
        taken
    }

    /// The shapes that are waited for.
    pub(crate) fn shapes(&self) -> BTreeSet<ShapeIx> {
        let shapes = self.lines.values().filter_map(|line| line.shape);
        shapes.map(|(shape, _)| shape).collect()
    }

    pub(crate) fn line_of(&self, job: JobId) -> Option<u64> {
        self.jobs.get(&job).map(|(number, _)| *number)
    }

    /// A job's turn and kind.
    pub(crate) fn turn_of(&self, job: JobId) -> Option<(Turn, &Kind)> {
        let (number, turn) = self.jobs.get(&job)?;
        Some((*turn, &self.lines.get(number)?.kind))
    }

    /// A job as it was told, less what was planned since.
    pub(crate) fn entry(&self, job: JobId) -> Option<QueueEntry> {
        let (number, turn) = *self.jobs.get(&job)?;
        let line = self.lines.get(&number)?;
        Some(line.entry(turn, line.jobs.get(&turn)?))
    }

    /// All jobs, each with the number of its line.
    pub(crate) fn entries(&self) -> Vec<(u64, QueueEntry)> {
        let each = |(number, line): (&u64, &Line)| {
            let jobs = line.jobs.iter();
            let entries = jobs.map(|(turn, wanted)| (*number, line.entry(*turn, wanted)));
            entries.collect::<Vec<_>>()
        };
        self.lines.iter().flat_map(each).collect()
    }
}

impl Kind {
    /// How long each of its workers may run, its farewell included.
    pub(crate) fn limit(&self) -> Option<Span> {
        self.time.map(|time| time.plus(self.grace))
    }

    pub(crate) fn of(entry: &QueueEntry) -> Self {
        let QueueEntry {
            job: _,
            number: _,
            tier,
            priority,
            submitted_at: _,
            time,
            grace,
            request,
            wanted,
            user,
            team,
            needs,
            ties,
            nodes,
            refusals,
        } = entry;
        Self {
            phase: Phase::new(*tier, wanted.needed == 0),
            request: *request,
            team: team.clone(),
            needs: Arc::clone(needs),
            ties: ties.clone(),
            user: user.clone(),
            priority: *priority,
            time: *time,
            grace: *grace,
            nodes: nodes.clone(),
            refusals: refusals.clone(),
            together: together(entry),
        }
    }
}

impl Line {
    fn entry(&self, turn: Turn, wanted: &Wanted) -> QueueEntry {
        let Turn {
            number,
            submitted_at,
            job,
        } = turn;
        let Kind {
            phase,
            request,
            team,
            needs,
            ties,
            user,
            priority,
            time,
            grace,
            nodes,
            refusals,
            together: _,
        } = &*self.kind;
        QueueEntry {
            job,
            number,
            tier: phase.tier,
            priority: *priority,
            submitted_at,
            time: *time,
            grace: *grace,
            request: *request,
            wanted: wanted.clone(),
            user: user.clone(),
            team: team.clone(),
            needs: Arc::clone(needs),
            ties: ties.clone(),
            nodes: nodes.clone(),
            refusals: refusals.clone(),
        }
    }
}
