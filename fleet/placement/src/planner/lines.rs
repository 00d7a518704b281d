//! The queue, in lines of jobs that wait for the same thing.
//!
//! Of each line only the first job is tried: if there is no room for it there is none for those behind it. Lines
//! that found no room rest until room appears, so a queue that stands still costs nothing.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use loadline_model::{JobId, Needs, Tier, WallTime, WorkerRequest};

use crate::engine::ShapeIx;
use crate::planner::together;
use crate::queue::{QueueEntry, Refusal, Start, Ties, Wanted};

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
    /// By name; empty: all.
    pub(crate) nodes: Vec<String>,
    pub(crate) refusals: Vec<Refusal>,
    /// How many must start at once.
    pub(crate) together: u32,
}

/// When a job's turn comes, and which it is.
pub(crate) type Turn = (WallTime, JobId);

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

/// Until when lines without room rest: what the engine counted as freed, and what was known of names and teams.
pub(crate) type Mark = (u64, u64);

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
    jobs: BTreeMap<JobId, (u64, WallTime)>,
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
        if let Some((number, at)) = known {
            let line = self.lines.get(&number);
            let same = line.filter(|line| line.kind == kind && at == entry.submitted_at);
            let wanted = same.and_then(|line| line.jobs.get(&(at, entry.job)));
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
        self.insert(kind, (entry.submitted_at, entry.job), entry.wanted.clone(), fresh);
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
        self.jobs.insert(turn.1, (number, turn.0));
    }

    /// Forgets a job; false if it was not known.
    pub(crate) fn remove(&mut self, job: JobId) -> bool {
        let Some((number, at)) = self.jobs.remove(&job) else {
            return false;
        };
        let Some(line) = self.lines.get_mut(&number) else {
            return true;
        };
        line.jobs.remove(&(at, job));
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

    /// The first jobs of the lines that are to be tried, each with the number of its line.
    pub(crate) fn heads(&mut self, phase: Phase, mark: Mark) -> BTreeSet<(Turn, u64)> {
        let lot = self.lots.entry(phase).or_default();
        if lot.since != mark {
            lot.since = mark;
            lot.ready.append(&mut lot.resting);
        }
        let heads = lot.ready.iter().filter_map(|number| {
            let turn = self.lines.get(number)?.jobs.keys().next()?;
            Some((*turn, *number))
        });
        heads.collect()
    }

    /// The first job of a line.
    pub(crate) fn head(&self, number: u64) -> Option<(Turn, u64)> {
        let turn = self.lines.get(&number)?.jobs.keys().next()?;
        Some((*turn, number))
    }

    pub(crate) fn line(&mut self, number: u64) -> Option<&mut Line> {
        self.lines.get_mut(&number)
    }

    /// What a job of a line wants now: of which kind, how many, and whether all of them or none.
    pub(crate) fn wants(&self, number: u64, turn: Turn) -> Option<(Arc<Kind>, (usize, bool))> {
        let line = self.lines.get(&number)?;
        let wanted = line.jobs.get(&turn)?;
        let needed = usize::try_from(wanted.needed).unwrap_or(usize::MAX);
        let group = if line.kind.phase.extra {
            (wanted.missing.len(), false)
        } else {
            (needed.min(wanted.missing.len()), wanted.start == Start::Together)
        };
        Some((Arc::clone(&line.kind), group))
    }

    /// A line found no room: it rests until there is some.
    pub(crate) fn rest(&mut self, number: u64) {
        if let Some(line) = self.lines.get(&number)
            && let Some(lot) = self.lots.get_mut(&line.kind.phase)
        {
            lot.ready.remove(&number);
            lot.resting.insert(number);
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
            self.remove(turn.1);
        } else if wanted.needed == 0 && !kind.phase.extra {
            let wanted = wanted.clone();
            self.remove(turn.1);
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

    /// A job as it was told, less what was planned since; but for who submitted it.
    pub(crate) fn entry(&self, job: JobId) -> Option<QueueEntry> {
        let (number, at) = *self.jobs.get(&job)?;
        let line = self.lines.get(&number)?;
        Some(line.entry((at, job), line.jobs.get(&(at, job))?))
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
    fn of(entry: &QueueEntry) -> Self {
        let QueueEntry {
            job: _,
            tier,
            submitted_at: _,
            request,
            wanted,
            user: _,
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
            nodes: nodes.clone(),
            refusals: refusals.clone(),
            together: together(entry),
        }
    }
}

impl Kind {
    /// A job of the kind, to ask where one could go.
    pub(crate) fn probe(&self, job: JobId) -> QueueEntry {
        let wanted = Wanted {
            missing: Vec::new(),
            needed: 1,
            start: Start::OneByOne,
        };
        self.entry((WallTime(0), job), &wanted)
    }

    fn entry(&self, (submitted_at, job): Turn, wanted: &Wanted) -> QueueEntry {
        let Self {
            phase,
            request,
            team,
            needs,
            ties,
            nodes,
            refusals,
            together: _,
        } = self;
        QueueEntry {
            job,
            tier: phase.tier,
            submitted_at,
            request: *request,
            wanted: wanted.clone(),
            user: String::new(),
            team: team.clone(),
            needs: Arc::clone(needs),
            ties: ties.clone(),
            nodes: nodes.clone(),
            refusals: refusals.clone(),
        }
    }
}

impl Line {
    fn entry(&self, turn: Turn, wanted: &Wanted) -> QueueEntry {
        self.kind.entry(turn, wanted)
    }
}
