//! The driver: events in order, a scheduler at each, and what came of it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use loadline_model::{Span, Tier, WallTime};

use crate::policy::Priority;

/// A job of a load: what its user says, and what will happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimJob {
    /// When it is submitted.
    pub submitted: WallTime,
    /// How long it will run; no scheduler may look.
    pub runs: Span,
    /// How long its user says it may run, at least as long as it does.
    pub asked: Span,
    /// How many processors it needs, all at once.
    pub processors: u32,
    /// Who submitted it.
    pub user: String,
    /// The team that pays.
    pub team: String,
    /// Its tier.
    pub tier: Tier,
    /// Its priority.
    pub priority: Priority,
}

/// Jobs for a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Load {
    /// How many processors the machine has.
    pub processors: u32,
    /// In order of submission.
    pub jobs: Vec<SimJob>,
}

/// A job that runs, by its place in the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// Which.
    pub job: usize,
    /// Since when.
    pub since: WallTime,
}

/// Something that decides who starts.
pub trait Scheduler {
    /// A job has ended by itself, after so long.
    fn ended(&mut self, load: &Load, job: usize, ran: Span, now: WallTime) {
        let _ = (load, job, ran, now);
    }

    /// When it wants to be asked although nothing comes or ends; later than `now`.
    fn wake(&self, now: WallTime) -> Option<WallTime> {
        let _ = now;
        None
    }

    /// Who starts now, of `waiting` (in order of submission); they must fit beside what runs.
    fn decide(&mut self, load: &Load, waiting: &[usize], running: &[Running], now: WallTime) -> Vec<usize>;
}

/// What came of a load.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// When each job started, in the order of the load; none: never, since the scheduler let it wait for ever.
    pub started: Vec<Option<WallTime>>,
    /// How often the scheduler was asked.
    pub decisions: usize,
}

/// Nothing has come or ended for so long: what waits still will never start.
const PATIENCE: Span = Span::from_secs(60 * 24 * 3600);

/// Runs a load through a scheduler until nothing is left to happen. A start that does not fit is left out, and so shows
/// as a job that never started.
pub fn simulate(load: &Load, scheduler: &mut dyn Scheduler) -> Outcome {
    let mut outcome = Outcome {
        started: alloc::vec![None; load.jobs.len()],
        decisions: 0,
    };
    let mut arrivals = load.jobs.iter().enumerate().peekable();
    let mut ends: BTreeSet<(WallTime, usize)> = BTreeSet::new();
    let mut waiting: Vec<usize> = Vec::new();
    let mut running: BTreeMap<usize, WallTime> = BTreeMap::new();
    let mut free = load.processors;
    let mut wake: Option<WallTime> = None;
    let mut last = WallTime(0);
    loop {
        let arrival = arrivals.peek().map(|(_, job)| job.submitted);
        let end = ends.first().map(|(end, _)| *end);
        let happens = arrival.into_iter().chain(end).min();
        let wakes = wake.filter(|wake| !waiting.is_empty() && *wake <= last.plus(PATIENCE));
        let Some(now) = happens.into_iter().chain(wakes).min() else {
            return outcome;
        };
        last = happens.filter(|at| *at == now).unwrap_or(last);
        while let Some((end, job)) = ends.first().copied()
            && end <= now
        {
            ends.pop_first();
            running.remove(&job);
            free += load.jobs[job].processors;
            scheduler.ended(load, job, load.jobs[job].runs, now);
        }
        while let Some((place, _)) = arrivals.next_if(|(_, job)| job.submitted <= now) {
            waiting.push(place);
        }
        let list: Vec<Running> = running
            .iter()
            .map(|(job, since)| Running {
                job: *job,
                since: *since,
            })
            .collect();
        outcome.decisions += 1;
        for job in scheduler.decide(load, &waiting, &list, now) {
            let needed = load.jobs[job].processors;
            if needed > free || outcome.started[job].is_some() {
                continue;
            }
            free -= needed;
            outcome.started[job] = Some(now);
            running.insert(job, now);
            ends.insert((now.plus(load.jobs[job].runs), job));
        }
        waiting.retain(|job| outcome.started[*job].is_none());
        wake = scheduler.wake(now).filter(|wake| *wake > now);
    }
}

/// Shorter jobs count as this long in a slowdown: a second's wait of a second's job is nobody's trouble.
const BOUND: Span = Span::from_secs(10);

impl Outcome {
    /// The mean bounded slowdown in thousandths: (waited + ran) by what it ran, at least ten seconds, and at least one
    /// (Feitelson and Rudolph, JSSPP 1998). None if a job never started.
    #[must_use]
    pub fn slowdown(&self, load: &Load) -> Option<u64> {
        let mut sum: u128 = 0;
        for (job, started) in load.jobs.iter().zip(&self.started) {
            let took = u128::from(started.as_ref()?.since(job.submitted).0) + u128::from(job.runs.0);
            let bound = u128::from(job.runs.max(BOUND).0);
            sum += (took * 1000 / bound).max(1000);
        }
        let mean = sum / (self.started.len() as u128).max(1);
        u64::try_from(mean).ok()
    }

    /// The part of the machine that was used between the first and the last submission, in millionths: what comes
    /// after that is the end of the experiment and not of anybody's queue.
    #[must_use]
    pub fn utilisation(&self, load: &Load) -> Option<u64> {
        let (first, last) = (load.jobs.first()?.submitted, load.jobs.last()?.submitted);
        let mut used: u128 = 0;
        for (job, started) in load.jobs.iter().zip(&self.started) {
            let Some(started) = started else { continue };
            let from = (*started).max(first);
            let until = started.plus(job.runs).min(last);
            used += u128::from(until.since(from).0) * u128::from(job.processors);
        }
        let all = u128::from(last.since(first).0) * u128::from(load.processors);
        u64::try_from(used * 1_000_000 / all.max(1)).ok()
    }

    /// The longest wait.
    #[must_use]
    pub fn wait_max(&self, load: &Load) -> Option<Span> {
        let waits = load.jobs.iter().zip(&self.started);
        waits
            .map(|(job, started)| started.map(|started| started.since(job.submitted)))
            .collect::<Option<Vec<Span>>>()?
            .into_iter()
            .max()
    }
}
