//! A node in memory: kernel, systemd, ledger and end records, as far as the reconciler sees them. It carries out
//! plans and can fail at any action.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use loadline_model::{
    AttemptId, Bytes, CpuRequest, CpuSet, Ended, JobDraft, JobSpec, Peaks, PerMille, Span, Tier, Topology,
    WallTime,
};

use super::super::*;
use crate::admission::Account;
use crate::allocation::{CpuLayout, Grant, Machine, WorkerCpus};
use crate::attempt::{Event, MainEnd, Outcome, StopWhy, UnitEnd, step};
use crate::ceiling::Ceilings;
use crate::check;
use crate::line::Line;
use crate::node_policy::{LocalTime, LocalTimes, NodePolicy, ReserveCpus, Weekday};
use crate::sample::{self, attempt};
use crate::settings::{
    CpuMax, CpuWeight, Limit, Observed, OomPolicy, Pinning, Setpoints, Slice, SliceSettings, WorkerSettings,
};
use crate::week::Known;

/// A unit as systemd and the kernel have it; its effective CPUs follow from the slices.
#[derive(Debug, Clone)]
pub(super) struct SimUnit {
    pub(super) active: UnitActive,
    pub(super) end: Option<UnitEnd>,
    pub(super) cpus: Option<CpuSet>,
    pub(super) limits: Observed,
}

#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) topology: Topology,
    pub(super) policy: NodePolicy,
    /// What operators have set.
    pub(super) ceilings: Ceilings,
    /// What production used.
    pub(super) week: Known,
    /// By the node's wall clock.
    pub(super) local: LocalTime,
    pub(super) pinning: Pinning,
    pub(super) setpoints: Setpoints,
    /// What the brake leaves.
    pub(super) at_once: AtOnce<'static>,
    /// Who hangs at its memory limit.
    pub(super) hung: BTreeMap<AttemptId, String>,
    /// Why someone has to go; for one pass.
    pub(super) evict: Option<&'static str>,
    pub(super) boot: u32,
    pub(super) now: Moment,
    pub(super) ledger: BTreeMap<AttemptId, LedgerAttempt>,
    pub(super) ended: BTreeMap<AttemptId, Ended>,
    pub(super) units: BTreeMap<AttemptId, SimUnit>,
    pub(super) records: BTreeMap<AttemptId, EndRecord>,
    pub(super) slices: BTreeMap<Slice, Observed>,
    pub(super) absences: Absences,
    pub(super) receipts: Vec<Receipt>,
    /// Attempts whose record was lost while they ran; the fleet never orders an id again.
    pub(super) lost: BTreeSet<AttemptId>,
    /// How often the command of an attempt was started.
    pub(super) runs: BTreeMap<AttemptId, u32>,
}

impl World {
    /// 2 sockets × 4 cores, 16 GiB; CPU 0 reserved, nothing kept idle.
    pub(super) fn new() -> Self {
        let mut policy = NodePolicy::default();
        policy.headroom.cpu = PerMille(0);
        policy.headroom.memory = PerMille(0);
        Self {
            topology: sample::machine(2, 4, 1, 8),
            policy,
            ceilings: Ceilings::default(),
            week: Known::default(),
            local: LocalTime {
                day: Weekday::Mon,
                minute: 0,
            },
            pinning: Pinning::Cpuset,
            setpoints: Setpoints::default(),
            at_once: AtOnce::default(),
            hung: BTreeMap::new(),
            evict: None,
            boot: 1,
            now: Moment {
                boot: Span::from_secs(100),
                wall: WallTime(1_000_000),
            },
            ledger: BTreeMap::new(),
            ended: BTreeMap::new(),
            units: BTreeMap::new(),
            records: BTreeMap::new(),
            slices: BTreeMap::new(),
            absences: Absences::default(),
            receipts: Vec::new(),
            lost: BTreeSet::new(),
            runs: BTreeMap::new(),
        }
    }

    pub(super) fn reserve(&mut self, list: &str) {
        self.policy.reserve.cpus = ReserveCpus::List(list.parse().unwrap());
    }

    fn boot_id(&self) -> BootId {
        BootId(self.boot.to_string())
    }

    pub(super) fn wait(&mut self, secs: u64) {
        self.now.boot = self.now.boot.plus(Span::from_secs(secs));
        self.now.wall = self.now.wall.plus(Span::from_secs(secs));
    }

