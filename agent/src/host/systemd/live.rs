//! The real systemd, over its own socket and, where only that will do, over the system bus.
//!
//! Of every caller on the bus systemd asks dbus-daemon who it is, and answers nobody until it knows; where production
//! has taken every CPU that was seen to take 209 ms, once 607 ms. On its own socket (`systemctl` of root uses it too)
//! the kernel says who calls. But only the bus knows references to units, and those keep a unit's facts readable
//! after its end: so workers are started and held over the bus, which nobody does in a starved slice, and released
//! there, for which systemd was not seen to ask.
//! Either way lost (dbus or systemd restarted itself), the pump finds both again; calls fail meanwhile.

mod aside;
mod direct;
mod names;
mod pump;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use loadline_model::{Bytes, Span};
use loadline_policy::reconcile::UnitActive;
use loadline_policy::settings::Told;
use tokio::sync::{OnceCell, mpsc};
use zbus::Connection;
use zbus::proxy::CacheProperties;
use zbus::zvariant::{Fd, OwnedObjectPath, OwnedValue, Value};

use self::pump::Ways;
use super::properties::Verbatim;
use super::proxy::ManagerProxy;
use super::{
    Outcome, Setting, Signal, Started, Systemd, SystemdError, UnitState, UnitUsage, WORKER_PATTERN,
    WorkerUnit, active_from, properties,
};
use crate::host::disks;
use crate::host::ended::end_from_properties;
use crate::host::journal_stream::{self, Output};
use crate::host::root::HostRoot;

/// The workers' own journal.
const NAMESPACE: &str = "loadline";
/// A socket unit is up within milliseconds; beyond this the worker starts without a stream of its own.
const JOURNAL_LIMIT: Duration = Duration::from_secs(2);
const JOURNAL_LOOK: Duration = Duration::from_millis(10);
const SERVICE: &str = "org.freedesktop.systemd1";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE_UNIT: &str = "org.freedesktop.systemd1.Service";
const SLICE_UNIT: &str = "org.freedesktop.systemd1.Slice";

/// During a reload PID 1 answers no one for seconds (2.8–5.3 s seen under emulation).
/// Less than the warden's watchdog allows.
const CALL_LIMIT: Duration = Duration::from_secs(20);
/// For what can be asked again in a few seconds.
const ASK_LIMIT: Duration = Duration::from_secs(1);
/// systemd's own limit on a start is 90 s; a starved slice has taken more than 60 s.
const START_LIMIT: Duration = Duration::from_secs(150);
/// Signals that the warden has not yet looked at; beyond this it is told to look at everything instead.
const SIGNALS_QUEUED: usize = 1024;

/// A decided job: which, how, and the unit at that moment.
type Decided = (OwnedObjectPath, Outcome, Option<UnitState>);

/// Both outputs of a worker, so that a reader can tell them apart. Without the namespace's journald, systemd itself
/// connects them later, both as stdout: its lines are kept, and that is said.
fn outputs(unit: &WorkerUnit) -> Vec<properties::Property> {
    let open = |output| journal_stream::open(NAMESPACE, &unit.settings.unit, &unit.log_identifier, output);
    match open(Output::Stdout).and_then(|stdout| Ok((stdout, open(Output::Stderr)?))) {
        Ok((stdout, stderr)) => vec![
            ("StandardOutputFileDescriptor", Value::from(Fd::from(stdout))),
            ("StandardErrorFileDescriptor", Value::from(Fd::from(stderr))),
        ],
        Err(error) => {
            let unit = &unit.settings.unit;
            tracing::warn!(%unit, error = &error as &dyn std::error::Error, "stdout and stderr of this worker are one");
            Vec::new()
        }
    }
}

