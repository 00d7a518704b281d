//! What operators let this node do, put into force: at once by the brake, then like any other change of the node.
//!
//! A ceiling is durable before anyone is told that it holds. The headroom loop hears of it first ([`Outside::ruled`]
//! (super::Outside)) and brakes within a look, whether systemd answers or not; workers that have no grace are killed
//! by the kernel directly, and systemd is told after.

use std::collections::BTreeSet;
use std::sync::Arc;

use loadline_model::{AttemptId, PerMille, Receipt, ReceiptAction, ReceiptSubject};
use loadline_policy::attempt::Life;
use loadline_policy::ceiling::{BeyondOwner, Ceiling, Setter, Wish};
use loadline_policy::headroom::Level;
use loadline_policy::node_policy::Mode;
use loadline_policy::reconcile::{Action, Plan};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{Node, Reconciler};
use crate::host::clock::Clock;
use crate::host::kill::kill;
use crate::host::systemd::Systemd;
use crate::host::users::Accounts;
use crate::ledger::LedgerError;

/// Why a ceiling was not set.
#[derive(Debug, thiserror::Error)]
pub enum CeilingError {
    /// It asks for more than the owner allows.
    #[error(transparent)]
    Beyond(#[from] BeyondOwner),
    /// It could not be made durable.
    #[error("it could not be made durable")]
    Ledger(#[source] Arc<LedgerError>),
}

/// What was told of what would be done, so that it is told once.
#[derive(Debug, Default)]
pub(super) struct Would {
    /// Who would have been evicted for want of room.
    room: BTreeSet<AttemptId>,
    /// Who would have been evicted for production's need, this time.
    need: BTreeSet<AttemptId>,
    /// That nobody was there to be evicted for it.
    nobody: bool,
}

impl<S: Systemd, C: Clock, A: Accounts> Reconciler<S, C, A> {
    /// Takes what root on this node wants. Gives who is to be told once it is durable.
    pub(super) fn take_wishes(
        &mut self,
        wishes: Vec<(Wish, oneshot::Sender<Result<(), CeilingError>>)>,
    ) -> Vec<oneshot::Sender<Result<(), CeilingError>>> {
        let now = self.now().wall;
        let mut granted = Vec::new();
        for (wish, reply) in wishes {
            let before = &self.state.ceilings;
            match before.wished(Setter::Here, wish, &self.owner.policy, now) {
                Ok(ceiling) => {
                    self.state.set_ceiling(Setter::Here, ceiling);
                    granted.push(reply);
                }
                // Whoever asked may be gone by now.
                Err(beyond) => drop(reply.send(Err(beyond.into()))),
            }
        }
        granted
    }

    /// The owner's or an operator's word makes another node of it: in force from now on, with a receipt.
    pub(super) fn rule(&mut self) {
        let before = self.put_in_force();
        self.tell_of_ceilings(&before);
    }

    /// The same without a word; gives what was in force.
    pub(super) fn put_in_force(&mut self) -> Node {
        let fresh = self.owner.under(&self.state.ceilings);
        let before = std::mem::replace(&mut self.node, fresh);
        if self.draining {
            self.node.policy.lend.mode = Mode::Off;
        }
        self.renewed = true;
        (self.ruled)(&self.node);
        if self.node.policy.lend.mode != before.policy.lend.mode {
            self.would = Would::default();
            self.begin_mode();
        }
        before
    }

    /// At the start: what was set before holds.
    pub(super) fn begin_under_ceilings(&mut self) {
        self.node = self.owner.under(&self.state.ceilings);
        (self.ruled)(&self.node);
    }

    fn tell_of_ceilings(&mut self, before: &Node) {
        let (was, is) = (before.policy.lend.mode, self.node.policy.lend.mode);
        let by = self.spoke(before);
        if was != is {
            let held = self.node.policy.lend.mode_held_by.clone();
            let who = held.map_or_else(|| by.clone(), |held| format!("set by {held}"));
            let sentence = format!(
                "the mode of this node is `{}` now, {who}; it was `{}`: {}",
                is.word(),
                was.word(),
                meaning(is)
            );
            self.tell_of_node(ReceiptAction::ModeChanged, "mode", sentence);
        }
        let share = |node: &Node| {
            let ceiling = node.line.ceiling.as_ref();
            ceiling.map_or(PerMille::ONE, |ceiling| ceiling.share)
        };
        let (was, is) = (share(before), share(&self.node));
        if was != is {
            let ceiling = self.node.line.ceiling.as_ref();
            let who = ceiling.map_or(by, |ceiling| format!("set by {}", ceiling.by));
            let sentence = format!(
                "lent work may have {} % of this node's line now, {who}; it was {} %",
                is.0 / 10,
                was.0 / 10
            );
            self.tell_of_node(ReceiptAction::LineChanged, "line", sentence);
        }
    }

    /// Whose word made the difference: that of whoever is not heard as before.
    fn spoke(&self, before: &Node) -> String {
        let (was, is) = (&before.ceilings, &self.node.ceilings);
        let lifted =
            |set: Option<&Ceiling>| set.map_or_else(String::new, |set| format!(", set by {} before", set.by));
        if was.fleet != is.fleet {
            format!("by the fleet's word{}", lifted(was.fleet.as_ref()))
        } else if was.here != is.here {
            format!("by root's word on this node{}", lifted(was.here.as_ref()))
        } else {
            "as node.toml says".into()
        }
    }

    pub(super) fn tell_of_node(&mut self, action: ReceiptAction, subject: &str, sentence: String) {
        info!(sentence, "ruled");
        let now = self.now();
        let receipt = Receipt {
            at: now.wall,
            action,
            subject: ReceiptSubject::Node(subject.into()),
            sentence,
        };
        self.count(&receipt);
        self.state.receipt(receipt, now);
    }

    /// Kills those whose end has no grace, before systemd is asked for anything: it may not answer for seconds.
    pub(super) fn end_at_once(&self, plan: &Plan) {
        let now = self.now().boot;
        for planned in &plan.actions {
            let now_or_never = match &planned.action {
                Action::Stop(Life::Stopping { kill_at, .. }) => *kill_at <= now,
                Action::Kill => self.node.line.is_closed(),
                _ => false,
            };
            let Some(attempt) = planned.attempt.filter(|_| now_or_never) else {
                continue;
            };
            match kill(&self.cgroups, &self.cgroup(attempt)) {
                Ok(there) => info!(%attempt, there, "killed at once"),
                // systemd is asked for the same next.
                Err(error) => warn!(%attempt, %error, "its cgroup could not be killed at once"),
            }
        }
    }

    /// What a node that only watches would do, each once.
    pub(super) fn tell_would_evict(&mut self, would: &[(AttemptId, String)], need: Option<&str>) {
        let shadow = self.node.policy.lend.mode == Mode::Shadow;
        if let (Some(need), true, true) = (need, shadow, self.state.attempts.is_empty())
            && !std::mem::replace(&mut self.would.nobody, true)
        {
            let sentence = format!("lent work would be evicted now, but none runs here: {need}");
            self.tell_of_node(ReceiptAction::WouldEvict, "loadline.slice", sentence);
        }
        for (attempt, why) in would {
            let told = if need.is_some() {
                &mut self.would.need
            } else {
                &mut self.would.room
            };
            if !told.insert(*attempt) {
                continue;
            }
            let now = self.now();
            let receipt = Receipt {
                at: now.wall,
                action: ReceiptAction::WouldEvict,
                subject: ReceiptSubject::Attempt(*attempt),
                sentence: format!("would have been evicted, but this node only watches: {why}"),
            };
            self.count(&receipt);
            self.state.receipt(receipt, now);
        }
    }

    /// Production is well again: its next need is another one.
    pub(super) fn forget_what_would_be(&mut self) {
        let calm = self
            .headroom
            .latest
            .borrow()
            .is_some_and(|decision| decision.level == Level::Open);
        if calm {
            self.would.need.clear();
            self.would.nobody = false;
        }
    }
}

const fn meaning(mode: Mode) -> &'static str {
    match mode {
        Mode::Off => "it lends nothing, and what ran was evicted",
        Mode::Shadow => "it decides and records, starts nothing, and leaves what runs under its static line",
        Mode::Enforce => "it lends, and holds the line",
    }
}
