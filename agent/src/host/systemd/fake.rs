//! A systemd in memory, for tests: it keeps units and a folder that looks like cgroupfs, behaves as seen in
//! guests (`reference/systemd.md`), and fails on demand.

mod aside;
mod cgroups;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use loadline_model::Span;
use loadline_policy::attempt::{MainEnd, UnitEnd};
use loadline_policy::reconcile::UnitActive;
use loadline_policy::settings::{Limit, LimitName, Slice, Told};
use tokio::sync::{Notify, mpsc};

use super::{Outcome, Setting, Signal, Started, Systemd, SystemdError, UnitState, UnitUsage, WorkerUnit};
use cgroups::FakeCgroups;

/// What goes wrong next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The next start is refused as invalid.
    StartRefused,
    /// The next start fails with this exit status of systemd's own range.
    StartFails(u8),
    /// The next start gets no answer; the flag says whether the unit runs nevertheless.
    StartTimesOut {
        /// It runs.
        runs: bool,
    },
    /// The next start is answered only after [`FakeSystemd::answer_starts`].
    StartHangs,
    /// The next write of this limit is lost, though systemd says that all is well.
    LimitNotWritten(LimitName),
    /// The next listing fails.
    ListFails,
    /// The next change of settings fails.
    SetFails,
    /// The next floor is lost, though systemd says that all is well.
    FloorNotWritten,
    /// The next question what systemd was told fails.
    ToldFails,
    /// The next question where a unit is fails.
    WhereFails,
    /// The next unit that is asked to end takes its time.
    StopLingers,
}

#[derive(Debug)]
struct World {
    units: BTreeMap<String, UnitState>,
    held: BTreeMap<String, bool>,
    faults: VecDeque<Fault>,
    calls: Vec<String>,
    started: Vec<WorkerUnit>,
    cgroups: FakeCgroups,
    told: BTreeMap<String, Told>,
    usage: UnitUsage,
    next_pid: u32,
}

/// A systemd in memory. Clones share it.
#[derive(Debug, Clone)]
pub struct FakeSystemd {
    world: Arc<Mutex<World>>,
    signals: mpsc::Sender<Signal>,
    answer: Arc<Notify>,
}

impl FakeSystemd {
    /// An empty machine with these CPUs and one NUMA node, its cgroups in a folder.
    pub fn new(cgroups: &Path, cpus: &str) -> (Self, mpsc::Receiver<Signal>) {
        let (signals, receiver) = mpsc::channel(256);
        let world = World {
            units: BTreeMap::new(),
            held: BTreeMap::new(),
            faults: VecDeque::new(),
            calls: Vec::new(),
            started: Vec::new(),
            cgroups: FakeCgroups::new(cgroups, cpus),
            told: BTreeMap::new(),
            usage: UnitUsage::default(),
            next_pid: 1000,
        };
        let fake = Self {
            world: Arc::new(Mutex::new(world)),
            signals,
            answer: Arc::new(Notify::new()),
        };
        (fake, receiver)
    }

