//! All durable rows of the state, as the changes that put them: what a store that lost nothing holds.

use std::sync::Arc;

use super::State;
use super::change::Change;
use super::rows::{Progress, WorkerRow};

impl State {
    /// Every durable row, in the order in which [`State::load`] wants them. Two states with equal rows are equal
    /// in everything that outlives fleetd; the record and the five-minute samples are in the store only.
    pub fn rows(&self) -> Vec<Change> {
        let mut rows = Vec::new();
        rows.extend(
            self.users
                .iter()
                .map(|(name, row)| Change::User(name.clone(), Some(Arc::clone(row)))),
        );
        rows.extend(
            self.teams
                .iter()
                .map(|(name, row)| Change::Team(name.clone(), Some(Arc::clone(row)))),
        );
        let members = self.members.iter();
        rows.extend(members.map(|(team, user)| Change::Member(team.clone(), user.clone(), Some(()))));
        rows.extend(
            self.tokens
                .iter()
                .map(|(id, row)| Change::Token(id.clone(), Some(Arc::clone(row)))),
        );
        for (id, node) in &self.nodes {
            rows.push(Change::Node(*id, Some(Arc::clone(&node.row))));
            if node.progress != Progress::default() {
                rows.push(Change::Progress(*id, Some(node.progress)));
            }
            if let Some(ceiling) = &node.ceiling {
                rows.push(Change::Ceiling(*id, Some(Arc::clone(ceiling))));
            }
            if let Some(prove) = &node.prove {
                rows.push(Change::Prove(*id, Some(Arc::clone(prove))));
            }
            if let Some(report) = &node.report {
                rows.push(Change::Report(*id, Some(Arc::clone(report))));
            }
        }
        let ledgers = self.ledgers.iter();
        rows.extend(
            ledgers.map(|((node, ledger), sequence)| Change::Ledger(*node, *ledger, Some(*sequence))),
        );
        rows.extend(
            self.jobs
                .iter()
                .map(|(id, job)| Change::Job(*id, Some(Arc::clone(&job.row)))),
        );
        rows.extend(
            self.attempts
                .iter()
                .map(|(id, row)| Change::Attempt(*id, Some(Arc::clone(row)))),
        );
        for (id, job) in &self.jobs {
            let changed = (0u32..)
                .zip(&job.workers)
                .filter(|(_, worker)| **worker != WorkerRow::default());
            rows.extend(changed.map(|(index, worker)| Change::Worker(*id, index, Some(*worker))));
        }
        for (id, node) in &self.nodes {
            let orders = node.orders.iter();
            rows.extend(orders.map(|(generation, order)| Change::Order(*id, *generation, Some(*order))));
        }
        for (id, job) in &self.jobs {
            let refusals = job
                .avoid
                .iter()
                .map(|(node, avoid)| Change::Avoid(*id, *node, Some(avoid.clone())));
            rows.extend(refusals.filter(Change::is_durable));
        }
        rows.extend(self.receipts.iter().map(|((node, ledger, sequence), receipt)| {
            Change::Receipt(*node, *ledger, *sequence, Some(Arc::clone(receipt)))
        }));
        rows
    }
}