/// What pump and callers share.
#[derive(Debug, Default)]
struct Shared {
    /// Who waits for a unit's start job, by unit.
    waiting: Mutex<HashMap<String, mpsc::UnboundedSender<Decided>>>,
    /// Workers as last told by signals.
    units: Mutex<HashMap<String, UnitState>>,
    /// systemd's version as it first told.
    version: OnceCell<String>,
}

/// systemd.
#[derive(Debug, Clone)]
pub struct LiveSystemd {
    ways: Arc<RwLock<Ways>>,
    shared: Arc<Shared>,
}

impl LiveSystemd {
    /// Connects and starts to listen; the signals come out of the receiver.
    ///
    /// # Errors
    /// When there is no system bus or no systemd, or the caller is not root.
    pub async fn connect() -> Result<(Self, mpsc::Receiver<Signal>), SystemdError> {
        let shared = Arc::new(Shared::default());
        let (ways, incoming) = pump::connect().await.map_err(|source| SystemdError::Bus {
            operation: "connect",
            unit: "systemd".into(),
            source: Box::new(source),
        })?;
        let ways = Arc::new(RwLock::new(ways));
        let (sender, signals) = mpsc::channel(SIGNALS_QUEUED);
        tokio::spawn(pump::run(incoming, ways.clone(), shared.clone(), sender));
        Ok((Self { ways, shared }, signals))
    }

    fn ways(&self) -> Ways {
        self.ways.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For all but references.
    async fn manager(&self) -> zbus::Result<ManagerProxy<'static>> {
        proxy_on(&self.ways().direct).await
    }

    /// For references to units.
    async fn referring(&self) -> zbus::Result<ManagerProxy<'static>> {
        proxy_on(&self.ways().bus).await
    }

    async fn get(&self, unit: &str, interface: &str, name: &str) -> zbus::Result<OwnedValue> {
        let direct = self.ways().direct;
        let (path, arguments) = (names::path_of(unit), (interface, name));
        let properties = Some("org.freedesktop.DBus.Properties");
        let reply = direct
            .call_method(Some(SERVICE), path, properties, "Get", &arguments)
            .await?;
        reply.body().deserialize()
    }

    async fn get_u64(&self, unit: &str, name: &str) -> Option<u64> {
        let value = self.get(unit, SERVICE_UNIT, name).await.ok()?;
        // systemd's word for "not known" is the largest number.
        u64::try_from(value).ok().filter(|number| *number != u64::MAX)
    }

    async fn read_state(&self, unit: &str) -> zbus::Result<UnitState> {
        let (active, invocation, pid, result, code, status) = tokio::try_join!(
            self.get(unit, UNIT, "ActiveState"),
            self.get(unit, UNIT, "InvocationID"),
            self.get(unit, SERVICE_UNIT, "MainPID"),
            self.get(unit, SERVICE_UNIT, "Result"),
            self.get(unit, SERVICE_UNIT, "ExecMainCode"),
            self.get(unit, SERVICE_UNIT, "ExecMainStatus"),
        )?;
        let text = |value: OwnedValue| String::try_from(value);
        let end = end_from_properties(&text(result)?, i32::try_from(code)?, i32::try_from(status)?);
        Ok(UnitState {
            unit: unit.to_owned(),
            active: active_from(&text(active)?, &end),
            invocation: names::hex(&Vec::<u8>::try_from(invocation)?),
            main_pid: u32::try_from(pid)?,
            end,
        })
    }

    /// Waits until the given job is decided.
    async fn decided(
        &self,
        job: &OwnedObjectPath,
        decisions: &mut mpsc::UnboundedReceiver<Decided>,
    ) -> Option<Started> {
        while let Some((path, outcome, state)) = decisions.recv().await {
            if path == *job {
                return Some(Started { outcome, state });
            }
        }
        None
    }

    /// The first worker of a boot finds its journal not yet listening: it is started, and waited for, like any
    /// dependency of a unit.
    async fn open_journal(&self) -> zbus::Result<()> {
        if journal_stream::is_open(NAMESPACE) {
            return Ok(());
        }
        let socket = format!("systemd-journald@{NAMESPACE}.socket");
        self.manager().await?.start_unit(&socket, "replace").await?;
        let opened = async {
            while !journal_stream::is_open(NAMESPACE) {
                tokio::time::sleep(JOURNAL_LOOK).await;
            }
        };
        if tokio::time::timeout(JOURNAL_LIMIT, opened).await.is_err() {
            tracing::warn!(%socket, "the workers' journal does not listen yet");
        }
        Ok(())
    }

    async fn verbatim(&self) -> zbus::Result<Verbatim> {
        let ask = || async { self.manager().await?.version().await };
        let version = self.shared.version.get_or_try_init(ask).await?;
        Ok(Verbatim::for_version(version))
    }

    async fn start_and_wait(&self, unit: &WorkerUnit) -> zbus::Result<Started> {
        let (sender, mut decisions) = mpsc::unbounded_channel();
        lock(&self.shared.waiting).insert(unit.settings.unit.clone(), sender);
        self.open_journal().await?;
        let mut list = properties::of_worker(unit, self.verbatim().await?);
        list.extend(outputs(unit));
        let job = self
            .referring()
            .await?
            .start_transient_unit(&unit.settings.unit, "fail", &list, &[])
            .await?;
        let Some(mut started) = self.decided(&job, &mut decisions).await else {
            return Err(zbus::Error::InputOutput(Arc::new(
                std::io::ErrorKind::ConnectionReset.into(),
            )));
        };
        if started.state.is_none() {
            started.state = self.read_state(&unit.settings.unit).await.ok();
        }
        Ok(started)
    }
}