    /// An order becomes durable; a second one for the same attempt changes nothing.
    pub(super) fn order(&mut self, number: u128, tier: Tier, cpus: CpuRequest) {
        self.order_for(number, tier, cpus, 1000);
    }

    pub(super) fn order_for(&mut self, number: u128, tier: Tier, cpus: CpuRequest, uid: u32) {
        let id = attempt(number);
        if self.ended.contains_key(&id) || self.lost.contains(&id) {
            return;
        }
        let draft = sample::draft(tier, cpus, Bytes::from_gib(1));
        let spec = JobSpec::new(JobDraft {
            time: Some(Span::from_secs(3600)),
            ..draft
        })
        .unwrap();
        let entry = LedgerAttempt {
            order: Some(sample::order(number, spec)),
            account: Account::Known {
                uid,
                groups: BTreeSet::new(),
            },
            boot: self.boot_id(),
            life: Life::Accepted,
            holding: None,
            applied_cpus: None,
            peaks: Peaks::default(),
        };
        self.ledger.entry(id).or_insert(entry);
    }

    pub(super) fn cancel(&mut self, number: u128) {
        let Some(entry) = self.ledger.get(&attempt(number)) else {
            return;
        };
        let spec = entry.order.as_ref().map(|order| &order.spec);
        let event = Event::StopOrdered {
            why: StopWhy::Cancelled,
            grace: Span::from_secs(20),
            detail: "by alice".into(),
        };
        if let Outcome::Moved(life) | Outcome::Stop(life) = step(&entry.life, &event, spec, self.now) {
            self.write(attempt(number), life);
        }
    }

    /// systemd has brought everything it was at to its next state.
    pub(super) fn settle(&mut self) {
        for unit in self.units.values_mut() {
            if unit.active == UnitActive::Starting {
                unit.active = UnitActive::Running;
            }
        }
        let stopping: Vec<AttemptId> = self
            .units
            .iter()
            .filter(|(_, unit)| unit.active == UnitActive::Stopping)
            .map(|(id, _)| *id)
            .collect();
        for id in stopping {
            self.unit_ends(id, "success", MainEnd::Killed(15), true);
        }
    }

    /// The unit ends; its record may fail to be written.
    pub(super) fn unit_ends(&mut self, id: AttemptId, result: &str, main: MainEnd, recorded: bool) {
        if self.units.remove(&id).is_some() && recorded {
            let end = UnitEnd {
                result: result.into(),
                main,
            };
            self.records.insert(
                id,
                EndRecord {
                    end,
                    at: self.now.wall,
                },
            );
        }
    }

    pub(super) fn reboot(&mut self) {
        self.boot += 1;
        self.now.boot = Span::from_secs(10);
        self.units.clear();
        self.slices.clear();
        self.absences = Absences::default();
    }

    /// The warden restarts: what it kept in memory is gone.
    pub(super) fn restart(&mut self) {
        self.absences = Absences::default();
    }

    fn write(&mut self, id: AttemptId, life: Life) {
        let entry = self.ledger.get_mut(&id).expect("only what is known changes");
        assert_eq!(check::succession(&entry.life, &life), [""; 0]);
        if let Life::Ended { ended } = life {
            self.ledger.remove(&id);
            self.records.remove(&id);
            assert_eq!(self.ended.insert(id, ended), None, "ended twice");
        } else {
            entry.life = life;
        }
    }

    pub(super) fn line(&self) -> Line {
        let line = Line::by_week(&self.topology, 0, &self.policy, &self.week);
        self.ceilings.line(line)
    }

    fn effective(&self, slice: Slice, own: Option<&CpuSet>) -> Option<CpuSet> {
        let parent = self
            .slices
            .get(&slice)
            .and_then(|observed| observed.cpus_effective.clone());
        let parent = parent.unwrap_or_else(|| self.topology.cpus());
        // The kernel's rule: a set that its parent does not have at all runs on the parent's.
        own.map(|own| own.intersection(&parent))
            .map(|cpus| if cpus.is_empty() { parent } else { cpus })
    }

