//! Interference tests: what is asked, what nodes say of them, what people are shown.

use loadline_model::{ProveAsk, Resource, Span};
use loadline_proto::fleet::v1 as fleet;
use loadline_proto::types::v1 as types;

use super::error::WireError;
use super::read_prove_id;
use crate::state::rows::ProveRow;
use crate::state::{Prove, ProveConsent, ProveNews, ProveReport, ProveStage, ProveView};

/// A test that someone asks for; what is left out is as `loadline-warden prove` does it by itself.
///
/// # Errors
/// When a resource is none of ours.
pub fn read_ask(ask: &types::ProveAsk) -> Result<ProveAsk, WireError> {
    let usual = ProveAsk::default();
    let said = |number: u32, usual: u32| if number == 0 { usual } else { number };
    let long = |micros: u64, usual: Span| if micros == 0 { usual } else { Span(micros) };
    let resource = |word: &String| {
        word.parse::<Resource>().map_err(|_| WireError::Value {
            field: "ask.resources",
            value: word.clone(),
        })
    };
    let resources: Vec<Resource> = ask.resources.iter().map(resource).collect::<Result<_, _>>()?;
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

pub(super) fn write_ask(ask: &ProveAsk) -> types::ProveAsk {
    types::ProveAsk {
        stand_in: ask.stand_in,
        rate_per_s: ask.rate,
        resources: ask.resources.iter().map(ToString::to_string).collect(),
        rounds: ask.rounds,
        round_us: ask.round.0,
        limit_us: ask.limit.0,
        with_workers: ask.with_workers,
    }
}

pub(super) fn write_prove_order(prove: &Prove) -> types::ProveOrder {
    types::ProveOrder {
        run_id: prove.run.as_bytes().to_vec(),
        stop: prove.ask.is_none(),
        by: prove.by.clone(),
        ask: prove.ask.as_ref().map(write_ask),
    }
}

/// Whether a node may be tested; none from one that knows no tests.
pub(super) fn read_consent(word: &str) -> Option<ProveConsent> {
    let known = ProveConsent::ALL
        .into_iter()
        .find(|consent| consent.word() == word);
    // A newer word is not ours to overrule.
    known.or_else(|| (!word.is_empty()).then_some(ProveConsent::Refuse))
}

pub(super) fn read_news(state: types::ProveState) -> Result<ProveNews, WireError> {
    Ok(ProveNews {
        run: read_prove_id("prove.run_id", &state.run_id)?,
        stage: ProveStage::from_word(&state.stage).ok_or(WireError::Value {
            field: "prove.stage",
            value: state.stage,
        })?,
        sentence: state.sentence,
        report: state.report.map(read_report).map(Box::new),
    })
}

pub(super) fn read_report(report: types::ProveReport) -> ProveReport {
    ProveReport {
        text: report.text,
        json: report.json,
        html: report.html,
        whole: report.whole,
        cost: report.cost,
    }
}

pub(super) fn write_report(report: &ProveReport) -> types::ProveReport {
    types::ProveReport {
        text: report.text.clone(),
        json: report.json.clone(),
        html: report.html.clone(),
        whole: report.whole,
        cost: report.cost,
    }
}

/// A node's tests, with the texts of the report or without.
pub fn write_prove(view: &ProveView, texts: bool) -> fleet::ProveReply {
    fleet::ProveReply {
        run: view.run.as_ref().map(|row| write_run(row, view.silence)),
        last: view.last.as_ref().map(|row| fleet::ProveLast {
            run_id: row.run.as_bytes().to_vec(),
            by: row.by.clone(),
            at_us: row.at.0,
            report: Some(if texts {
                write_report(&row.report)
            } else {
                types::ProveReport {
                    whole: row.report.whole,
                    cost: row.report.cost,
                    ..types::ProveReport::default()
                }
            }),
        }),
    }
}

fn write_run(row: &ProveRow, silence: Span) -> fleet::ProveRun {
    let stopping = row.is_open() && row.stopped_by.is_some();
    fleet::ProveRun {
        run_id: row.run.as_bytes().to_vec(),
        by: row.by.clone(),
        begun_us: row.at.0,
        stage: if stopping { "stopping" } else { row.stage.word() }.to_owned(),
        sentence: row.sentence.clone(),
        changed_us: row.changed.0,
        node_silent_us: silence.0,
    }
}
