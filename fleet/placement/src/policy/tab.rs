//! What a plan that is being made has granted already.
//!
//! The accounts change when a plan is committed; until then several starts of one plan must not pass a quota together.

use alloc::collections::BTreeMap;
use alloc::string::String;

use loadline_model::{Amounts, Span};

use crate::policy::quota::Held;
use crate::policy::{Counted, Spent};

/// A start that someone asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a, A = Amounts> {
    /// The team that pays.
    pub team: &'a str,
    /// The user who asks.
    pub user: &'a str,
    /// What all its workers hold together: whole GPUs, or as it is [`Counted`].
    pub amounts: A,
    /// How many start.
    pub workers: u32,
    /// How long they may run, their farewell included.
    pub limit: Option<Span>,
}

impl<A: Copy + Into<Counted>> Asked<'_, A> {
    pub(super) fn held(&self) -> Held {
        Held {
            amounts: self.amounts.into(),
            workers: self.workers,
        }
    }
}

/// What one plan has granted so far, on top of the accounts: they change only when the plan is committed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tab {
    teams: BTreeMap<String, (Granted, BTreeMap<String, Granted>)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) held: Held,
    pub(super) paid: Spent,
}

impl Granted {
    fn add(&mut self, held: Held, paid: Spent) {
        self.held = self.held.plus(held);
        self.paid = self.paid.plus(paid);
    }
}

impl Tab {
    pub(super) fn of(&self, team: &str, user: &str) -> (Granted, Granted) {
        let Some((team, users)) = self.teams.get(team) else {
            return Default::default();
        };
        (*team, users.get(user).copied().unwrap_or_default())
    }

    /// Notes a start that the plan has decided.
    pub fn add(&mut self, asked: &Asked<'_, impl Copy + Into<Counted>>) {
        let paid = asked
            .limit
            .map_or(Spent::ZERO, |limit| Spent::of(asked.amounts, limit));
        let (team, users) = self.teams.entry(asked.team.into()).or_default();
        let held = asked.held();
        team.add(held, paid);
        users.entry(asked.user.into()).or_default().add(held, paid);
    }
}
