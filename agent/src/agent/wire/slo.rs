//! What the warden wants to be probed, and what was found, as they travel.

use loadline_model::Span;
use loadline_policy::node_policy::{HttpUrl, Probe};
use loadline_policy::slo::Measured;
use loadline_policy::slo::fixed::Millionths;
use loadline_proto::warden::v1 as warden;

/// What to probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SloTarget {
    pub(crate) unit: String,
    pub(crate) probe: Probe,
    /// The time that is promised; of no meaning for a query.
    pub(crate) p99: Span,
    pub(crate) every: Span,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SloFound {
    pub(crate) unit: String,
    /// None: it could not be measured.
    pub(crate) measured: Option<Measured>,
    pub(crate) age: Span,
    /// Why it could not.
    pub(crate) trouble: String,
}

/// How a unit of production is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Protected {
    pub(crate) unit: String,
    /// Whether its floor is held; none: it has none.
    pub(crate) held: Option<bool>,
    /// In thousandths; none: no promise, or not known.
    pub(crate) slack: Option<i32>,
}

/// A target of a kind that this version does not know is passed over: the warden then finds it unknown.
pub(super) fn target(target: warden::SloTarget) -> Option<SloTarget> {
    let probe = match target.probe? {
        warden::slo_target::Probe::Http(url) => Probe::Http(HttpUrl::read(&url)?),
        warden::slo_target::Probe::Tcp(address) => Probe::Tcp(address),
        warden::slo_target::Probe::Scrape(scrape) => Probe::Scrape {
            url: HttpUrl::read(&scrape.url)?,
            histogram: scrape.histogram,
        },
        warden::slo_target::Probe::Promql(promql) => Probe::Promql {
            url: HttpUrl::read(&promql.url)?,
            query: promql.query,
        },
        warden::slo_target::Probe::Push(_) => Probe::Push,
    };
    let p99 = match target.target? {
        warden::slo_target::Target::P99Us(p99) => Span(p99),
        warden::slo_target::Target::BelowMillionths(_) => Span::ZERO,
    };
    Some(SloTarget {
        unit: target.unit,
        // A warden that does not say asks as often as ever.
        every: match target.every_us {
            0 => probe.period(),
            every => Span(every),
        },
        probe,
        p99,
    })
}

pub(super) fn protected(state: warden::ProtectState) -> Protected {
    Protected {
        held: state.floor_bytes.map(|_| state.verified),
        slack: state.slo_slack_per_mille,
        unit: state.unit,
    }
}

pub(super) fn reading(found: SloFound) -> warden::SloReading {
    warden::SloReading {
        unit: found.unit,
        age_us: found.age.0,
        measured: found.measured.map(|measured| match measured {
            Measured::P99(p99) => warden::slo_reading::Measured::P99Us(p99.0),
            Measured::Value(Millionths(value)) => warden::slo_reading::Measured::ValueMillionths(value),
        }),
        trouble: found.trouble,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warden_that_does_not_say_how_often_asks_as_often_as_ever() {
        let every = |every_us| {
            let read = target(warden::SloTarget {
                unit: "a.service".into(),
                probe: Some(warden::slo_target::Probe::Tcp("a:1".into())),
                target: Some(warden::slo_target::Target::P99Us(1)),
                every_us,
            });
            read.map(|target| target.every)
        };
        assert_eq!(every(0), Some(Span::from_secs(1)));
        assert_eq!(every(250_000), Some(Span::from_millis(250)));
    }
}