    /// The same machine as another program finds it after the first is gone: new signals, references lost.
    pub fn reconnect(&self) -> (Self, mpsc::Receiver<Signal>) {
        let (signals, receiver) = mpsc::channel(256);
        let mut world = self.world();
        world.held.clear();
        world.units.retain(|_, unit| unit.active != UnitActive::Over);
        let fake = Self {
            world: self.world.clone(),
            signals,
            answer: self.answer.clone(),
        };
        drop(world);
        (fake, receiver)
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets something go wrong, once.
    pub fn fail(&self, fault: Fault) {
        self.world().faults.push_back(fault);
    }

    /// Answers the start that hangs.
    pub fn answer_starts(&self) {
        self.answer.notify_one();
    }

    /// Everything that was asked, in order: `operation unit`.
    pub fn calls(&self) -> Vec<String> {
        self.world().calls.clone()
    }

    /// Every worker that was asked to be started.
    pub fn started(&self) -> Vec<WorkerUnit> {
        self.world().started.clone()
    }

    /// Units of workers that run.
    pub fn running(&self) -> Vec<String> {
        let world = self.world();
        let running = world
            .units
            .iter()
            .filter(|(_, unit)| unit.active == UnitActive::Running);
        running.map(|(name, _)| name.clone()).collect()
    }

    /// What systemd says that a unit used in all.
    pub fn set_usage(&self, usage: UnitUsage) {
        self.world().usage = usage;
    }

    /// Writes a kernel file of a unit's cgroup, as a stranger would.
    pub fn meddle(&self, unit: &str, file: &str, text: &str) {
        self.world().cgroups.write(unit, file, text);
    }

    /// A stranger tells systemd something, as `systemctl set-property` does.
    pub fn set_by_stranger(&self, unit: &str, setting: Setting) {
        let mut world = self.world();
        let settings = [setting];
        world.tell(unit, &settings);
        world.write(unit, &settings);
    }

    /// A unit of production starts; its cgroup as systemd writes it.
    pub fn production(&self, cgroup: &str) {
        self.world().cgroups.create_production(cgroup);
    }

    /// A unit of production stops: its cgroup is gone.
    pub fn production_stops(&self, unit: &str) {
        self.world().cgroups.remove(unit);
    }

    /// What a kernel file of a unit says.
    pub fn file(&self, unit: &str, file: &str) -> Option<String> {
        self.world()
            .cgroups
            .read(unit, file)
            .map(|text| text.trim().to_owned())
    }

    /// A unit that nobody here has started.
    pub async fn stranger(&self, unit: &str, slice: Slice) {
        let state = self.world().create(unit, slice, UnitActive::Running);
        self.tell(Signal::Unit(state)).await;
    }

    /// A worker ends by itself.
    pub async fn end(&self, unit: &str, result: &str, main: MainEnd) {
        let state = self.world().end(unit, result, main);
        if let Some(state) = state {
            self.tell(Signal::Unit(state)).await;
        }
    }

    /// A worker ends and no signal tells of it.
    pub fn end_unheard(&self, unit: &str, result: &str, main: MainEnd) {
        self.world().end(unit, result, main);
    }

    /// systemd forgets a unit, whoever holds it.
    pub fn forget(&self, unit: &str) {
        let mut world = self.world();
        world.units.remove(unit);
        world.held.remove(unit);
    }

    /// Something is told.
    pub async fn tell(&self, signal: Signal) {
        // Nobody listens any more: the warden under test is gone.
        let _ = self.signals.send(signal).await;
    }

    fn take(&self, wanted: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let mut world = self.world();
        let index = world.faults.iter().position(wanted)?;
        world.faults.remove(index)
    }

    fn note(&self, operation: &str, unit: &str) {
        self.world().calls.push(format!("{operation} {unit}"));
    }
}

impl World {
    fn create(&mut self, unit: &str, slice: Slice, active: UnitActive) -> UnitState {
        self.next_pid += 1;
        self.cgroups.create(unit, slice);
        self.cgroups
            .write(unit, "cgroup.procs", &format!("{}\n", self.next_pid));
        let state = UnitState {
            unit: unit.to_owned(),
            active,
            invocation: format!("{:032x}", self.next_pid),
            main_pid: self.next_pid,
            end: UnitEnd {
                result: "success".into(),
                main: MainEnd::Unknown,
            },
        };
        self.units.insert(unit.to_owned(), state.clone());
        state
    }

    fn end(&mut self, unit: &str, result: &str, main: MainEnd) -> Option<UnitState> {
        let held = self.held.contains_key(unit);
        let state = self.units.get_mut(unit)?;
        state.active = UnitActive::Over;
        state.main_pid = 0;
        state.end = UnitEnd {
            result: result.into(),
            main,
        };
        let state = state.clone();
        self.cgroups.remove(unit);
        if !held {
            self.units.remove(unit);
        }
        Some(state)
    }

    /// Keeps what systemd was told, whether or not the kernel gets it.
    fn tell(&mut self, unit: &str, settings: &[Setting]) {
        let told = self.told.entry(unit.into()).or_insert(NOTHING_TOLD);
        for setting in settings {
            match setting {
                Setting::CpuQuota(quota) => told.cpu_quota = Some(*quota),
                Setting::MemoryHigh(high) => told.memory_high = Some(*high),
                _ => {}
            }
        }
    }

    /// Writes limits, leaving out those that a fault swallows.
    fn write(&mut self, unit: &str, settings: &[Setting]) {
        for setting in settings {
            let name = cgroups::limit_of(setting);
            let lost = self.faults.iter().position(|fault| match name {
                Some(name) => *fault == Fault::LimitNotWritten(name),
                None => *fault == Fault::FloorNotWritten,
            });
            match lost {
                Some(index) => drop(self.faults.remove(index)),
                None => self.cgroups.apply(unit, setting),
            }
        }
    }
}

/// A slice of which nothing was said.
const NOTHING_TOLD: Told = Told {
    cpu_quota: Some(Limit::Max),
    memory_high: Some(Limit::Max),
};

fn refused(operation: &'static str, unit: &str) -> SystemdError {
    SystemdError::Refused {
        operation,
        unit: unit.into(),
        message: "Invalid argument".into(),
    }
}

impl Systemd for FakeSystemd {
    async fn start_worker(&self, unit: &WorkerUnit) -> Result<Started, SystemdError> {
        let name = unit.settings.unit.as_str();
        self.note("start", name);
        self.world().started.push(unit.clone());
        let is_start = |fault: &Fault| {
            use Fault::{StartFails, StartHangs, StartRefused, StartTimesOut};
            matches!(
                fault,
                StartRefused | StartFails(_) | StartTimesOut { .. } | StartHangs
            )
        };
        let fault = self.take(is_start);
        if fault == Some(Fault::StartRefused) {
            return Err(refused("start", name));
        }
        if self.world().units.contains_key(name) {
            return Err(SystemdError::UnitExists { unit: name.into() });
        }
        let timed_out = SystemdError::TimedOut {
            operation: "start",
            unit: name.into(),
            limit: Duration::from_secs(1),
        };
        match fault {
            Some(Fault::StartTimesOut { runs: false }) => return Err(timed_out),
            Some(Fault::StartHangs) => self.answer.notified().await,
            _ => {}
        }
        let mut state = {
            let mut world = self.world();
            world.held.insert(name.into(), true);
            let state = world.create(name, unit.settings.slice, UnitActive::Running);
            world.cgroups.write(name, "memory.oom.group", "1\n");
            world.write(name, &Setting::of_worker(&unit.settings));
            state
        };
        let mut outcome = Outcome::Done;
        if let Some(Fault::StartFails(status)) = fault {
            let ended = self.world().end(name, "exit-code", MainEnd::Exited(status));
            state = ended.unwrap_or(state);
            outcome = Outcome::Failed;
        }
        self.tell(Signal::Unit(state.clone())).await;
        if matches!(fault, Some(Fault::StartTimesOut { .. })) {
            return Err(timed_out);
        }
        Ok(Started {
            outcome,
            state: Some(state),
        })
    }

