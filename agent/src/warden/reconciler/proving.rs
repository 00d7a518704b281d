//! The test that the fleet has ordered: whether it begins is decided here, with the order; it runs elsewhere.
//!
//! The order is noted where it outlives this program before it is durable in the ledger, and carried out after. A crash
//! in between loses nothing: who runs tests begins what is noted and not begun. What a test does and comes to is an
//! event like any other, durable before its files go.

use loadline_model::ProveId;
use loadline_policy::prove::ordered::{Answer, Ended, NoTest, Stage, Standing, answer, consent, over};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::Reconciler;
use crate::host::clock::Clock;
use crate::host::systemd::Systemd;
use crate::host::users::Accounts;
use crate::ledger::{Happened, ProveNews};
use crate::prove::handover::Texts;

/// What follows from an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doing {
    /// Run it.
    Begin(Standing),
    /// End it at once.
    Stop(Standing),
}

/// Who runs tests.
pub trait Prover: Send {
    /// The test that is not over, from before this program began.
    fn standing(&self) -> Option<Standing>;

    /// Remembers what is about to be asked. Cheap; called before it is durable that it was asked.
    fn note(&self, doing: &Doing);

    /// Does it, once it is.
    fn go(&self, doing: Doing);
}

/// What was seen of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It runs: what it does just now.
    Running(String),
    /// How it ended, with what it came to.
    Over(Ended, Option<Texts>),
}

/// The same, and who is to be told once it is durable.
#[derive(Debug)]
pub struct ProveSeen {
    /// Of which test.
    pub run: ProveId,
    /// What.
    pub seen: Seen,
    /// Told.
    pub reply: oneshot::Sender<()>,
}

impl<S: Systemd, C: Clock, A: Accounts> Reconciler<S, C, A> {
    fn prove_consent(&self) -> Result<(), NoTest> {
        let local = (self.local)(&self.node.policy);
        consent(&self.node.policy, self.node.line.is_closed(), &local)
    }

    /// Decides on the orders of this round. What follows is noted here and done by [`Reconciler::prove`].
    pub(super) fn take_proves(&mut self) -> Vec<Doing> {
        let mut doings = Vec::new();
        for order in std::mem::take(&mut self.state.proves) {
            let consent = self.prove_consent();
            let (doing, standing) = match answer(self.state.prove.as_ref(), &order, consent) {
                Answer::Begin(standing) => (Doing::Begin(standing.clone()), standing),
                Answer::Stop(standing) => (Doing::Stop(standing.clone()), standing),
                Answer::Known => continue,
                Answer::Over(stage, sentence) => {
                    self.tell_of_prove(order.run, stage, sentence, None);
                    continue;
                }
            };
            self.state.prove = Some(standing);
            self.prover.note(&doing);
            doings.push(doing);
        }
        doings
    }

    /// What is durable now is done, and told.
    pub(super) fn prove(&self, doings: Vec<Doing>, seen: Vec<oneshot::Sender<()>>) {
        for doing in doings {
            self.prover.go(doing);
        }
        for reply in seen {
            // Whoever saw it may be gone.
            let _ = reply.send(());
        }
    }

    /// What was seen becomes events. Gives who is to be told once they are durable.
    pub(super) fn take_seen(&mut self, all: Vec<ProveSeen>) -> Vec<oneshot::Sender<()>> {
        let mut told = Vec::new();
        for ProveSeen { run, seen, reply } in all {
            told.push(reply);
            let Some(standing) = self.state.prove.clone().filter(|standing| standing.run == run) else {
                warn!(%run, "news of a test that does not stand here");
                continue;
            };
            match seen {
                Seen::Running(line) => self.tell_of_prove(run, Stage::Running, line, None),
                Seen::Over(ended, report) => {
                    let (stage, sentence) = over(&standing, ended);
                    self.state.prove = None;
                    self.tell_of_prove(run, stage, sentence, report);
                }
            }
        }
        told
    }

    /// Nothing presses where nothing may be lent any more: an operator's brake, the owner's word, the end of a window.
    pub(super) fn hold_prove(&mut self) {
        let Some(standing) = self
            .state
            .prove
            .clone()
            .filter(|standing| standing.stopped_by.is_none())
        else {
            return;
        };
        if let Err(why) = self.prove_consent() {
            info!(run = %standing.run, %why, "the test is ended");
            let standing = Standing {
                stopped_by: Some(format!("the node itself: {why}")),
                ..standing
            };
            self.state.prove = Some(standing.clone());
            let doing = Doing::Stop(standing);
            self.prover.note(&doing);
            self.prover.go(doing);
        }
    }

    fn tell_of_prove(&mut self, run: ProveId, stage: Stage, sentence: String, report: Option<Texts>) {
        info!(%run, stage = stage.word(), sentence, "test");
        let now = self.now();
        let news = ProveNews {
            run,
            stage,
            sentence,
            report,
        };
        self.state.tell(Happened::Prove(news), now);
    }
}
