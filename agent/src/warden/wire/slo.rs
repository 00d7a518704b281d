//! Production's floors and promises, as they travel: what is to be probed, what was measured, how it stands.

use std::collections::BTreeMap;

use loadline_model::Span;
use loadline_policy::headroom::sample::Slo as Told;
use loadline_policy::node_policy::{Probe, Protect, Slo, SloTarget};
use loadline_policy::protect::State;
use loadline_policy::slo::fixed::Millionths;
use loadline_policy::slo::{Measured, Standing, told};
use loadline_proto::warden::v1 as proto;

use crate::warden::slo::{Observation, Promise};

/// What the agent measured.
pub fn observations(request: proto::ObserveRequest) -> Vec<Observation> {
    let observation = |reading: proto::SloReading| Observation {
        unit: reading.unit,
        measured: reading.measured.map(|measured| match measured {
            proto::slo_reading::Measured::P99Us(p99) => Measured::P99(Span(p99)),
            proto::slo_reading::Measured::ValueMillionths(value) => Measured::Value(Millionths(value)),
        }),
        age: Span(reading.age_us),
        trouble: reading.trouble,
    };
    request.readings.into_iter().map(observation).collect()
}

pub(super) fn target(promise: &Promise) -> proto::SloTarget {
    let probe = match &promise.slo.probe {
        Probe::Http(url) => proto::slo_target::Probe::Http(url.text()),
        Probe::Tcp(address) => proto::slo_target::Probe::Tcp(address.clone()),
        Probe::Scrape { url, histogram } => proto::slo_target::Probe::Scrape(proto::ScrapeProbe {
            url: url.text(),
            histogram: histogram.clone(),
        }),
        Probe::Promql { url, query } => proto::slo_target::Probe::Promql(proto::PromqlProbe {
            url: url.text(),
            query: query.clone(),
        }),
        Probe::Push => proto::slo_target::Probe::Push(proto::PushProbe {}),
    };
    let target = match promise.slo.target {
        SloTarget::P99(p99) => proto::slo_target::Target::P99Us(p99.0),
        SloTarget::Below(Millionths(below)) => proto::slo_target::Target::BelowMillionths(below),
    };
    proto::SloTarget {
        unit: promise.unit.clone(),
        probe: Some(probe),
        target: Some(target),
        every_us: promise.slo.every.0,
    }
}

/// The worst of all promises, if it is known.
pub(super) fn worst(promises: &[Promise]) -> Option<i32> {
    match told(promises.iter().map(|promise| promise.standing)) {
        Told::Slack(slack) => Some(slack),
        Told::None | Told::Unknown => None,
    }
}

pub(super) fn protect(
    protect: &[Protect],
    floors: &BTreeMap<String, State>,
    promises: &[Promise],
) -> Vec<proto::ProtectState> {
    let state = |entry: &Protect| {
        let floor = entry.memory.and_then(|_| floors.get(&entry.unit).copied());
        let promise = promises.iter().find(|promise| promise.unit == entry.unit);
        proto::ProtectState {
            unit: entry.unit.clone(),
            floor_bytes: entry.memory.map(|memory| memory.0),
            floor_state: floor.map_or("", word).into(),
            verified: floor == Some(State::Held),
            slo: promise.map(|promise| promised(&promise.slo)),
            slo_slack_per_mille: promise.and_then(|promise| match promise.standing {
                Standing::Slack(slack) => Some(slack),
                Standing::Unknown => None,
            }),
            slo_trouble: promise.map(|promise| promise.trouble.clone()).unwrap_or_default(),
        }
    };
    protect.iter().map(state).collect()
}

const fn word(state: State) -> &'static str {
    match state {
        State::Held => "held",
        State::NotHeld => "not_held",
        State::NotLoaded => "not_loaded",
        State::LeftAlone => "left_alone",
    }
}

fn promised(slo: &Slo) -> String {
    let probe = match &slo.probe {
        Probe::Http(url) => format!("GET {}", url.text()),
        Probe::Tcp(address) => format!("connecting to {address}"),
        Probe::Scrape { url, histogram } => format!("{histogram} at {}", url.text()),
        Probe::Promql { url, query } => format!("{query} at {}", url.text()),
        Probe::Push => "its own word".into(),
    };
    match slo.target {
        SloTarget::P99(p99) => format!("p99 of {probe} within {p99}"),
        SloTarget::Below(Millionths(below)) => {
            let (whole, part) = (below / 1_000_000, below % 1_000_000);
            let part = format!("{part:06}");
            match part.trim_end_matches('0') {
                "" => format!("{probe} below {whole}"),
                part => format!("{probe} below {whole}.{part}"),
            }
        }
    }
}

/// What is protected, one sentence a unit: only what stands in the policy, so that it changes with that alone.
pub fn sentences(protect: &[Protect]) -> Vec<String> {
    let sentence = |entry: &Protect| {
        let floor = entry.memory.map(|memory| format!("keeps {memory}"));
        let slo = entry.slo.as_ref().map(promised);
        let all: Vec<String> = floor.into_iter().chain(slo).collect();
        if all.is_empty() {
            format!("{}: neither floor nor SLO", entry.unit)
        } else {
            format!("{}: {}", entry.unit, all.join("; "))
        }
    };
    protect.iter().map(sentence).collect()
}

/// Floors that are not held, one sentence each.
pub(super) fn missed(protect: &[Protect], floors: &BTreeMap<String, State>) -> Vec<String> {
    let sentence = |entry: &Protect| {
        let (memory, unit) = (entry.memory?, &entry.unit);
        match floors.get(unit)? {
            State::Held | State::LeftAlone => None,
            State::NotLoaded => Some(format!(
                "{unit} is not running, so nothing keeps {memory} for it: its floor is set when it appears; if it is \
                 misspelt, correct production.protect in node.toml"
            )),
            State::NotHeld => Some(format!(
                "the {memory} of {unit} are not kept: see `journalctl -u loadline-warden`, and whether the memory \
                 controller is on for each slice above it"
            )),
        }
    };
    protect.iter().filter_map(sentence).collect()
}