    async fn start(&self, unit: &str) -> Result<(), SystemdError> {
        self.note("start", unit);
        if !unit.ends_with(".service") {
            self.world().cgroups.create_slice(unit);
            return Ok(());
        }
        if self.take(|fault| *fault == Fault::StartRefused).is_some() {
            return Err(refused("start", unit));
        }
        // Its cgroup lies elsewhere, which nobody reads.
        self.world().create(unit, Slice::Root, UnitActive::Running);
        Ok(())
    }

    async fn stop(&self, unit: &str) -> Result<(), SystemdError> {
        self.note("stop", unit);
        if self.take(|fault| *fault == Fault::StopLingers).is_some() {
            let state = self.world().units.get_mut(unit).map(|state| {
                state.active = UnitActive::Stopping;
                state.clone()
            });
            if let Some(state) = state {
                self.tell(Signal::Unit(state)).await;
            }
            return Ok(());
        }
        self.end(unit, "success", MainEnd::Killed(15)).await;
        Ok(())
    }

    async fn kill(&self, unit: &str, signal: i32) -> Result<(), SystemdError> {
        self.note("kill", unit);
        self.end(unit, "signal", MainEnd::Killed(u8::try_from(signal).unwrap_or(9)))
            .await;
        Ok(())
    }

    async fn set(&self, unit: &str, settings: &[Setting]) -> Result<(), SystemdError> {
        self.note("set", unit);
        if self.take(|fault| *fault == Fault::SetFails).is_some() {
            return Err(refused("set properties", unit));
        }
        let mut world = self.world();
        world.tell(unit, settings);
        world.write(unit, settings);
        Ok(())
    }

    async fn told(&self, slice: &str) -> Result<Told, SystemdError> {
        if self.take(|fault| *fault == Fault::ToldFails).is_some() {
            return Err(refused("look at the limits", slice));
        }
        Ok(self.world().told.get(slice).copied().unwrap_or(NOTHING_TOLD))
    }

    async fn control_group(&self, unit: &str) -> Result<Option<String>, SystemdError> {
        if self.take(|fault| *fault == Fault::WhereFails).is_some() {
            return Err(refused("find", unit));
        }
        Ok(self.world().cgroups.control_group(unit))
    }

    async fn workers(&self) -> Result<Vec<(String, UnitActive)>, SystemdError> {
        if self.take(|fault| *fault == Fault::ListFails).is_some() {
            return Err(refused("list", super::WORKER_PATTERN));
        }
        let world = self.world();
        Ok(world
            .units
            .iter()
            .map(|(name, unit)| (name.clone(), unit.active))
            .collect())
    }

    async fn observe(&self, unit: &str) -> Result<Option<UnitState>, SystemdError> {
        Ok(self.world().units.get(unit).cloned())
    }

    async fn usage(&self, unit: &str) -> UnitUsage {
        let world = self.world();
        let known = world.units.contains_key(unit);
        if known { world.usage } else { UnitUsage::default() }
    }

    async fn hold(&self, unit: &str) -> Result<(), SystemdError> {
        self.world().held.insert(unit.into(), true);
        Ok(())
    }

    async fn release(&self, unit: &str) -> Result<(), SystemdError> {
        let mut world = self.world();
        world.held.remove(unit);
        if world
            .units
            .get(unit)
            .is_some_and(|unit| unit.active == UnitActive::Over)
        {
            world.units.remove(unit);
        }
        Ok(())
    }

    async fn version(&self) -> Result<String, SystemdError> {
        Ok("257.13-fake".into())
    }
}

/// A usage for tests.
pub const fn usage(cpu_time: Span) -> UnitUsage {
    UnitUsage {
        cpu_time: Some(cpu_time),
        memory_peak: None,
    }
}
