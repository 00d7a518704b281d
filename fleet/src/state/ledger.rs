//! What teams and users hold and have had, told to placement from the attempts.
//!
//! Nothing of it is stored beside the attempts: who ran where, from when to when, is durable already, and says it all.
//! So there is nothing that a crash could count twice or lose, a new quota counts what was spent before it, and a
//! start costs a walk over the attempts that are loaded anyway. Approach: attempts that changed are told one by one;
//! after a start, a failed commit or a change of a team everything is told anew.

use std::sync::Arc;

use loadline_model::{AttemptId, EndReason, Ended, JobId, JobSpec, LedgerId, Tier, Workers};
use loadline_placement::policy::Counted;
use loadline_placement::{Ending, Eviction, Running, Terms};

use super::change::Change;
use super::command::Now;
use super::node_types::Receipt;
use super::order::StopReason;
use super::rows::{AttemptRow, AttemptStage, JobRow};
use super::tx::Tx;
use super::{Sequence, State};

impl State {
    /// Tells placement which attempts began, changed or ended.
    pub(crate) fn tell_attempts(&mut self, now: Now) {
        let Some(touched) = self.touched.take_attempts() else {
            self.tell_everything(now);
            return;
        };
        let mut holding: Vec<Running> = Vec::new();
        for id in touched {
            match self.attempts.get(&id) {
                Some(row) if row.occupies() => holding.extend(self.running(row)),
                Some(row) => self.planner.remove_running(id, row.ended().map(ending)),
                None => self.planner.remove_running(id, None),
            }
        }
        // A worker's new attempt is paid for after the one that it replaces no longer is.
        holding.sort_by_key(|running| (running.given_up.is_none(), running.started, running.attempt));
        for running in holding {
            self.planner.put_running(&running);
        }
    }

    fn tell_everything(&mut self, now: Now) {
        self.planner.forget_past();
        for row in self.teams.values() {
            self.planner.set_team(&row.name, Self::team_rules(row), now.wall);
        }
        let mut holding: Vec<Running> = Vec::new();
        let mut over: Vec<(Running, Ending)> = Vec::new();
        for row in self.attempts.values() {
            let Some(running) = self.running(row) else {
                continue;
            };
            // One that was given up holds room, and was paid for until then.
            if let Some(ended) = row.ended() {
                over.push((running.clone(), ending(ended)));
            }
            if row.occupies() {
                holding.push(running);
            }
        }
        // In the order in which it happened: of a user's runs the last count.
        over.sort_by_key(|(running, ending)| (ending.at, running.attempt));
        for (was, ending) in over {
            self.planner.recall(&was, ending, now.wall);
        }
        holding.sort_by_key(|running| (running.started, running.attempt));
        for running in holding {
            self.planner.put_running(&running);
        }
    }

    /// An attempt as placement sees it.
    fn running(&self, row: &AttemptRow) -> Option<Running> {
        let job = self.jobs.get(&row.job)?;
        let JobRow { submitter, spec, .. } = &*job.row;
        Some(Running {
            attempt: row.id,
            job: row.job,
            worker: row.worker,
            node: row.node,
            terms: Arc::new(Terms {
                tier: spec.tier,
                priority: spec.priority,
                request: spec.worker,
                needs: Arc::clone(&spec.needs),
                user: Arc::clone(&submitter.user),
                team: Arc::clone(&submitter.team),
                limit: spec.time.map(|time| time.plus(spec.grace)),
                grace: spec.grace,
                least: needs_at_once(spec),
            }),
            submitted_at: job.row.submitted_at,
            started: row.assigned_at,
            yielded: job.yielded / u32::try_from(job.workers.len()).unwrap_or(u32::MAX).max(1),
            stopping: row.stop.is_some(),
            given_up: match &row.stage {
                AttemptStage::GivenUp(ended) => Some(ended.at),
                AttemptStage::Live(_) | AttemptStage::Ended(_) => None,
            },
        })
    }

