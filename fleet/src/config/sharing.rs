//! `[sharing]`: what all teams have in common. What one team may is said with `fleet team` and `fleet quota`.

use loadline_model::{Priority, Span, WeekSpan};
use loadline_placement::Policy;
use loadline_placement::policy::{Windows, YieldRules};
use serde::Deserialize;

use crate::state::SharingRules;

/// More would leave a fleet idle around the few that wait.
const RESERVATIONS_MAX: usize = 64;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileSharing {
    half_life: Option<String>,
    patience: Option<String>,
    left_alone: Option<String>,
    reservations: Option<usize>,
    priority_most: Option<String>,
    burst_windows: Option<Vec<String>>,
}

pub(super) fn check(file: FileSharing, wrong: &mut impl FnMut(&str, String)) -> SharingRules {
    let mut policy = Policy::default();
    let mut span = |key: &str, text: Option<String>, least: Span, default: Span| {
        let Some(text) = text else { return default };
        match text.parse::<Span>() {
            Ok(span) if span >= least => span,
            Ok(_) => {
                wrong(key, format!("at least {least}"));
                default
            }
            Err(error) => {
                wrong(key, error.to_string());
                default
            }
        }
    };
    let hour = Span::from_secs(3600);
    policy.half_life = span("sharing.half_life", file.half_life, hour, policy.half_life);
    policy.order.patience = span("sharing.patience", file.patience, hour, policy.order.patience);
    let rules = YieldRules::default();
    let second = Span::from_secs(1);
    policy.yielding = Some(YieldRules {
        cool_down: span("sharing.left_alone", file.left_alone, second, rules.cool_down),
        ..rules
    });
    match file.priority_most.map(|text| text.parse::<Priority>()) {
        Some(Ok(most)) => policy.priority_most = most,
        Some(Err(error)) => wrong("sharing.priority_most", error.to_string()),
        None => {}
    }
    if let Some(reservations) = file.reservations {
        if reservations > RESERVATIONS_MAX {
            wrong("sharing.reservations", format!("at most {RESERVATIONS_MAX}"));
        }
        policy.backfill.reservations = reservations;
    }
    SharingRules {
        policy,
        burst: burst_windows(file.burst_windows, wrong),
    }
}

/// No window at all would be burst work that never starts; whoever leaves the key out has it start always.
fn burst_windows(texts: Option<Vec<String>>, wrong: &mut impl FnMut(&str, String)) -> Windows {
    const KEY: &str = "sharing.burst_windows";
    let Some(texts) = texts else {
        return Windows::default();
    };
    if texts.is_empty() {
        wrong(
            KEY,
            "name at least one window, or leave it out: burst work may then always start".into(),
        );
    }
    if texts.len() > Windows::MAX {
        let most = Windows::MAX;
        wrong(
            KEY,
            format!("at most {most}; one may name several days, like Mon-Fri"),
        );
    }
    let mut windows = Vec::new();
    for text in texts {
        match text.parse::<WeekSpan>() {
            Ok(window) => windows.push(window),
            Err(error) => wrong(KEY, error.to_string()),
        }
    }
    Windows(windows)
}
