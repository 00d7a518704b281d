//! Teams, quotas, and people with what they hold.

use serde::Serialize;

use super::{Moment, UserRow};

/// The most that may be held at once, or what is; `null`: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct AtOnceView {
    /// CPU, in thousandths.
    pub millicpu: Option<u64>,
    /// Memory.
    pub memory_bytes: Option<u64>,
    /// GPUs; of what is held rounded up.
    pub gpus: Option<u32>,
    /// GPUs, in thousandths: a share counts as what it is.
    pub milligpu: Option<u64>,
    /// Workers.
    pub workers: Option<u32>,
}

/// Hours of a period; `null`: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct HoursView {
    /// CPU-hours.
    pub cpu_hours: Option<u64>,
    /// GiB-hours of memory.
    pub memory_hours: Option<u64>,
    /// GPU-hours.
    pub gpu_hours: Option<u64>,
}

/// What a team may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct QuotaView {
    /// The whole team.
    pub team: AtOnceView,
    /// Each of its users.
    pub user: AtOnceView,
    /// `day`, `week` or `month`; `null`: there is no budget.
    pub per: Option<&'static str>,
    /// In each period.
    pub budget: HoursView,
}

/// A team and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TeamRow {
    /// Its name.
    pub team: String,
    /// Its share is this by the sum of all that want something.
    pub weight: u32,
    /// Who is in it.
    pub members: Vec<String>,
    /// When its work may start; empty: always.
    pub windows: Vec<String>,
    /// What it may.
    pub quota: QuotaView,
    /// What its workers hold now.
    pub held: AtOnceView,
    /// What is spent or promised in this period.
    pub spent: HoursView,
    /// When the period ends.
    pub period_ends_at: Option<Moment>,
    /// Jobs that wait.
    pub jobs_queued: u32,
    /// Jobs that run.
    pub jobs_running: u32,
    /// Its part of what all teams have had lately.
    pub share_per_mille: u32,
    /// What follows from a quota below what is held; `null`: nothing.
    pub note: Option<String>,
}

/// A person, with their teams and what they hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UserView {
    /// As in lists.
    #[serde(flatten)]
    pub user: UserRow,
    /// The teams that may pay for their jobs.
    pub teams: Vec<String>,
    /// Jobs that wait.
    pub jobs_queued: u32,
    /// Jobs that run.
    pub jobs_running: u32,
    /// What their workers hold now.
    pub held: AtOnceView,
}
