//! What a job waits for: other jobs, and a time.
//!
//! Problem: a job that waits for itself through others waits for ever. Approach: a job may only wait for jobs that
//! are known or come with it, and a circle among those that come together is refused with its whole way. So no circle
//! ever gets in, and none has to be looked for later.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt;

pub use loadline_model::After;
use loadline_model::{JobId, JobOutcome, JobPhase, WallTime};
use serde::{Deserialize, Serialize};

/// One job to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dependency {
    /// Which.
    pub job: JobId,
    /// How it has to end.
    pub after: After,
}

/// All that a job waits for before it is placed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prerequisites {
    /// All of these.
    pub jobs: Vec<Dependency>,
    /// Not before this.
    pub start_after: Option<WallTime>,
}

/// Whether a job may start as far as others are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ready {
    /// Nothing holds it.
    Now,
    /// The first job that has not ended.
    On(Dependency),
    /// Its time has not come.
    At(WallTime),
    /// A job ended otherwise, or is not known any more: it will never start.
    Never(Dependency),
}

/// Why jobs with these dependencies are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DependencyProblem {
    /// They wait for each other; each for the next, the last for the first.
    #[error("{}: leave out one of these dependencies", Circle(.0))]
    Circle(Vec<JobId>),
    /// A job that nobody has submitted.
    #[error("job {job} waits for job {on}, which is not known: submit that one before it or with it")]
    Unknown {
        /// The job that waits.
        job: JobId,
        /// What it waits for.
        on: JobId,
    },
}

struct Circle<'a>(&'a [JobId]);

impl fmt::Display for Circle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.0.first();
        for (place, job) in self.0.iter().chain(first).enumerate() {
            match place {
                0 => write!(f, "job {job} waits for ")?,
                1 if self.0.len() == 1 => f.write_str("itself")?,
                1 => write!(f, "job {job}")?,
                _ => write!(f, ", which waits for job {job}")?,
            }
        }
        Ok(())
    }
}

impl Prerequisites {
    /// Whether the job may start; `phase` says where each other job stands, none for one that is not known.
    pub fn ready(&self, phase: impl Fn(JobId) -> Option<JobPhase>, now: WallTime) -> Ready {
        let mut waits = None;
        for dependency in &self.jobs {
            let ended = match phase(dependency.job) {
                Some(JobPhase::Done(outcome)) => Some(outcome),
                Some(JobPhase::Queued | JobPhase::Running) => None,
                None => return Ready::Never(*dependency),
            };
            let holds = ended.map(|outcome| match dependency.after {
                After::Ok => outcome == JobOutcome::Succeeded,
                After::Any => true,
                After::NotOk => outcome != JobOutcome::Succeeded,
            });
            match holds {
                Some(true) => {}
                Some(false) => return Ready::Never(*dependency),
                None => waits = waits.or(Some(*dependency)),
            }
        }
        match (waits, self.start_after) {
            (Some(dependency), _) => Ready::On(dependency),
            (None, Some(at)) if now < at => Ready::At(at),
            _ => Ready::Now,
        }
    }
}

/// Refuses jobs that come together and wait for each other in a circle, or for a job that nobody knows.
///
/// # Errors
/// The first circle found, its smallest job first, or the first unknown job.
pub fn check(
    coming: &BTreeMap<JobId, Prerequisites>,
    known: impl Fn(JobId) -> bool,
) -> Result<(), DependencyProblem> {
    for (job, prerequisites) in coming {
        for dependency in &prerequisites.jobs {
            let on = dependency.job;
            if !coming.contains_key(&on) && !known(on) {
                return Err(DependencyProblem::Unknown { job: *job, on });
            }
        }
    }
    let mut cleared: BTreeSet<JobId> = BTreeSet::new();
    for job in coming.keys() {
        walk(coming, *job, &mut cleared)?;
    }
    Ok(())
}

