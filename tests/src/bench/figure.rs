//! One measured figure: its median, its spread, and what it is held against.

use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::bench::stats::Summary;

/// Which direction is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Throughput and the like.
    Higher,
    /// Latency and the like.
    Lower,
}

/// What the figure should reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// Informative only.
    None,
    /// In the figure's own unit.
    Value(f64),
    /// A multiple of the peer's median in the same run.
    TimesPeer(f64),
}

/// A figure under a stable id.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Stable over versions: `launch.submit_to_running_ms`.
    pub id: String,
    /// `ms`, `/s`, `x`, …
    pub unit: &'static str,
    /// Which direction is good.
    pub better: Better,
    /// What it should reach.
    pub goal: Goal,
    /// True if a table of the benchmark's own shows it, so that the list of figures need not.
    pub in_table: bool,
    samples: Summary,
    peer: Option<(String, Summary)>,
}

impl Figure {
    /// A figure from its samples; `None` without any.
    #[must_use]
    pub fn new(id: &str, unit: &'static str, better: Better, samples: &[f64]) -> Option<Self> {
        let samples = Summary::of(samples)?;
        Some(Self {
            id: id.into(),
            unit,
            better,
            goal: Goal::None,
            in_table: false,
            samples,
            peer: None,
        })
    }

    /// With something to reach.
    #[must_use]
    pub fn goal(mut self, goal: Goal) -> Self {
        self.goal = goal;
        self
    }

    /// Shown by a table of the benchmark's own.
    #[must_use]
    pub fn in_table(mut self) -> Self {
        self.in_table = true;
        self
    }

    /// With the same thing done by someone else, measured in the same run; `None` without samples.
    #[must_use]
    pub fn peer(mut self, name: &str, samples: &[f64]) -> Option<Self> {
        self.peer = Some((name.into(), Summary::of(samples)?));
        Some(self)
    }

    /// Median.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.samples.median()
    }

    /// Interquartile range.
    #[must_use]
    pub fn spread(&self) -> f64 {
        self.samples.spread()
    }

    /// The peer's name and median.
    #[must_use]
    pub fn peer_value(&self) -> Option<(&str, f64)> {
        self.peer
            .as_ref()
            .map(|(name, samples)| (name.as_str(), samples.median()))
    }

    /// The goal in the figure's own unit. A multiple of a peer that was not measured is no goal.
    #[must_use]
    pub fn goal_value(&self) -> Option<f64> {
        match self.goal {
            Goal::None => None,
            Goal::Value(value) => Some(value),
            Goal::TimesPeer(times) => self.peer_value().map(|(_, peer)| times * peer),
        }
    }

    /// Was the goal reached? `None` where there is none.
    #[must_use]
    pub fn met(&self) -> Option<bool> {
        self.goal_value().map(|goal| match self.better {
            Better::Higher => self.value() >= goal,
            Better::Lower => self.value() <= goal,
        })
    }
}

/// Three decimals are more than any of these figures can bear.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Figure", 7)?;
        out.serialize_field("id", &self.id)?;
        out.serialize_field("value", &rounded(self.value()))?;
        out.serialize_field("unit", self.unit)?;
        out.serialize_field(
            "better",
            if self.better == Better::Higher {
                "higher"
            } else {
                "lower"
            },
        )?;
        out.serialize_field("goal", &self.goal_value().map(rounded))?;
        match self.peer_value() {
            Some((_, peer)) => out.serialize_field("peer", &rounded(peer))?,
            None => out.skip_field("peer")?,
        }
        out.serialize_field("spread", &rounded(self.spread()))?;
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(better: Better) -> Figure {
        Figure::new("a.b_ms", "ms", better, &[10.0, 12.0, 14.0]).unwrap()
    }

    #[test]
    fn a_goal_holds_in_the_direction_that_is_better() {
        assert_eq!(figure(Better::Lower).goal(Goal::Value(12.0)).met(), Some(true));
        assert_eq!(figure(Better::Lower).goal(Goal::Value(11.9)).met(), Some(false));
        assert_eq!(figure(Better::Higher).goal(Goal::Value(12.1)).met(), Some(false));
        assert_eq!(figure(Better::Higher).met(), None);
    }

    #[test]
    fn a_multiple_of_the_peer_is_written_in_the_unit() {
        let figure = figure(Better::Lower)
            .goal(Goal::TimesPeer(1.3))
            .peer("systemd-run", &[9.0, 10.0, 11.0])
            .unwrap();
        assert_eq!(figure.met(), Some(true));
        assert_eq!(
            serde_json::to_string(&figure).unwrap(),
            r#"{"id":"a.b_ms","value":12.0,"unit":"ms","better":"lower","goal":13.0,"peer":10.0,"spread":2.0}"#
        );
    }

    #[test]
    fn a_multiple_of_no_peer_is_no_goal() {
        let figure = figure(Better::Lower).goal(Goal::TimesPeer(1.3));
        assert_eq!(figure.met(), None);
        assert!(
            serde_json::to_string(&figure)
                .unwrap()
                .contains(r#""goal":null,"spread""#)
        );
    }
}
