//! Guest tests: what must hold on real machines, told as scenarios.
//!
//! A suite boots one fleet and runs its scenarios on it one after the other; a scenario leaves the fleet as usable as
//! it found it. To add one: write a function of `&Fleet` in the suite's file and name it in the suite's table.
//!
//! Guests are emulated, and CPU is what is short. So suites do not run side by side, but for one case: while a
//! scenario mostly waits, for minutes, the others go on.

mod fleet;
mod guests;
mod lull;
mod packages;

use std::iter::Sum;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::clock;
use crate::testbed::cache::Cache;
use crate::testbed::{Fleet, GuestSpec};
use lull::Lull;

/// All of it takes minutes; past this something hangs, and the guests end with the process.
const OVERALL_LIMIT: Duration = Duration::from_secs(60 * 60);

/// A scenario: the second half of its full name, and what it does.
pub type Scenario = (&'static str, fn(&Fleet) -> Result<()>);

/// Scenarios that share one boot.
#[derive(Debug, Clone, Copy)]
pub struct Suite {
    /// First half of a scenario's full name.
    pub name: &'static str,
    /// The fleet it needs.
    pub guests: fn() -> Vec<GuestSpec>,
    /// What must be done to a fresh fleet before the first scenario.
    pub prepare: fn(&Fleet) -> Result<()>,
    /// In the order in which they run.
    pub scenarios: &'static [Scenario],
    /// Those of them that mostly wait.
    pub waiting: &'static [&'static str],
    /// Takes away what a scenario that failed has left behind, so that the next one is judged by itself.
    pub recover: fn(&Fleet) -> Result<()>,
}

/// Every suite.
pub const SUITES: &[Suite] = &[guests::SUITE, packages::SUITE, fleet::SUITE];

/// A suite and what was selected of it.
type Chosen<'a> = (&'a Suite, Vec<Scenario>);

/// How many passed and failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    const fn plus(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
        }
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), Self::plus)
    }
}

/// Runs the scenarios whose full name (`suite::scenario`) contains the filter, or a part of it between commas, or names
/// them.
///
/// # Errors
/// When no scenario matches.
pub fn run(cache: &Cache, filter: Option<&str>, list: bool) -> Result<ExitCode> {
    let filter = filter.unwrap_or_default();
    let chosen = select(SUITES, filter);
    if chosen.is_empty() {
        bail!(
            "no guest test matches {:?}; `testbed test --list` names them",
            filter
        );
    }
    if list {
        for (suite, scenario) in chosen
            .iter()
            .flat_map(|(suite, names)| names.iter().map(move |n| (suite, n)))
        {
            println!("{}::{}", suite.name, scenario.0);
        }
        return Ok(ExitCode::SUCCESS);
    }
    guard_time();
    let tally = run_suites(cache, chosen);
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A suite with scenarios that mostly wait runs at once, and the others while it waits, each during another of those
/// scenarios, and after it.
fn run_suites(cache: &Cache, mut chosen: Vec<Chosen<'_>>) -> Tally {
    let waits =
        |(suite, scenarios): &Chosen<'_>| scenarios.iter().any(|(name, _)| suite.waiting.contains(name));
    let lull = Lull::new();
    let first = chosen.iter().position(waits).map(|place| chosen.remove(place));
    thread::scope(|scope| {
        let others = scope.spawn(|| {
            let others = (1..).zip(&chosen).map(|(nth, (suite, scenarios))| {
                run_suite(cache, suite, scenarios, || lull.wait(nth), |_| {})
            });
            others.sum()
        });
        let tally = first.map_or_else(Tally::default, |(suite, scenarios)| {
            let begins = |scenario| lull.set(suite.waiting.contains(&scenario));
            run_suite(cache, suite, &scenarios, || {}, begins)
        });
        lull.for_good();
        // Nothing panics there: a scenario that does is caught.
        tally.plus(others.join().unwrap_or(Tally { passed: 0, failed: 1 }))
    })
}

/// The suites with at least one scenario that matches, and those scenarios.
fn select<'a>(suites: &'a [Suite], filter: &str) -> Vec<Chosen<'a>> {
    suites
        .iter()
        .map(|suite| {
            let matches = |scenario: &&Scenario| {
                let name = format!("{}::{}", suite.name, scenario.0);
                filter.split(',').any(|part| name.contains(part))
            };
            (
                suite,
                suite
                    .scenarios
                    .iter()
                    .filter(matches)
                    .copied()
                    .collect::<Vec<_>>(),
            )
        })
        .filter(|(_, scenarios)| !scenarios.is_empty())
        .collect()
}