/// Depth first, without recursion: a chain may be as long as an array has tasks.
fn walk(
    coming: &BTreeMap<JobId, Prerequisites>,
    from: JobId,
    cleared: &mut BTreeSet<JobId>,
) -> Result<(), DependencyProblem> {
    let mut way: Vec<(JobId, usize)> = alloc::vec![(from, 0)];
    let mut on_the_way: BTreeSet<JobId> = [from].into_iter().collect();
    while let Some((job, next)) = way.last_mut() {
        let dependency = coming.get(job).and_then(|waits| waits.jobs.get(*next));
        *next += 1;
        let Some(dependency) = dependency else {
            cleared.insert(*job);
            on_the_way.remove(job);
            way.pop();
            continue;
        };
        let on = dependency.job;
        if on_the_way.contains(&on) {
            let circle = way.iter().map(|(job, _)| *job).skip_while(|job| *job != on);
            return Err(DependencyProblem::Circle(circle.collect()));
        }
        if !cleared.contains(&on) {
            on_the_way.insert(on);
            way.push((on, 0));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    fn job(number: u8) -> JobId {
        let mut bytes = [0; 16];
        bytes[15] = number;
        JobId::from_slice(&bytes).unwrap()
    }

    fn after(on: &[(u8, After)]) -> Prerequisites {
        let jobs = on.iter().map(|(on, after)| Dependency {
            job: job(*on),
            after: *after,
        });
        Prerequisites {
            jobs: jobs.collect(),
            start_after: None,
        }
    }

    fn coming(edges: &[(u8, u8)]) -> BTreeMap<JobId, Prerequisites> {
        let mut coming: BTreeMap<JobId, Prerequisites> = BTreeMap::new();
        for (from, to) in edges {
            coming.entry(job(*to)).or_default();
            let jobs = &mut coming.entry(job(*from)).or_default().jobs;
            jobs.extend(after(&[(*to, After::Ok)]).jobs);
        }
        coming
    }

    #[test]
    fn a_circle_is_refused_with_its_whole_way() {
        let problem = check(&coming(&[(1, 2), (2, 3), (3, 2)]), |_| false).unwrap_err();
        assert_eq!(problem, DependencyProblem::Circle(alloc::vec![job(2), job(3)]));
        let short = problem
            .to_string()
            .replace("00000000-0000-0000-0000-0000000000", "");
        assert_eq!(
            short,
            "job 02 waits for job 03, which waits for job 02: leave out one of these dependencies"
        );
        let itself = check(&coming(&[(1, 1)]), |_| false).unwrap_err().to_string();
        assert!(
            itself.ends_with("waits for itself: leave out one of these dependencies"),
            "{itself}"
        );
    }

    #[test]
    fn an_unknown_job_is_refused_and_a_known_one_is_not() {
        let alone: BTreeMap<_, _> = [(job(1), after(&[(9, After::Any)]))].into_iter().collect();
        assert_eq!(
            check(&alone, |_| false),
            Err(DependencyProblem::Unknown {
                job: job(1),
                on: job(9)
            })
        );
        assert_eq!(check(&alone, |on| on == job(9)), Ok(()));
    }

    #[test]
    fn each_way_to_end_frees_or_dooms_who_waits() {
        let done = |outcome| move |_: JobId| Some(JobPhase::Done(outcome));
        let now = WallTime(0);
        let ready = |kind, outcome| after(&[(1, kind)]).ready(done(outcome), now) == Ready::Now;
        let outcomes = [JobOutcome::Succeeded, JobOutcome::Failed, JobOutcome::Cancelled];
        assert_eq!(
            outcomes.map(|outcome| ready(After::Ok, outcome)),
            [true, false, false]
        );
        assert_eq!(
            outcomes.map(|outcome| ready(After::Any, outcome)),
            [true, true, true]
        );
        assert_eq!(
            outcomes.map(|outcome| ready(After::NotOk, outcome)),
            [false, true, true]
        );
        let running = |_: JobId| Some(JobPhase::Running);
        assert!(matches!(
            after(&[(1, After::Ok)]).ready(running, now),
            Ready::On(_)
        ));
        assert!(matches!(
            after(&[(1, After::Any)]).ready(|_| None, now),
            Ready::Never(_)
        ));
        let later = Prerequisites {
            start_after: Some(WallTime(5)),
            ..Prerequisites::default()
        };
        assert_eq!(later.ready(running, now), Ready::At(WallTime(5)));
        assert_eq!(later.ready(running, WallTime(5)), Ready::Now);
    }

    proptest! {
        /// Oracle: take away whoever waits for nobody, until nobody is left; who is left lies on or before a circle.
        #[test]
        fn circles_are_found_exactly_where_they_are(edges in prop::collection::vec((0u8..12, 0u8..12), 0..24)) {
            let all = coming(&edges);
            let mut left = edges.clone();
            while let Some(free) = left.iter().map(|(_, to)| *to).find(|to| left.iter().all(|(from, _)| from != to)) {
                left.retain(|(_, to)| *to != free);
            }
            match check(&all, |_| false) {
                Ok(()) => prop_assert!(left.is_empty()),
                Err(DependencyProblem::Circle(circle)) => {
                    let next = circle.iter().cycle().skip(1);
                    for (from, to) in circle.iter().zip(next) {
                        prop_assert!(all[from].jobs.iter().any(|on| on.job == *to), "{:?}", circle);
                    }
                }
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }
}
