//! An order to test this node. What it leaves open is as `loadline-warden prove` does it by itself.

use loadline_model::{ProveAsk, ProveId, Resource, Span};
use loadline_policy::prove::ordered::{ProveOrder, ProveWhat};
use loadline_proto::types::v1 as proto;

use super::Ordered;

pub(super) fn order(order: proto::ProveOrder) -> Ordered {
    read(order).map_or_else(Ordered::Unclear, Ordered::Prove)
}

fn read(order: proto::ProveOrder) -> Result<ProveOrder, String> {
    let proto::ProveOrder {
        run_id,
        stop,
        by,
        ask,
    } = order;
    let run = ProveId::from_slice(&run_id).map_err(|problem| problem.to_string())?;
    let what = if stop {
        ProveWhat::Stop
    } else {
        ProveWhat::Begin(read_ask(ask.unwrap_or_default())?)
    };
    Ok(ProveOrder { run, by, what })
}

fn read_ask(ask: proto::ProveAsk) -> Result<ProveAsk, String> {
    let usual = ProveAsk::default();
    let said = |number: u32, usual: u32| if number == 0 { usual } else { number };
    let long = |micros: u64, usual: Span| if micros == 0 { usual } else { Span(micros) };
    let resources: Result<Vec<Resource>, _> = ask.resources.iter().map(|word| word.parse()).collect();
    let resources = resources.map_err(|problem| problem.to_string())?;
    Ok(ProveAsk {
        stand_in: ask.stand_in,
        rate: said(ask.rate_per_s, usual.rate),
        resources: if resources.is_empty() {
            usual.resources
        } else {
            resources
        },
        rounds: said(ask.rounds, usual.rounds),
        round: long(ask.round_us, usual.round),
        limit: long(ask.limit_us, usual.limit),
        with_workers: ask.with_workers,
    })
}
