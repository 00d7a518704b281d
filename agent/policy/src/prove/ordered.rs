//! A test that the fleet orders: may it begin, is it the same one again, and how did it end.
//!
//! **Problem.** The fleet says what it wants at least once and perhaps late; one node bears one test at a time; its owner
//! may want none. **Approach.** A test has an id. The same order again changes nothing; another one while a test stands
//! is refused by name; a word about a test that does not stand here is answered as over. **Properties.** Every order to
//! begin is answered: it begins, or the fleet is told why not. Nothing begins that the owner refuses, whoever signed it,
//! nor where and when nothing may be lent.

use alloc::format;
use alloc::string::{String, ToString};

use loadline_model::{AskProblem, ProveAsk, ProveId};
use serde::{Deserialize, Serialize};

use super::plan::{Asked, PlanProblem, schedule};
use crate::admission::{Lending, lending};
use crate::node_policy::{LocalTimes, NodePolicy, ProveConsent};

/// One order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProveOrder {
    /// Which test.
    pub run: ProveId,
    /// Who asks.
    pub by: String,
    /// What for.
    pub what: ProveWhat,
}

/// What an order asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProveWhat {
    /// Run it.
    Begin(ProveAsk),
    /// End it at once.
    Stop,
}

/// A test that was ordered and is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// Which.
    pub run: ProveId,
    /// Who asked for it.
    pub by: String,
    /// What was asked.
    pub ask: ProveAsk,
    /// Who wants it to end.
    pub stopped_by: Option<String>,
}

/// Why a test does not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTest {
    /// The owner wants none.
    #[error(
        "this node's owner lets the fleet run no tests here: lend.prove in its node.toml is \"refuse\"; root there can run `loadline-warden prove`"
    )]
    Owner,
    /// Nothing may be lent, so nothing may press.
    #[error(
        "{0}, and a test from the fleet presses no more than lent work may; root there can run `loadline-warden prove`"
    )]
    NotLent(String),
    /// An operator's brake.
    #[error("this node's line is closed (0 %): `fleet node line NODE 100` opens it")]
    Closed,
    /// One at a time.
    #[error("another test runs on this node, asked for by {0}: wait for its end, or stop it")]
    Busy(String),
    /// More than the fleet may ask.
    #[error(transparent)]
    Ask(#[from] AskProblem),
    /// It cannot be done so.
    #[error(transparent)]
    Plan(#[from] PlanProblem),
}

/// What follows from an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It begins.
    Begin(Standing),
    /// The one that stands is to end; this is what it looks like from now on.
    Stop(Standing),
    /// It was heard before.
    Known,
    /// It is over before it began.
    Over(Stage, String),
}

/// Where a test stands, as the fleet is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It runs.
    Running,
    /// There is a report.
    Reported,
    /// It may not begin.
    Refused,
    /// Someone ended it.
    Stopped,
    /// It came to nothing.
    Failed,
}

impl Stage {
    /// The word on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Reported => "reported",
            Self::Refused => "refused",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

/// Whether the fleet may test here now. `policy` is the one in force, `closed` the line.
///
/// # Errors
/// Why not.
pub fn consent(policy: &NodePolicy, closed: bool, local: &LocalTimes) -> Result<(), NoTest> {
    if policy.lend.prove == ProveConsent::Refuse {
        return Err(NoTest::Owner);
    }
    match lending(policy, local) {
        Lending::Open => {}
        Lending::Closed(why) | Lending::Withdrawn(why) => return Err(NoTest::NotLent(why)),
    }
    if closed { Err(NoTest::Closed) } else { Ok(()) }
}

/// What follows from an order.
pub fn answer(standing: Option<&Standing>, order: &ProveOrder, consent: Result<(), NoTest>) -> Answer {
    let same = standing.filter(|standing| standing.run == order.run);
    match (&order.what, same, standing) {
        (ProveWhat::Begin(_), Some(_), _) => Answer::Known,
        (ProveWhat::Begin(ask), None, other) => match may_begin(ask, other, consent) {
            Ok(()) => Answer::Begin(Standing {
                run: order.run,
                by: order.by.clone(),
                ask: ask.clone(),
                stopped_by: None,
            }),
            Err(problem) => Answer::Over(Stage::Refused, problem.to_string()),
        },
        (ProveWhat::Stop, Some(same), _) if same.stopped_by.is_some() => Answer::Known,
        (ProveWhat::Stop, Some(same), _) => Answer::Stop(Standing {
            stopped_by: Some(order.by.clone()),
            ..same.clone()
        }),
        // Its end was told before, or it never came here; either way it does not run.
        (ProveWhat::Stop, None, _) => Answer::Over(Stage::Stopped, stopped(&order.by)),
    }
}

fn may_begin(ask: &ProveAsk, other: Option<&Standing>, consent: Result<(), NoTest>) -> Result<(), NoTest> {
    consent?;
    ask.check()?;
    schedule(&asked(ask))?;
    match other {
        Some(other) => Err(NoTest::Busy(other.by.clone())),
        None => Ok(()),
    }
}

/// What is asked, in the words of the plan.
pub fn asked(ask: &ProveAsk) -> Asked {
    Asked {
        resources: ask.resources.clone(),
        rounds: ask.rounds,
        round: ask.round,
        limit: ask.limit,
    }
}

fn stopped(by: &str) -> String {
    format!("stopped by {by}")
}

/// How a test ended, as the program that ran it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// With a report, whole or not.
    Report,
    /// It found no ground to begin on.
    Refused(String),
    /// It failed, and says why.
    Failed(String),
}

