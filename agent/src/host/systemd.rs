//! What the warden asks of systemd, as a trait: the real one speaks D-Bus, the other lives in memory and fails
//! on demand. Workers are transient services, so they outlive every program of ours (design §4).

pub mod aside;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod live;
mod properties;
mod proxy;
mod sandbox;
mod unit;

use std::time::Duration;

use loadline_model::{Bytes, Span};
use loadline_policy::attempt::{MainEnd, UnitEnd};
use loadline_policy::reconcile::UnitActive;
use loadline_policy::settings::Told;

pub use live::LiveSystemd;
pub use unit::{Setting, WorkerUnit};

/// The units that workers run as.
pub const WORKER_PATTERN: &str = "loadline-w-*.service";

/// The slice of everything lent.
pub const SLICE: &str = "loadline.slice";

/// How a queued start ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The command runs, or ran: a short one may be over already.
    Done,
    /// systemd gave up: see the unit's end facts.
    Failed,
    /// The start was cancelled by another job for the unit, for instance a stop.
    Cancelled,
}

/// A start that systemd has decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// How.
    pub outcome: Outcome,
    /// The unit at that moment; absent if it is gone already.
    pub state: Option<UnitState>,
}

/// What systemd knows of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitState {
    /// The unit's name.
    pub unit: String,
    /// Where it stands.
    pub active: UnitActive,
    /// The run, 32 hexadecimal digits; empty before the first.
    pub invocation: String,
    /// The main process; 0: none.
    pub main_pid: u32,
    /// How it ended, once `active` says that it has.
    pub end: UnitEnd,
}

/// From systemd's `ActiveState`; unknown words of newer versions count as running, so that nothing is given away.
/// A new unit is told as `inactive` before its start begins, so being over takes a word on how.
pub fn active_from(word: &str, end: &UnitEnd) -> UnitActive {
    let told = end.main != MainEnd::Unknown || end.result != "success";
    match word {
        "activating" => UnitActive::Starting,
        "deactivating" => UnitActive::Stopping,
        "inactive" | "failed" if told => UnitActive::Over,
        "inactive" => UnitActive::Starting,
        _ => UnitActive::Running,
    }
}

/// What a worker used in all, known as long as its unit is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnitUsage {
    /// CPU time.
    pub cpu_time: Option<Span>,
    /// The most memory; only newer systemd keeps it after the end.
    pub memory_peak: Option<Bytes>,
}

/// What systemd tells without being asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// A worker's unit changed.
    Unit(UnitState),
    /// All units were loaded anew: limits may have been reset.
    Reloaded,
    /// Signals may have been missed: look at everything.
    Resync,
}

/// A request to systemd that failed.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// There is a unit of that name already.
    #[error("{unit} exists already")]
    UnitExists {
        /// The unit.
        unit: String,
    },
    /// systemd knows no unit of that name.
    #[error("{unit} is not loaded")]
    NoSuchUnit {
        /// The unit.
        unit: String,
    },
    /// systemd refused what was asked as invalid.
    #[error("systemd refuses {operation} of {unit}: {message}")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// Of which unit.
        unit: String,
        /// Its own words.
        message: String,
    },
    /// No answer in time; whether it was done is not known.
    #[error("systemd did not answer {operation} of {unit} within {}s", limit.as_secs())]
    TimedOut {
        /// What was asked.
        operation: &'static str,
        /// Of which unit.
        unit: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The bus failed; whether it was done is not known.
    #[error("{operation} of {unit} over D-Bus failed")]
    Bus {
        /// What was asked.
        operation: &'static str,
        /// Of which unit.
        unit: String,
        /// What the bus said.
        #[source]
        source: Box<zbus::Error>,
    },
}

impl SystemdError {
    /// True if it is certain that nothing was done.
    pub const fn nothing_done(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::NoSuchUnit { .. })
    }
}

/// systemd, or something that behaves like it.
pub trait Systemd: Send + Sync + 'static {
    /// Starts a worker and waits until its command runs or cannot.
    ///
    /// # Errors
    /// When systemd refuses, fails, or does not answer.
    fn start_worker(&self, unit: &WorkerUnit) -> impl Future<Output = Result<Started, SystemdError>> + Send;

    /// Starts a unit that has a file, for instance a slice.
    ///
    /// # Errors
    /// When systemd refuses, fails, or does not answer.
    fn start(&self, unit: &str) -> impl Future<Output = Result<(), SystemdError>> + Send;

    /// Asks a unit's processes to end, and ends them when its stop time-out is over. Does not wait.
    ///
    /// # Errors
    /// When systemd fails or does not answer.
    fn stop(&self, unit: &str) -> impl Future<Output = Result<(), SystemdError>> + Send;

    /// Sends a signal to all processes of a unit.
    ///
    /// # Errors
    /// When systemd fails or does not answer.
    fn kill(&self, unit: &str, signal: i32) -> impl Future<Output = Result<(), SystemdError>> + Send;

    /// Changes settings of a loaded unit until it ends or the machine restarts.
    ///
    /// # Errors
    /// When systemd refuses, fails, or does not answer.
    fn set(&self, unit: &str, settings: &[Setting]) -> impl Future<Output = Result<(), SystemdError>> + Send;

    /// What systemd was last told of a slice, by whomever, of those limits that the brake writes beside it. Does not wait
    /// for a systemd that is busy.
    ///
    /// # Errors
    /// When systemd fails or does not answer soon.
    fn told(&self, slice: &str) -> impl Future<Output = Result<Told, SystemdError>> + Send;

    /// The cgroup of a unit as systemd writes it, `/system.slice/nginx.service`; nothing if it has none.
    ///
    /// # Errors
    /// When systemd fails or does not answer.
    fn control_group(&self, unit: &str) -> impl Future<Output = Result<Option<String>, SystemdError>> + Send;

    /// All loaded worker units and where they stand.
    ///
    /// # Errors
    /// When systemd fails or does not answer.
    fn workers(&self) -> impl Future<Output = Result<Vec<(String, UnitActive)>, SystemdError>> + Send;

    /// What systemd knows of a unit; nothing if it is not loaded.
    ///
    /// # Errors
    /// When systemd fails or does not answer.
    fn observe(&self, unit: &str) -> impl Future<Output = Result<Option<UnitState>, SystemdError>> + Send;

    /// What a unit used in all; each part absent where systemd does not know it.
    fn usage(&self, unit: &str) -> impl Future<Output = UnitUsage> + Send;

    /// Keeps a unit loaded after its end, so that its facts can be read.
    ///
    /// # Errors
    /// When systemd fails or does not answer.
    fn hold(&self, unit: &str) -> impl Future<Output = Result<(), SystemdError>> + Send;

    /// Lets go of a unit that was held since its start or by [`Systemd::hold`].
    ///
    /// # Errors
    /// When systemd fails or does not answer.
    fn release(&self, unit: &str) -> impl Future<Output = Result<(), SystemdError>> + Send;

    /// Its version, for instance `257.13-1~deb13u1`.
    ///
    /// # Errors
    /// When systemd fails or does not answer.
    fn version(&self) -> impl Future<Output = Result<String, SystemdError>> + Send;
}