async fn proxy_on(connection: &Connection) -> zbus::Result<ManagerProxy<'static>> {
    ManagerProxy::builder(connection)
        .cache_properties(CacheProperties::No)
        .build()
        .await
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts a time limit on a call and says in its error what was asked of which unit.
async fn call<T>(
    operation: &'static str,
    unit: &str,
    limit: Duration,
    work: impl Future<Output = zbus::Result<T>>,
) -> Result<T, SystemdError> {
    match tokio::time::timeout(limit, work).await {
        Ok(answer) => answer.map_err(|error| names::explain(operation, unit, error)),
        Err(_) => Err(SystemdError::TimedOut {
            operation,
            unit: unit.to_owned(),
            limit,
        }),
    }
}

/// A listing does not say how a unit ended; whoever is over is looked at again.
fn listed(word: &str) -> UnitActive {
    active_from(word, &end_from_properties("listed", 0, 0))
}

impl Systemd for LiveSystemd {
    async fn start_worker(&self, unit: &WorkerUnit) -> Result<Started, SystemdError> {
        let started = call(
            "start",
            &unit.settings.unit,
            START_LIMIT,
            self.start_and_wait(unit),
        )
        .await;
        lock(&self.shared.waiting).remove(&unit.settings.unit);
        started
    }

    async fn start(&self, unit: &str) -> Result<(), SystemdError> {
        let work = async { self.manager().await?.start_unit(unit, "replace").await };
        call("start", unit, CALL_LIMIT, work).await.map(drop)
    }

    async fn stop(&self, unit: &str) -> Result<(), SystemdError> {
        let work = async { self.manager().await?.stop_unit(unit, "replace").await };
        call("stop", unit, CALL_LIMIT, work).await.map(drop)
    }

    async fn kill(&self, unit: &str, signal: i32) -> Result<(), SystemdError> {
        let work = async { self.manager().await?.kill_unit(unit, "all", signal).await };
        call("kill", unit, CALL_LIMIT, work).await
    }