    fn observe(&self) -> BTreeMap<AttemptId, ObservedUnit> {
        let observe = |(id, unit): (&AttemptId, &SimUnit)| {
            let cpus_effective = self.effective(Slice::Root, unit.cpus.as_ref());
            let limits = Observed {
                cpus_effective,
                ..unit.limits.clone()
            };
            let over = unit.active == UnitActive::Over;
            (
                *id,
                ObservedUnit {
                    active: unit.active,
                    end: unit.end.clone(),
                    limits: (!over).then_some(limits),
                },
            )
        };
        self.units.iter().map(observe).collect()
    }

    /// One pass. `fails` says of each action whether it fails; returns the plan.
    pub(super) fn pass(&mut self, mut fails: impl FnMut(&Planned) -> bool) -> Plan {
        let plan = self.plan();
        let mut gate = Gate::default();
        for planned in &plan.actions {
            if !gate.allows(planned) {
                continue;
            }
            if fails(planned) {
                gate.failed(planned);
            } else {
                self.apply(planned);
                self.receipts.extend(planned.receipt.clone());
            }
            assert_eq!(check::layout(&self.kernel()), [""; 0], "after {planned:?}");
        }
        plan
    }

    pub(super) fn plan(&mut self) -> Plan {
        let (units, line, boot) = (self.observe(), self.line(), self.boot_id());
        self.absences.observe(&self.ledger, &units, self.now);
        let ended = self.ended.keys().copied().collect();
        let view = View {
            policy: &self.policy,
            machine: Machine {
                topology: &self.topology,
                line: &line,
                pinning: &self.pinning,
            },
            setpoints: &self.setpoints,
            squeezed_for: "production uses 7 CPUs",
            at_once: self.at_once,
            reap: None,
            hung: &self.hung,
            evict: self.evict.take(),
            local: &LocalTimes {
                node: self.local,
                zones: BTreeMap::new(),
            },
            boot: &boot,
            now: self.now,
            attempts: &self.ledger,
            ended: &ended,
            units: &units,
            records: &self.records,
            absences: &self.absences,
            slices: &self.slices,
        };
        let plan = reconcile(&view);
        assert_eq!(check::plan(&view, &plan), [""; 0]);
        plan
    }

    /// Passes until nothing is left to do, with time going by and systemd at work.
    pub(super) fn quiet(&mut self) {
        for _ in 0..60 {
            let plan = self.pass(|_| false);
            self.settle();
            // What only misses its unit waits for a record that never comes.
            let runs =
                |entry: &LedgerAttempt| matches!(entry.life, Life::Running { .. } | Life::Squeezed { .. });
            let calm = self
                .ledger
                .iter()
                .all(|(id, entry)| runs(entry) && self.units.contains_key(id));
            if plan.actions.is_empty() && calm {
                assert_eq!(plan.waiting, [], "nobody waits for nothing");
                return;
            }
            self.wait(10);
        }
        panic!("no end: {:#?} {:#?}", self.ledger, self.units);
    }

    /// Where everyone runs at this moment, and whose it is.
    fn kernel(&self) -> CpuLayout {
        if !self.pinning.is_cpuset() {
            return CpuLayout::default();
        }
        let worker = |(id, unit): (&AttemptId, &SimUnit)| {
            let cpus = self.effective(Slice::Root, unit.cpus.as_ref())?;
            // Who was put among the others, because its CPUs were reserved, owns them no more; where everyone
            // is in the end is asserted once it is quiet.
            let lendable = self.line().lendable;
            let holding = self.ledger.get(id).and_then(|entry| entry.holding.as_ref());
            let own = holding.is_some_and(|holding| {
                matches!(&holding.grant, Grant::Exclusive(own) if own.is_subset(&lendable) && cpus.is_subset(own))
            });
            Some((*id, WorkerCpus { exclusive: own, cpus }))
        };
        let workers = self.units.iter().filter_map(worker).collect();
        CpuLayout {
            slices: self.topology.cpus(),
            workers,
        }
    }

