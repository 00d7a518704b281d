//! Units of the interference test: transient services that are no workers. They have no order, no ledger record and no
//! end record; systemd itself ends them after a time, so that nothing of a killed test goes on.

use loadline_model::{Bytes, MilliCpu, Span};
use loadline_policy::settings::{CpuWeight, Limit, Slice};

use super::properties::{Property, of_settings, property};
use super::{Setting, SystemdError, sandbox};

/// Between siblings of its slice; what a worker usually has.
const CPU_WEIGHT: u16 = 100;
/// A thread for each CPU and nothing that forks.
const TASKS: u64 = 4096;
/// It holds nothing that would be worth a longer goodbye.
const STOP_LIMIT: Span = Span::from_secs(2);

/// Where such a unit runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Among lent work, with a worker's sandbox and these limits.
    Lent {
        /// The slice.
        slice: Slice,
        /// Beyond this it is killed.
        memory_max: Bytes,
        /// The most CPU time; none: what its slices leave.
        cpu_quota: Option<MilliCpu>,
    },
    /// Among production, without any limit, as production has none.
    Production,
}

/// A unit beside the workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsideUnit {
    /// Its name; never a worker's.
    pub name: String,
    /// What people see in `systemctl status`.
    pub description: String,
    /// The argument vector, the program's absolute path first; without `$` and `%`.
    pub argv: Vec<String>,
    /// Where it runs.
    pub place: Place,
    /// systemd ends it after this, whoever else is gone.
    pub life: Span,
}

/// Starts units beside the workers.
pub trait Aside: Send + Sync + 'static {
    /// Starts it and waits until its program runs. True if it does.
    ///
    /// # Errors
    /// When systemd refuses, fails, or does not answer.
    fn start_aside(&self, unit: &AsideUnit) -> impl Future<Output = Result<bool, SystemdError>> + Send;
}

/// All its properties.
pub(super) fn of_aside(unit: &AsideUnit) -> Vec<Property> {
    let program = unit.argv.first().cloned().unwrap_or_default();
    let failure_is_success = false;
    let mut list = vec![
        property("Description", unit.description.clone()),
        property("Type", "exec"),
        // An account that exists only while the unit runs: neither root's rights nor anybody's files.
        property("DynamicUser", true),
        property(
            "ExecStart",
            vec![(program, unit.argv.clone(), failure_is_success)],
        ),
        property("KillMode", "control-group"),
        property("TimeoutStopUSec", STOP_LIMIT.0),
        property("RuntimeMaxUSec", unit.life.0),
        property("CollectMode", "inactive-or-failed"),
        property("OOMPolicy", "kill"),
    ];
    let private_devices = true;
    list.extend(sandbox::properties(private_devices));
    match &unit.place {
        // No limit, weight or quota: it would turn on controllers among production.
        Place::Production => list.push(property("Slice", "system.slice")),
        Place::Lent {
            slice,
            memory_max,
            cpu_quota,
        } => {
            list.push(property("Slice", slice.unit()));
            let mut settings = vec![
                Setting::CpuWeight(CpuWeight::Weight(CPU_WEIGHT)),
                Setting::MemoryMax(Limit::At(*memory_max)),
                Setting::MemorySwapMax(Limit::At(Bytes::ZERO)),
                Setting::TasksMax(Limit::At(TASKS)),
            ];
            settings.extend(cpu_quota.map(|cpu| Setting::CpuQuota(Limit::At(cpu))));
            list.extend(of_settings(&settings, &[]));
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(place: Place) -> AsideUnit {
        AsideUnit {
            name: "loadline-prove-cpu.service".into(),
            description: "test".into(),
            argv: vec!["/usr/bin/loadline-warden".into(), "prove-antagonist".into()],
            place,
            life: Span::from_secs(20),
        }
    }

    fn names(place: Place) -> Vec<&'static str> {
        of_aside(&unit(place)).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn what_is_lent_is_limited_and_closed_like_a_worker_and_ends_by_itself() {
        let list = of_aside(&unit(Place::Lent {
            slice: Slice::Burst,
            memory_max: Bytes::from_mib(96),
            cpu_quota: Some(MilliCpu(1500)),
        }));
        for expected in [
            property("Slice", "loadline-burst.slice"),
            property("MemoryMax", 96u64 << 20),
            property("MemorySwapMax", 0u64),
            property("CPUQuotaPerSecUSec", 1_500_000u64),
            property("RuntimeMaxUSec", 20_000_000u64),
            property("DynamicUser", true),
            property("NoNewPrivileges", true),
            property("ProtectSystem", "strict"),
        ] {
            assert!(list.contains(&expected), "{expected:?}");
        }
        for worker in sandbox::properties(true) {
            assert!(list.contains(&worker), "{worker:?}");
        }
        let mut names: Vec<_> = list.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), list.len(), "a property was given twice");
    }

    #[test]
    fn the_stand_in_turns_on_no_controller_among_production() {
        let names = names(Place::Production);
        for limit in [
            "CPUWeight",
            "CPUQuotaPerSecUSec",
            "AllowedCPUs",
            "MemoryMax",
            "TasksMax",
            "IOWeight",
        ] {
            assert!(!names.contains(&limit), "{limit}");
        }
        assert!(names.contains(&"RuntimeMaxUSec"));
    }
}