/// What the fleet is told of an end: somebody's word to stop explains everything that came after it.
pub fn over(standing: &Standing, ended: Ended) -> (Stage, String) {
    match (&standing.stopped_by, ended) {
        (Some(by), _) => (Stage::Stopped, stopped(by)),
        (None, Ended::Report) => (Stage::Reported, String::new()),
        (None, Ended::Refused(why)) => (Stage::Refused, why),
        (None, Ended::Failed(why)) => (Stage::Failed, why),
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use loadline_model::Span;

    use super::*;
    use crate::node_policy::{LocalTime, Mode, Weekday};

    fn id(byte: u8) -> ProveId {
        ProveId::from_slice(&[byte; 16]).unwrap()
    }

    fn order(run: u8, by: &str, what: ProveWhat) -> ProveOrder {
        let run = id(run);
        ProveOrder {
            run,
            by: by.into(),
            what,
        }
    }

    fn standing(run: u8, stopped_by: Option<&str>) -> Standing {
        Standing {
            run: id(run),
            by: "ada".into(),
            ask: ProveAsk::default(),
            stopped_by: stopped_by.map(Into::into),
        }
    }

    #[test]
    fn a_table_of_orders() {
        let begin = || ProveWhat::Begin(ProveAsk::default());
        let busy = "another test runs on this node, asked for by ada: wait for its end, or stop it";
        let none = None::<Standing>;
        for (before, order, wanted) in [
            (&none, order(1, "ada", begin()), Answer::Begin(standing(1, None))),
            (&Some(standing(1, None)), order(1, "ada", begin()), Answer::Known),
            (
                &Some(standing(1, None)),
                order(2, "bea", begin()),
                Answer::Over(Stage::Refused, busy.into()),
            ),
            (
                &Some(standing(1, None)),
                order(1, "bea", ProveWhat::Stop),
                Answer::Stop(standing(1, Some("bea"))),
            ),
            (
                &Some(standing(1, Some("bea"))),
                order(1, "cy", ProveWhat::Stop),
                Answer::Known,
            ),
            (
                &Some(standing(1, None)),
                order(2, "bea", ProveWhat::Stop),
                Answer::Over(Stage::Stopped, "stopped by bea".into()),
            ),
            (
                &none,
                order(1, "bea", ProveWhat::Stop),
                Answer::Over(Stage::Stopped, "stopped by bea".into()),
            ),
        ] {
            assert_eq!(answer(before.as_ref(), &order, Ok(())), wanted, "{order:?}");
        }
    }

    #[test]
    fn what_cannot_be_done_or_is_not_allowed_is_refused_whoever_asks() {
        let refused = |ask: ProveAsk, consent| {
            let order = order(1, "ada", ProveWhat::Begin(ask));
            match answer(None, &order, consent) {
                Answer::Over(Stage::Refused, why) => why,
                other => panic!("{other:?}"),
            }
        };
        let ask = ProveAsk::default;
        let too_long = ProveAsk {
            limit: Span::from_secs(60),
            ..ask()
        };
        assert!(refused(too_long, Ok(())).contains("--limit"));
        let beyond = ProveAsk { rate: 5000, ..ask() };
        assert!(refused(beyond, Ok(())).contains("100/s"));
        assert!(refused(ask(), Err(NoTest::Owner)).contains("lend.prove"));
    }

    #[test]
    fn the_owner_the_mode_the_windows_and_the_brake_have_their_say() {
        let local = LocalTimes {
            node: LocalTime {
                day: Weekday::Mon,
                minute: 0,
            },
            zones: BTreeMap::new(),
        };
        let with = |prove, mode, closed| {
            let mut policy = NodePolicy::default();
            (policy.lend.prove, policy.lend.mode) = (prove, mode);
            consent(&policy, closed, &local)
        };
        let allow = ProveConsent::Allow;
        assert_eq!(with(allow, Mode::Enforce, false), Ok(()));
        assert!(matches!(
            with(allow, Mode::Shadow, false),
            Err(NoTest::NotLent(_))
        ));
        assert_eq!(with(allow, Mode::Enforce, true), Err(NoTest::Closed));
        assert!(matches!(with(allow, Mode::Off, false), Err(NoTest::NotLent(_))));
        let refuse = with(ProveConsent::Refuse, Mode::Enforce, false);
        assert_eq!(refuse, Err(NoTest::Owner));
        let mut night = NodePolicy::default();
        night.lend.windows = alloc::vec![crate::node_policy::Window {
            days: crate::node_policy::Days::ALL,
            from: "19:00".parse().unwrap(),
            to: "23:00".parse().unwrap(),
            zone: crate::node_policy::WindowZone::Node,
        }];
        assert!(matches!(consent(&night, false, &local), Err(NoTest::NotLent(_))));
    }

    #[test]
    fn a_word_to_stop_explains_the_end() {
        for (stopped_by, ended, wanted) in [
            (None, Ended::Report, (Stage::Reported, "")),
            (None, Ended::Refused("why".into()), (Stage::Refused, "why")),
            (None, Ended::Failed("why".into()), (Stage::Failed, "why")),
            (Some("bea"), Ended::Report, (Stage::Stopped, "stopped by bea")),
            (
                Some("bea"),
                Ended::Failed("why".into()),
                (Stage::Stopped, "stopped by bea"),
            ),
        ] {
            let (stage, sentence) = over(&standing(1, stopped_by), ended);
            assert_eq!((stage, &*sentence), wanted);
        }
    }
}