    fn apply(&mut self, planned: &Planned) {
        let id = planned.attempt.unwrap_or_else(|| attempt(0));
        match &planned.action {
            Action::Record(life) => self.write(id, life.clone()),
            Action::AdoptOrphan { holding, life } => {
                let entry = LedgerAttempt {
                    order: None,
                    account: Account::Missing,
                    boot: self.boot_id(),
                    life: life.clone(),
                    holding: Some(holding.clone()),
                    applied_cpus: None,
                    peaks: Peaks::default(),
                };
                assert_eq!(self.ledger.insert(id, entry), None);
            }
            Action::Forget => {
                self.units.remove(&id);
            }
            Action::Stop(life) => {
                self.write(id, life.clone());
                if let Some(unit) = self.units.get_mut(&id) {
                    unit.active = UnitActive::Stopping;
                }
            }
            Action::Kill => self.unit_ends(id, "signal", MainEnd::Killed(9), true),
            Action::SetWorkerCpus(cpus) => {
                if let Some(unit) = self.units.get_mut(&id) {
                    unit.cpus = Some(cpus.clone());
                }
                if let Some(entry) = self.ledger.get_mut(&id) {
                    entry.applied_cpus = Some(cpus.clone());
                }
            }
            Action::SetSliceCpus(slice, cpus) => {
                self.slices.get_mut(slice).unwrap().cpus_effective = Some(cpus.clone());
            }
            Action::SetSlice { settings, .. } => self.set_slice(settings),
            Action::Repair { settings, .. } => {
                let unit = self.units.get_mut(&id).unwrap();
                unit.limits = worker_limits(settings);
            }
            Action::Start {
                life,
                holding,
                settings,
            } => self.start(id, life, holding, settings),
        }
    }

    fn start(&mut self, id: AttemptId, life: &Life, holding: &Holding, settings: &WorkerSettings) {
        let entry = self.ledger.get_mut(&id).unwrap();
        entry.life = life.clone();
        entry.holding = Some(holding.clone());
        entry.applied_cpus = settings.allowed_cpus.clone();
        let unit = SimUnit {
            active: UnitActive::Starting,
            end: None,
            cpus: settings.allowed_cpus.clone(),
            limits: worker_limits(settings),
        };
        assert!(self.units.insert(id, unit).is_none(), "the unit was there");
        let runs = self.runs.entry(id).or_default();
        *runs += 1;
        assert_eq!(*runs, 1, "a command ran twice");
    }

    fn set_slice(&mut self, settings: &SliceSettings) {
        let before = self
            .slices
            .get(&settings.slice)
            .and_then(|observed| observed.cpus_effective.clone());
        let cpu_max = match settings.cpu_quota {
            Limit::Max => Limit::Max,
            Limit::At(quota) => Limit::At(CpuMax {
                quota_us: quota.0 * 100,
                period_us: 100_000,
            }),
        };
        let (idle, weight) = weight(settings.cpu_weight);
        let observed = Observed {
            cpus_effective: settings.allowed_cpus.clone().or(before),
            cpu_idle: Some(idle),
            cpu_weight: Some(weight),
            cpu_max: Some(cpu_max),
            io_weight: settings.io_weight.map(u64::from),
            memory_high: Some(settings.memory_high),
            memory_max: Some(settings.memory_max),
            memory_swap_max: Some(settings.memory_swap_max),
            pids_max: Some(settings.tasks_max),
            ..Observed::default()
        };
        self.slices.insert(settings.slice, observed);
    }

    pub(super) fn cpus(&self, number: u128) -> String {
        let unit = &self.units[&attempt(number)];
        self.effective(Slice::Root, unit.cpus.as_ref())
            .map_or("all".into(), |cpus| cpus.to_string())
    }

    pub(super) fn reason(&self, number: u128) -> &'static str {
        self.ended
            .get(&attempt(number))
            .map_or("-", |ended| ended.reason.word())
    }
}

fn weight(weight: CpuWeight) -> (bool, u64) {
    match weight {
        CpuWeight::Idle => (true, 0),
        CpuWeight::Weight(weight) => (false, u64::from(weight)),
    }
}

fn worker_limits(settings: &WorkerSettings) -> Observed {
    let (idle, weight) = weight(settings.cpu_weight);
    Observed {
        mems_effective: settings.allowed_memory_nodes.clone(),
        cpu_idle: Some(idle),
        cpu_weight: Some(weight),
        cpu_max: Some(Limit::Max),
        memory_high: Some(settings.memory_high),
        memory_max: Some(settings.memory_max),
        memory_swap_max: Some(settings.memory_swap_max),
        memory_oom_group: Some(settings.oom_policy == OomPolicy::Kill),
        pids_max: Some(settings.tasks_max),
        ..Observed::default()
    }
}
