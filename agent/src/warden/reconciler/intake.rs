//! Orders into attempts. Replays change nothing; what cannot be understood is refused by name, durably.

use loadline_model::{AttemptId, Ended, Peaks, Receipt, ReceiptAction, ReceiptSubject};
use loadline_policy::admission::Account;
use loadline_policy::attempt::{Event, Life, Moment, StopWhy, WorkOrder};
use loadline_policy::ceiling::{Ceiling, Setter};
use loadline_policy::reconcile::LedgerAttempt;
use tracing::{info, warn};

use super::state::{Extra, State};
use crate::host::users;
use crate::warden::orders::Genuine;
use crate::warden::wire::Ordered;

/// An order that is genuine, and what the node knows of its account.
#[derive(Debug)]
pub struct Incoming {
    /// The order.
    pub order: Genuine,
    /// The account it names; for a stop it does not matter.
    pub account: Lookup,
}

/// What the name service said.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// The account is there.
    Known(users::Account),
    /// There is none of that name.
    Missing,
    /// It could not say; one sentence.
    Failed(String),
}

/// The account in the words of admission.
pub(super) fn account(person: &users::Account) -> Account {
    Account::Known {
        uid: person.uid,
        groups: person.groups.iter().cloned().collect(),
    }
}

/// Takes the orders that are new. Gives how many were.
pub(super) fn take(state: &mut State, orders: Vec<Incoming>, boot: &str, now: Moment) -> usize {
    let mut taken = 0;
    for Incoming { order, account } in orders {
        let (order, signed) = order.into_parts();
        if order.generation <= state.generation {
            continue;
        }
        taken += 1;
        state.advance(order.generation);
        let Some(attempt) = order.attempt else {
            about_the_node(state, order.what, now);
            continue;
        };
        match order.what {
            // A newer fleet may name the attempt that made it speak.
            what @ (Ordered::Ceiling { .. } | Ordered::Prove(_)) => about_the_node(state, what, now),
            Ordered::Start(work) if state.knows(attempt) => {
                info!(%attempt, job = %work.job, "an order that is known already");
                reclaim(state, *work, signed, now);
            }
            Ordered::Start(work) => start(state, *work, signed, account, boot, now),
            Ordered::Stop { why, grace } => stop(state, attempt, why, grace, boot, now),
            Ordered::Unclear(sentence) if state.knows(attempt) => {
                warn!(%attempt, sentence, "an order about a known attempt is not understood");
            }
            Ordered::Unclear(sentence) => {
                state.insert(attempt, entry(None, Account::Missing, boot), Extra::default());
                let for_good = true;
                state.happen(attempt, &Event::Refused { for_good, sentence }, now);
            }
        }
    }
    taken
}

/// Orders that name no attempt.
fn about_the_node(state: &mut State, what: Ordered, now: Moment) {
    match what {
        Ordered::Ceiling { mode, line, by } => {
            let at = now.wall;
            state.set_ceiling(Setter::Fleet, Ceiling { mode, line, by, at });
        }
        Ordered::Prove(order) => state.proves.push(order),
        Ordered::Unclear(sentence) => {
            warn!(sentence, "an order about this node is not understood");
            let receipt = Receipt {
                at: now.wall,
                action: ReceiptAction::Refused,
                subject: ReceiptSubject::Node("order".into()),
                sentence: format!("an order about this node was refused: {sentence}"),
            };
            state.receipt(receipt, now);
        }
        // The wire gives these with an attempt only.
        Ordered::Start(_) | Ordered::Stop { .. } => {}
    }
}

/// An orphan whose order comes again, after the ledger was lost: from now on it is what was ordered.
fn reclaim(state: &mut State, work: WorkOrder, signed: Vec<u8>, now: Moment) {
    let attempt = work.attempt;
    let Some(extra) = state.extras.get_mut(&attempt).filter(|extra| extra.orphan) else {
        return;
    };
    extra.orphan = false;
    extra.signed = Some(signed);
    if let Some(placement) = &mut extra.placement {
        placement.user = work.user.clone();
    }
    if let Some(entry) = state.attempts.get_mut(&attempt) {
        entry.order = Some(work);
    }
    state.touch(attempt);
    state.tell_phase(attempt, now);
}

fn entry(order: Option<WorkOrder>, account: Account, boot: &str) -> LedgerAttempt {
    LedgerAttempt {
        order,
        account,
        boot: loadline_policy::attempt::BootId(boot.to_owned()),
        life: Life::Accepted,
        holding: None,
        applied_cpus: None,
        peaks: Peaks::default(),
    }
}

fn start(state: &mut State, work: WorkOrder, signed: Vec<u8>, lookup: Lookup, boot: &str, now: Moment) {
    let attempt = work.attempt;
    let (known, person, failed) = match lookup {
        Lookup::Known(person) => (account(&person), Some(person), None),
        Lookup::Missing => (Account::Missing, None, None),
        Lookup::Failed(sentence) => (Account::Missing, None, Some(sentence)),
    };
    let extra = Extra {
        signed: Some(signed),
        account: person,
        ..Extra::default()
    };
    state.insert(attempt, entry(Some(work), known, boot), extra);
    if let Some(sentence) = failed {
        let for_good = false;
        state.happen(attempt, &Event::Refused { for_good, sentence }, now);
    }
}

fn stop(
    state: &mut State,
    attempt: AttemptId,
    why: StopWhy,
    grace: loadline_model::Span,
    boot: &str,
    now: Moment,
) {
    let detail = match why {
        StopWhy::Cancelled => "cancelled",
        StopWhy::NodeLost => "it was replaced while this node was silent",
        StopWhy::TimeLimit => "its time was over",
        StopWhy::Evicted => "evicted by the fleet",
        StopWhy::OutOfMemory => "it reached its memory limit",
    };
    if !state.knows(attempt) {
        // Ended before it began: its start, should it ever come, must not start it.
        state.insert(attempt, entry(None, Account::Missing, boot), Extra::default());
        let ended = Ended {
            reason: why.reason(),
            at: now.wall,
            peaks: Peaks::default(),
            detail: "this node knows of no such worker".into(),
        };
        state.put(attempt, Life::Ended { ended }, now);
        return;
    }
    let detail = detail.to_owned();
    state.happen(attempt, &Event::StopOrdered { why, grace, detail }, now);
}