    async fn set(&self, unit: &str, settings: &[Setting]) -> Result<(), SystemdError> {
        let by_disk = |setting: &Setting| matches!(setting, Setting::IoBandwidth(_));
        let disks = if settings.iter().any(by_disk) {
            disks::list(&HostRoot::default())
        } else {
            Vec::new()
        };
        let list = properties::of_settings(settings, &disks);
        let work = async { self.manager().await?.set_unit_properties(unit, true, &list).await };
        call("set properties", unit, CALL_LIMIT, work).await
    }

    async fn told(&self, slice: &str) -> Result<Told, SystemdError> {
        let work = async {
            let (quota, high) = tokio::try_join!(
                self.get(slice, SLICE_UNIT, "CPUQuotaPerSecUSec"),
                self.get(slice, SLICE_UNIT, "MemoryHigh"),
            )?;
            Ok(properties::told(u64::try_from(quota)?, u64::try_from(high)?))
        };
        call("look at the limits", slice, ASK_LIMIT, work).await
    }

    async fn control_group(&self, unit: &str) -> Result<Option<String>, SystemdError> {
        let interface = match unit.rsplit_once('.') {
            Some((_, "slice")) => SLICE_UNIT,
            Some((_, "scope")) => "org.freedesktop.systemd1.Scope",
            _ => SERVICE_UNIT,
        };
        let work = async {
            Ok(String::try_from(
                self.get(unit, interface, "ControlGroup").await?,
            )?)
        };
        match call("find", unit, CALL_LIMIT, work).await {
            Err(SystemdError::NoSuchUnit { .. }) => Ok(None),
            answer => Ok(answer.map(Some)?.filter(|cgroup| !cgroup.is_empty())),
        }
    }

    async fn workers(&self) -> Result<Vec<(String, UnitActive)>, SystemdError> {
        let work = async {
            self.manager()
                .await?
                .list_units_by_patterns(&[], &[WORKER_PATTERN])
                .await
        };
        let rows = call("list", WORKER_PATTERN, CALL_LIMIT, work).await?;
        // Units that are only named by others are listed as `not-found`; they have no processes.
        let loaded = rows.into_iter().filter(|row| row.2 == "loaded");
        Ok(loaded.map(|row| (row.0, listed(&row.3))).collect())
    }

    async fn observe(&self, unit: &str) -> Result<Option<UnitState>, SystemdError> {
        let work = async {
            let load = String::try_from(self.get(unit, UNIT, "LoadState").await?)?;
            if load == "not-found" {
                return Ok(None);
            }
            self.read_state(unit).await.map(Some)
        };
        match call("observe", unit, CALL_LIMIT, work).await {
            Err(SystemdError::NoSuchUnit { .. }) => Ok(None),
            answer => answer,
        }
    }

    async fn usage(&self, unit: &str) -> UnitUsage {
        let both = async {
            tokio::join!(
                self.get_u64(unit, "CPUUsageNSec"),
                self.get_u64(unit, "MemoryPeak")
            )
        };
        let (cpu, memory) = tokio::time::timeout(CALL_LIMIT, both).await.unwrap_or_default();
        UnitUsage {
            cpu_time: cpu.map(|nanos| Span(nanos / 1000)),
            memory_peak: memory.map(Bytes),
        }
    }

    async fn hold(&self, unit: &str) -> Result<(), SystemdError> {
        let work = async { self.referring().await?.ref_unit(unit).await };
        call("hold", unit, CALL_LIMIT, work).await
    }

    async fn release(&self, unit: &str) -> Result<(), SystemdError> {
        let work = async { self.referring().await?.unref_unit(unit).await };
        lock(&self.shared.units).remove(unit);
        match call("release", unit, CALL_LIMIT, work).await {
            // Gone or never held: what was wanted.
            Err(SystemdError::NoSuchUnit { .. } | SystemdError::Refused { .. }) => Ok(()),
            answer => answer,
        }
    }

    async fn version(&self) -> Result<String, SystemdError> {
        let work = async { self.manager().await?.version().await };
        call("version", "systemd", CALL_LIMIT, work).await
    }
}
