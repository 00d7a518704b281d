//! The most an operator lets a node do, within what its owner allows.
//!
//! **Problem.** Operators must be able to stop lending at once, from the fleet or on the node, and to give it back;
//! but what may be lent is the owner's to say, in node.toml. **Approach.** A ceiling only ever lowers: the effective
//! mode is the lowest of the owner's and all ceilings', the effective line the smallest share of the static line.
//! There are two of them, one set by the fleet, one by root on the node itself, since either must be able to stop
//! the node while the other says nothing. **Properties.** With no ceiling the owner's policy is unchanged; another
//! ceiling never makes more of it; who set what holds is named wherever it holds.
//!
//! Modes in order: off < shadow < enforce. What already runs when a node begins to watch only goes on under the
//! static line, which is still held for it: nothing stops by absence, and what runs must not go past the line. What
//! the headroom loop wants is told and not done. An operator's line of 0 is no judgement of the loop: it holds there
//! too.

use alloc::format;
use alloc::string::String;

use loadline_model::{PerMille, WallTime};
use serde::{Deserialize, Serialize};

use crate::line::Line;
use crate::node_policy::{Mode, NodePolicy};

/// One operator's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ceiling {
    /// The node does no more than this.
    pub mode: Mode,
    /// It lends at most this part of its static line.
    pub line: PerMille,
    /// Who set it.
    pub by: String,
    /// When it was set, by the node's wall clock.
    pub at: WallTime,
}

impl Ceiling {
    /// True if it holds nothing down.
    pub fn is_lifted(&self) -> bool {
        self.mode == Mode::Enforce && self.line >= PerMille::ONE
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Setter {
    /// The fleet, by a signed order.
    Fleet,
    /// Root on the node itself.
    Here,
}

/// A change of a ceiling: what is not said stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Another mode.
    pub mode: Option<Mode>,
    /// Another part of the line.
    pub line: Option<PerMille>,
    /// Who wants it.
    pub by: String,
}

/// Why a wish is not granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this node's owner allows no more than `{}`: `lend.mode` in /etc/loadline/node.toml says so, and only the owner changes that",
    owners.word()
)]
pub struct BeyondOwner {
    /// What node.toml says.
    pub owners: Mode,
}

/// All that is set on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ceilings {
    /// By the fleet.
    pub fleet: Option<Ceiling>,
    /// On the node itself.
    pub here: Option<Ceiling>,
}

impl Ceilings {
    /// Those that are set, with who speaks.
    pub fn all(&self) -> impl Iterator<Item = (Setter, &Ceiling)> {
        let fleet = self.fleet.iter().map(|ceiling| (Setter::Fleet, ceiling));
        fleet.chain(self.here.iter().map(|ceiling| (Setter::Here, ceiling)))
    }

    /// Sets one, in place of what the same speaker said before.
    pub fn set(&mut self, setter: Setter, ceiling: Ceiling) {
        let place = match setter {
            Setter::Fleet => &mut self.fleet,
            Setter::Here => &mut self.here,
        };
        *place = Some(ceiling).filter(|ceiling| !ceiling.is_lifted());
    }

    /// The ceiling that a speaker's wish makes of what they said before.
    ///
    /// # Errors
    /// When it asks for more than the owner allows. Said rather than silently without effect.
    pub fn wished(
        &self,
        setter: Setter,
        wish: Wish,
        owner: &NodePolicy,
        now: WallTime,
    ) -> Result<Ceiling, BeyondOwner> {
        let owners = owner.lend.mode;
        if wish.mode.is_some_and(|mode| mode > owners) {
            return Err(BeyondOwner { owners });
        }
        let before = match setter {
            Setter::Fleet => self.fleet.as_ref(),
            Setter::Here => self.here.as_ref(),
        };
        Ok(Ceiling {
            mode: wish
                .mode
                .or_else(|| before.map(|before| before.mode))
                .unwrap_or(Mode::Enforce),
            line: wish
                .line
                .or_else(|| before.map(|before| before.line))
                .unwrap_or(PerMille::ONE)
                .min(PerMille::ONE),
            by: wish.by,
            at: now,
        })
    }

    /// The policy in force: the owner's, with the lowest mode of all.
    pub fn policy(&self, owner: &NodePolicy) -> NodePolicy {
        let mut policy = owner.clone();
        let lowest = self.all().min_by_key(|(_, ceiling)| ceiling.mode);
        if let Some((setter, ceiling)) = lowest.filter(|(_, ceiling)| ceiling.mode < owner.lend.mode) {
            policy.lend.mode = ceiling.mode;
            policy.lend.mode_held_by = Some(who(setter, &ceiling.by));
        }
        policy
    }

    /// The line in force: the owner's, at the smallest share of all.
    pub fn line(&self, line: Line) -> Line {
        match self.all().min_by_key(|(_, ceiling)| ceiling.line) {
            Some((setter, ceiling)) => line.under(ceiling.line, &who(setter, &ceiling.by)),
            None => line,
        }
    }
}

fn who(setter: Setter, by: &str) -> String {
    match setter {
        Setter::Fleet => format!("{by} (fleet)"),
        Setter::Here => format!("{by} (on this node)"),
    }
}

#[cfg(test)]
mod tests;
