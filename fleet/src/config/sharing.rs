//! `[sharing]`: what all teams have in common. What one team may is said with `fleet team` and `fleet quota`.

use loadline_model::{Priority, Span};
use loadline_placement::Policy;
use loadline_placement::policy::YieldRules;
use serde::Deserialize;

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
}

pub(super) fn check(file: FileSharing, wrong: &mut impl FnMut(&str, String)) -> Policy {
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
    policy
}
