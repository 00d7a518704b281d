//! Whether a job may start at all, before anyone looks for a place.
//!
//! What it waits for by its own will comes first, then what the operators allow by time, then what its team may hold:
//! in this order a reason that is named is the one to wait for or to change.

use loadline_model::{Amounts, LocalTime, Span, Tier, WallTime};
use serde::{Deserialize, Serialize};

use crate::policy::Counted;
use crate::policy::accounts::Accounts;
use crate::policy::dependency::Ready;
use crate::policy::quota::OverQuota;
use crate::policy::tab::{Asked, Tab};
use crate::policy::window::{Shut, Windows};

/// Why a job may not start now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gated {
    /// Others, or its own time, as its user wants it.
    Prerequisite(Ready),
    /// Its team's windows.
    TeamWindow(Shut),
    /// The windows of burst work.
    BurstWindow(Shut),
    /// Its team's quota.
    Quota(OverQuota),
}

/// What time it is to people, and when burst may start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shutter {
    /// By the fleet's own clock.
    pub local: LocalTime,
    /// For burst work of all teams.
    pub burst: Windows,
}

/// A job at the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate<'a, A = Amounts> {
    /// What it asks for.
    pub asked: Asked<'a, A>,
    /// Its tier.
    pub tier: Tier,
    /// How long it will take, if that is known.
    pub estimate: Option<Span>,
    /// Whether what it waits for has come.
    pub ready: Ready,
}

/// Lets a job pass, or says why not. `tab` holds what the plan at hand has granted already.
///
/// # Errors
/// The first reason.
pub fn gate(
    job: &Gate<'_, impl Copy + Into<Counted>>,
    accounts: &Accounts,
    tab: &Tab,
    shutter: &Shutter,
    now: WallTime,
) -> Result<(), Gated> {
    if job.ready != Ready::Now {
        return Err(Gated::Prerequisite(job.ready));
    }
    let (local, needs) = (shutter.local, job.estimate);
    let windows = accounts.windows(job.asked.team);
    if let Some(windows) = windows {
        windows.admits(local, needs).map_err(Gated::TeamWindow)?;
    }
    if job.tier == Tier::Burst {
        shutter.burst.admits(local, needs).map_err(Gated::BurstWindow)?;
    }
    accounts.admits(&job.asked, tab, now).map_err(Gated::Quota)
}