    /// What the independent checker of sharing needs to know, from the rows alone.
    #[cfg(debug_assertions)]
    pub(crate) fn sharing(&self, now: Now) -> loadline_placement::check::Sharing {
        let occupying = self.attempts.values().filter(|row| row.occupies());
        let running = occupying.filter_map(|row| self.running(row));
        let teams = self.teams.values();
        loadline_placement::check::Sharing {
            running: running.collect(),
            teams: teams
                .map(|row| (row.name.clone(), Self::team_rules(row)))
                .collect(),
            ..loadline_placement::check::Sharing::of(&self.planner, &self.policy, now.wall)
        }
    }
}

/// How many workers a job needs at once: all of a gang, the least of an elastic one; none: each runs on its own.
fn needs_at_once(spec: &JobSpec) -> Option<u32> {
    match spec.workers {
        Workers::Elastic(elastic) => Some(elastic.min),
        Workers::Fixed(workers) => spec.gang.then_some(workers),
    }
}

/// The fleet's own receipt about an attempt is named by the attempt, as no ledger of a node is.
fn own_ledger(attempt: AttemptId) -> LedgerId {
    let nil = || LedgerId::from_uuid(uuid::Uuid::nil());
    LedgerId::from_slice(attempt.as_bytes()).unwrap_or_else(|_| nil())
}

fn ending(ended: &Ended) -> Ending {
    Ending {
        at: ended.at,
        own: matches!(
            ended.reason,
            EndReason::Exited { .. } | EndReason::TimeLimit | EndReason::OutOfMemory
        ),
    }
}

impl Tx<'_> {
    /// A worker makes room for another job: it is asked to stop, and everyone can read why.
    pub(crate) fn let_yield(&mut self, eviction: &Eviction) {
        let Some(row) = self.state.attempts.get(&eviction.attempt).cloned() else {
            return;
        };
        if row.stop.is_some() || !row.is_live() {
            return;
        }
        let sentence = self.state.yields_to(&row, eviction.to);
        self.log("yielded", "fleet", row.id, &sentence);
        let receipt = Receipt {
            at: self.now.wall,
            action: "yield".into(),
            attempt: Some(row.id),
            subject: String::new(),
            sentence,
        };
        let ledger = own_ledger(row.id);
        self.put(Change::Receipt(
            row.node,
            ledger,
            Sequence(1),
            Some(Arc::new(receipt)),
        ));
        self.order_stop(row.id, StopReason::Yielded);
    }

    /// An end that the fleet has asked for so that a worker yields is an eviction, however the node tells it.
    pub(crate) fn as_ordered(&self, row: &AttemptRow, ended: Ended) -> Ended {
        let by_order = matches!(
            ended.reason,
            EndReason::Cancelled | EndReason::Evicted | EndReason::Signalled { .. }
        );
        if row.stop != Some(StopReason::Yielded) || !by_order {
            return ended;
        }
        let ledger = own_ledger(row.id);
        let receipt = self.state.receipts.get(&(row.node, ledger, Sequence(1)));
        Ended {
            reason: EndReason::Evicted,
            detail: receipt.map_or(ended.detail, |receipt| receipt.sentence.clone()),
            ..ended
        }
    }
}

impl State {
    /// To whom a worker yields, and what that gives and takes.
    fn yields_to(&self, row: &AttemptRow, to: JobId) -> String {
        let (Some(own), Some(other)) = (self.jobs.get(&row.job), self.jobs.get(&to)) else {
            return "It made room for another job.".into();
        };
        let (own, other) = (&own.row, &other.row);
        let why = match (own.spec.tier, other.spec.tier) {
            (Tier::Burst, Tier::Standard) => "burst yields to standard".to_owned(),
            _ if other.spec.priority > own.spec.priority => {
                format!("priority {} yields to {}", own.spec.priority, other.spec.priority)
            }
            _ => format!(
                "job {} has more than its least, {} workers, and the other has too few",
                own.number,
                own.spec.workers.min()
            ),
        };
        let Counted { cpu, memory, gpus } = Counted::of(&own.spec.worker, &own.spec.needs);
        let gpus = if gpus.is_zero() {
            String::new()
        } else {
            format!(", {gpus} GPUs")
        };
        format!(
            "Worker {}.{} made room for job {} of {} ({why}): {cpu} CPUs, {memory}{gpus}. It waits and starts again; it uses up no retry.",
            own.number, row.worker, other.number, other.submitter.user
        )
    }
}
