//! The driver: events in order. A world is the fleet with its planner, or a machine with somebody else's scheduler.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use loadline_model::{Span, WallTime};

use crate::sim::fleet::Fleet;
use crate::sim::load::{Load, Outcome};
use crate::sim::work::{Happened, Work};

/// Something in which jobs come and end.
trait World {
    /// When something ends next.
    fn next_end(&self) -> Option<WallTime>;

    /// When it wants to be asked although nothing comes or ends.
    fn wake(&self) -> Option<WallTime>;

    /// It is that time, and of what is submitted these have just come, by their places.
    fn happen(&mut self, now: WallTime, came: core::ops::Range<usize>);
}

/// Nothing has come or ended for so long: what waits still will never start.
const PATIENCE: Span = Span::from_secs(60 * 24 * 3600);

/// Goes on until nothing is left to happen. `arrivals` are in order.
fn run(arrivals: &[WallTime], world: &mut dyn World) {
    let mut came = 0;
    let Some(mut last) = arrivals.first().copied() else {
        return;
    };
    loop {
        let happens = arrivals
            .get(came)
            .copied()
            .into_iter()
            .chain(world.next_end())
            .min();
        let wakes = world.wake().filter(|wake| *wake <= last.plus(PATIENCE));
        let Some(now) = happens.into_iter().chain(wakes).min() else {
            return;
        };
        last = happens.filter(|at| *at <= now).unwrap_or(last);
        let here = arrivals[came..].partition_point(|at| *at <= now);
        world.happen(now, came..came + here);
        came += here;
    }
}

/// Hears of all that happens at a step, one after the other, and then that it is over.
pub type Tell<'t> = &'t mut dyn FnMut(&Fleet, Option<&Happened>);

/// Jobs come to a fleet at their times, which ascend, until nothing is left to happen.
pub fn play(fleet: &mut Fleet, work: &[(WallTime, Work)], tell: Tell<'_>) {
    struct Played<'p> {
        fleet: &'p mut Fleet,
        work: &'p [(WallTime, Work)],
        tell: Tell<'p>,
    }

    impl World for Played<'_> {
        fn next_end(&self) -> Option<WallTime> {
            self.fleet.next_end()
        }

        fn wake(&self) -> Option<WallTime> {
            self.fleet.wake()
        }

        fn happen(&mut self, now: WallTime, came: core::ops::Range<usize>) {
            self.fleet.go_to(now);
            for (_, work) in &self.work[came] {
                self.fleet.submit(work.clone());
            }
            for happened in self.fleet.step() {
                (self.tell)(self.fleet, Some(&happened));
            }
            (self.tell)(self.fleet, None);
        }
    }

    let arrivals: Vec<WallTime> = work.iter().map(|(at, _)| *at).collect();
    run(&arrivals, &mut Played { fleet, work, tell });
}

/// A job that runs, by its place in the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// Which.
    pub job: usize,
    /// Since when.
    pub since: WallTime,
}

/// Somebody else's rules of who starts.
pub trait Scheduler {
    /// Who starts now, of `waiting` (in order of submission); they must fit beside what runs.
    fn decide(&mut self, load: &Load, waiting: &[usize], running: &[Running], now: WallTime) -> Vec<usize>;
}

/// A machine of equal processors.
struct Machine<'m> {
    load: &'m Load,
    scheduler: &'m mut dyn Scheduler,
    outcome: Outcome,
    ends: BTreeSet<(WallTime, usize)>,
    waiting: Vec<usize>,
    running: BTreeMap<usize, WallTime>,
    free: u32,
}

impl World for Machine<'_> {
    fn next_end(&self) -> Option<WallTime> {
        self.ends.first().map(|(end, _)| *end)
    }

    fn wake(&self) -> Option<WallTime> {
        None
    }

    fn happen(&mut self, now: WallTime, came: core::ops::Range<usize>) {
        while let Some((end, job)) = self.ends.first().copied()
            && end <= now
        {
            self.ends.pop_first();
            self.running.remove(&job);
            self.free += self.load.jobs[job].processors;
        }
        self.waiting.extend(came);
        let running = self.running.iter().map(|(job, since)| Running {
            job: *job,
            since: *since,
        });
        let running: Vec<Running> = running.collect();
        self.outcome.decisions += 1;
        for job in self.scheduler.decide(self.load, &self.waiting, &running, now) {
            let needed = self.load.jobs[job].processors;
            if needed > self.free || self.outcome.started[job].is_some() {
                continue;
            }
            self.free -= needed;
            let end = now.plus(self.load.jobs[job].runs);
            self.outcome.started[job] = Some(now);
            self.outcome.ran[job] = Some((now, end));
            self.running.insert(job, now);
            self.ends.insert((end, job));
        }
        self.waiting.retain(|job| self.outcome.started[*job].is_none());
    }
}

/// Runs a load through somebody else's scheduler until nothing is left to happen. A start that does not fit is left
/// out, and so shows as a job that never started.
pub fn simulate(load: &Load, scheduler: &mut dyn Scheduler) -> Outcome {
    let mut machine = Machine {
        load,
        scheduler,
        outcome: Outcome {
            started: alloc::vec![None; load.jobs.len()],
            ran: alloc::vec![None; load.jobs.len()],
            decisions: 0,
        },
        ends: BTreeSet::new(),
        waiting: Vec::new(),
        running: BTreeMap::new(),
        free: load.processors,
    };
    let arrivals: Vec<WallTime> = load.jobs.iter().map(|job| job.submitted).collect();
    run(&arrivals, &mut machine);
    machine.outcome
}
