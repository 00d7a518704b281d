//! Which round follows which, and whether all of them fit into the time the owner allows.

use alloc::vec::Vec;

use loadline_model::Span;

use super::{Resource, Side};

/// Before each measured round: the antagonist gets going, connections are opened, caches settle. Not counted.
pub const WARM_UP: Span = Span::from_secs(1);
/// Between rounds: an antagonist is started or taken away. Only an estimate, for the time that a plan needs.
pub const TURN: Span = Span::from_secs(1);
/// Fewer pairs leave nothing to resample.
pub const PAIRS_MIN: u32 = 4;

const ROUNDS_MAX: u32 = 100;
const ROUND_MIN: Span = Span::from_secs(2);
const ROUND_MAX: Span = Span::from_secs(120);
/// A test is bounded, whatever is asked: production is watched by two programs meanwhile, not by people.
const LIMIT_MAX: Span = Span::from_secs(2 * 3600);

/// What the owner asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Which resources; one named twice is tried once.
    pub resources: Vec<Resource>,
    /// Pairs of rounds for each.
    pub rounds: u32,
    /// Length of a round.
    pub round: Span,
    /// The test ends after this, whatever is left.
    pub limit: Span,
}

/// One round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Whose pair it belongs to.
    pub resource: Resource,
    /// The pair, from 0.
    pub pair: u32,
    /// Whether the antagonist runs.
    pub side: Side,
}

/// Why it cannot be done as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlanProblem {
    /// No resource was named.
    #[error("no resource is named; name some of cpu, memory, cache, disk")]
    NoResource,
    /// Too few or too many rounds.
    #[error(
        "{0} rounds cannot be done: 1 to {ROUNDS_MAX} can, and {PAIRS_MIN} are the fewest that allow a verdict"
    )]
    Rounds(u32),
    /// Too short or too long a round.
    #[error("a round of {0} cannot be done: 2s to 120s can")]
    Round(Span),
    /// The owner allows more than is ever done.
    #[error("{0} is too long a test: 2h is the most; test fewer resources at once")]
    Limit(Span),
    /// It does not fit.
    #[error(
        "the test would take about {needed}, and {limit} is the limit: ask for fewer rounds or resources, or allow --limit {needed}"
    )]
    TooLong {
        /// What it would take.
        needed: Span,
        /// What is allowed.
        limit: Span,
    },
}

/// How long so many rounds take, with all that belongs to them.
pub fn time_needed(asked: &Asked, resources: u64) -> Span {
    let one = WARM_UP.plus(asked.round).plus(TURN);
    one.times(2 * u64::from(asked.rounds)).times(resources)
}

/// All rounds in order: resource by resource, so that what an aborted test has finished is whole; within one A B B A.
///
/// # Errors
/// When it cannot be done as asked.
pub fn schedule(asked: &Asked) -> Result<Vec<Step>, PlanProblem> {
    let wanted = |resource: &Resource| asked.resources.contains(resource);
    let resources: Vec<Resource> = Resource::ALL.into_iter().filter(wanted).collect();
    if resources.is_empty() {
        return Err(PlanProblem::NoResource);
    }
    if !(1..=ROUNDS_MAX).contains(&asked.rounds) {
        return Err(PlanProblem::Rounds(asked.rounds));
    }
    if !(ROUND_MIN..=ROUND_MAX).contains(&asked.round) {
        return Err(PlanProblem::Round(asked.round));
    }
    if asked.limit > LIMIT_MAX {
        return Err(PlanProblem::Limit(asked.limit));
    }
    let needed = time_needed(asked, resources.len() as u64);
    if needed > asked.limit {
        let limit = asked.limit;
        return Err(PlanProblem::TooLong { needed, limit });
    }
    let mut steps = Vec::new();
    for resource in resources {
        for pair in 0..asked.rounds {
            let order = if pair % 2 == 0 {
                [Side::Alone, Side::Lent]
            } else {
                [Side::Lent, Side::Alone]
            };
            steps.extend(order.map(|side| Step { resource, pair, side }));
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Asked {
        Asked {
            resources: vec![Resource::Disk, Resource::Cpu, Resource::Disk],
            rounds: 3,
            round: Span::from_secs(10),
            limit: Span::from_secs(600),
        }
    }

    #[test]
    fn rounds_take_turns_and_each_side_is_first_as_often_as_last() {
        let steps = schedule(&asked()).unwrap();
        let sides = |resource| -> Vec<Side> {
            let of = steps.iter().filter(|step| step.resource == resource);
            of.map(|step| step.side).collect()
        };
        use Side::{Alone, Lent};
        assert_eq!(sides(Resource::Cpu), [Alone, Lent, Lent, Alone, Alone, Lent]);
        assert_eq!(sides(Resource::Disk), sides(Resource::Cpu));
        assert_eq!(sides(Resource::Memory), []);
        assert_eq!(
            steps[0].resource,
            Resource::Cpu,
            "cpu first, however it was named"
        );
        assert_eq!(steps.iter().map(|step| step.pair).max(), Some(2));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_would() {
        // 2 resources, 3 pairs, 2 sides, 10 + 1 + 1 s: 144 s.
        let mut tight = asked();
        tight.limit = Span::from_secs(144);
        assert!(schedule(&tight).is_ok());
        tight.limit = Span::from_secs(143);
        let problem = schedule(&tight).unwrap_err();
        assert_eq!(
            problem,
            PlanProblem::TooLong {
                needed: Span::from_secs(144),
                limit: Span::from_secs(143)
            }
        );
        assert!(problem.to_string().contains("--limit 2m24s"), "{problem}");
        for (change, expected) in [
            (Asked { rounds: 0, ..asked() }, PlanProblem::Rounds(0)),
            (
                Asked {
                    rounds: 101,
                    ..asked()
                },
                PlanProblem::Rounds(101),
            ),
            (
                Asked {
                    round: Span::from_secs(1),
                    ..asked()
                },
                PlanProblem::Round(Span::from_secs(1)),
            ),
            (
                Asked {
                    limit: Span::from_secs(7201),
                    ..asked()
                },
                PlanProblem::Limit(Span::from_secs(7201)),
            ),
            (
                Asked {
                    resources: Vec::new(),
                    ..asked()
                },
                PlanProblem::NoResource,
            ),
        ] {
            assert_eq!(schedule(&change), Err(expected));
        }
    }

    #[test]
    fn the_default_fits_its_own_limit() {
        let default = Asked {
            resources: Resource::ALL.to_vec(),
            rounds: 5,
            ..asked()
        };
        assert_eq!(schedule(&default).map(|steps| steps.len()), Ok(40));
    }
}
