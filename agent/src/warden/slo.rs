//! How production's promises stand, shared by those who tell (the socket, for the agent), who ask ten times a second
//! (the headroom loop) and who show it.
//!
//! The warden has no network: the agent measures. Whatever it tells, the target is the owner's, and its silence makes
//! every promise unknown: an agent that is gone, or lies by keeping quiet, lets nothing grow.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use loadline_model::Span;
use loadline_policy::headroom::sample::Slo as Told;
use loadline_policy::node_policy::{NodePolicy, Slo};
use loadline_policy::slo::{Measured, Reading, Standing, standing, told};

/// What the agent says of one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The unit.
    pub unit: String,
    /// None: it could not be measured.
    pub measured: Option<Measured>,
    /// How long ago.
    pub age: Span,
    /// Why it could not.
    pub trouble: String,
}

/// How one promise stands, for those who show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promise {
    /// The unit.
    pub unit: String,
    /// What it promises.
    pub slo: Slo,
    /// How that stands.
    pub standing: Standing,
    /// Why it is unknown.
    pub trouble: String,
}

#[derive(Debug)]
struct Entry {
    slo: Slo,
    reading: Option<Reading>,
    trouble: String,
}

/// All promises of production on this node.
#[derive(Debug, Clone, Default)]
pub struct Promises(Arc<Mutex<BTreeMap<String, Entry>>>);

impl Promises {
    /// Those of a policy, none of them measured yet.
    pub fn new(policy: &NodePolicy) -> Self {
        let promises = Self::default();
        promises.replace(policy);
        promises
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The owner changed the policy. What was measured for a promise that stays is kept.
    pub fn replace(&self, policy: &NodePolicy) {
        let mut entries = self.entries();
        let mut before = std::mem::take(&mut *entries);
        for protect in &policy.protect {
            let Some(slo) = &protect.slo else { continue };
            let kept = before
                .remove(&protect.unit)
                .filter(|entry| entry.slo.probe == slo.probe);
            let (reading, trouble) =
                kept.map_or((None, String::new()), |entry| (entry.reading, entry.trouble));
            let slo = slo.clone();
            entries.insert(
                protect.unit.clone(),
                Entry {
                    slo,
                    reading,
                    trouble,
                },
            );
        }
    }

    /// Takes what the agent says. What it says of units without a promise is passed over: it may not have heard yet
    /// that the policy is another one.
    pub fn observe(&self, observations: Vec<Observation>, now: Span) {
        let mut entries = self.entries();
        for observation in observations {
            if let Some(entry) = entries.get_mut(&observation.unit) {
                entry.reading = Some(Reading {
                    measured: observation.measured,
                    at: now.minus(observation.age),
                });
                entry.trouble = observation.trouble;
            }
        }
    }

    /// What the headroom law is told.
    pub fn told(&self, now: Span) -> Told {
        told(self.entries().values().map(|entry| entry.standing(now)))
    }

    /// How each stands.
    pub fn all(&self, now: Span) -> Vec<Promise> {
        let entries = self.entries();
        let promise = |(unit, entry): (&String, &Entry)| Promise {
            unit: unit.clone(),
            slo: entry.slo.clone(),
            standing: entry.standing(now),
            trouble: match (&entry.reading, entry.trouble.as_str()) {
                (None, _) => "the agent has told nothing of it yet".into(),
                (Some(_), "") if entry.standing(now) == Standing::Unknown => {
                    "the agent has told nothing of it lately".into()
                }
                (Some(_), trouble) => trouble.into(),
            },
        };
        entries.iter().map(promise).collect()
    }
}

impl Entry {
    fn standing(&self, now: Span) -> Standing {
        standing(self.slo.target, self.slo.every, self.reading, now)
    }
}