/// A suite whose fleet does not come up has failed with all its scenarios: selected but impossible is a failure.
/// `may_go` returns when CPU may be used for more than has begun; `begins` is told the scenario.
fn run_suite(
    cache: &Cache,
    suite: &Suite,
    scenarios: &[Scenario],
    may_go: impl Fn(),
    begins: impl Fn(&'static str),
) -> Tally {
    may_go();
    let start = clock::now();
    println!("# {}: booting", suite.name);
    let name = format!("test-{}-{}", suite.name, std::process::id());
    let ready = guarded(|| {
        let fleet = Fleet::boot(cache, &name, &(suite.guests)())?;
        (suite.prepare)(&fleet).context("prepare the fleet")?;
        Ok(fleet)
    });
    let fleet = match ready {
        Ok(fleet) => fleet,
        Err(error) => {
            println!(
                "# {}: no fleet after {:.1} s: {error:#}",
                suite.name,
                start.elapsed().as_secs_f32()
            );
            for (scenario, _) in scenarios {
                println!("FAIL {}::{scenario}: its fleet did not come up", suite.name);
            }
            return Tally {
                passed: 0,
                failed: scenarios.len(),
            };
        }
    };
    println!(
        "# {}: {} guests up after {:.1} s",
        suite.name,
        fleet.guests().len(),
        start.elapsed().as_secs_f32()
    );
    let mut tally = Tally::default();
    for (scenario, body) in scenarios {
        may_go();
        begins(scenario);
        let start = clock::now();
        let outcome = guarded(|| body(&fleet));
        let seconds = start.elapsed().as_secs_f32();
        match outcome {
            Ok(()) => {
                tally.passed += 1;
                println!("ok   {}::{scenario} ({seconds:.1} s)", suite.name);
            }
            Err(error) => {
                tally.failed += 1;
                println!("FAIL {}::{scenario} ({seconds:.1} s): {error:#}", suite.name);
                if let Err(error) = guarded(|| (suite.recover)(&fleet)) {
                    println!("# {}: what it left behind is still there: {error:#}", suite.name);
                }
            }
        }
    }
    tally
}

/// A scenario that panics has failed, and the next one runs.
fn guarded<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(anyhow!("panicked: {text}"))
    })
}

/// Ends the process, and with it the guests, when everything together takes far too long.
fn guard_time() {
    thread::spawn(|| {
        clock::pause(OVERALL_LIMIT);
        println!(
            "the guest tests did not end within {} min",
            OVERALL_LIMIT.as_secs() / 60
        );
        println!("0 passed, 1 failed");
        std::process::exit(1);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: Suite = Suite {
        name: "sample",
        guests: Vec::new,
        prepare: |_| Ok(()),
        scenarios: &[("one", |_| Ok(())), ("two", |_| Ok(()))],
        waiting: &["two"],
        recover: |_| Ok(()),
    };

    #[test]
    fn a_filter_chooses_by_full_name() {
        let names = |filter| -> Vec<&str> {
            let found = select(&[SAMPLE], filter)
                .into_iter()
                .flat_map(|(_, scenarios)| scenarios);
            found.map(|(name, _)| name).collect()
        };
        assert_eq!(names(""), ["one", "two"]);
        assert_eq!(names("sample::t"), ["two"]);
        assert_eq!(names("on,sample::t"), ["one", "two"]);
        assert!(select(&[SAMPLE], "three").is_empty());
    }

    #[test]
    fn names_are_unique_and_no_suite_is_empty() {
        let mut names: Vec<String> = SUITES
            .iter()
            .flat_map(|suite| {
                suite
                    .scenarios
                    .iter()
                    .map(|(name, _)| format!("{}::{name}", suite.name))
            })
            .collect();
        assert!(SUITES.iter().all(|suite| !suite.scenarios.is_empty()));
        for suite in SUITES {
            let known = |name: &&str| suite.scenarios.iter().any(|(scenario, _)| scenario == name);
            assert!(suite.waiting.iter().all(known), "{:?}", suite.waiting);
        }
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn a_panic_is_a_failure_with_its_message() {
        let error = guarded(|| -> Result<()> { panic!("the door is {}", "shut") }).unwrap_err();
        assert_eq!(error.to_string(), "panicked: the door is shut");
    }

    #[test]
    fn a_fleet_that_cannot_boot_fails_each_selected_scenario() {
        let place = tempfile::tempdir().unwrap();
        let cache = Cache::at(place.path().to_owned()).unwrap();
        let other = Suite {
            name: "other",
            waiting: &[],
            ..SAMPLE
        };
        let suites = [other, SAMPLE];
        assert_eq!(
            run_suites(&cache, select(&suites, "")),
            Tally { passed: 0, failed: 4 }
        );
    }
}
