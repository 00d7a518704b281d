//! Our words into systemd's: property names and D-Bus values, exactly as `org.freedesktop.systemd1(5)` types
//! them. Pure, so that a test can read every one of them.

use loadline_model::{Bytes, MilliCpu};
use loadline_policy::settings::{BytesPerSecond, CpuWeight, Limit, OomPolicy, QUOTA_PERIOD_US, Told};
use zbus::zvariant::{DynamicType, Value};

use super::sandbox;
use super::{Setting, WorkerUnit};
use crate::host::disks::Disk;

/// One property of a transient unit.
pub(super) type Property = (&'static str, Value<'static>);

/// systemd's number for "no limit".
const UNLIMITED: u64 = u64::MAX;
/// `CPUWeight=idle` on the bus (`CGROUP_WEIGHT_IDLE`).
const WEIGHT_IDLE: u64 = 0;

pub(super) fn property<T>(name: &'static str, value: T) -> Property
where
    T: Into<Value<'static>> + DynamicType,
{
    (name, Value::new(value))
}

/// How the arguments of a command reach it as they are: by itself systemd puts variables in place of every `$`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verbatim {
    /// `ExecStartEx` with the flag `no-env-expand`.
    Flag,
    /// `ExecStart` with every `$` doubled. systemd 252 writes `ExecStartEx=` into the unit's file, a name that it
    /// does not read there: after the next daemon-reload the running unit is `bad-setting`, and neither its limits
    /// nor its end can be asked for any more (seen with 252.39; 257.13 writes it right).
    Doubled,
}

impl Verbatim {
    /// Older versions than the one that was seen to write it right are not trusted with it.
    const FLAG_SINCE: u32 = 257;

    /// For systemd's own word on its version, like `252.39-1~deb12u1`.
    pub(super) fn for_version(version: &str) -> Self {
        let major = version.split(|c: char| !c.is_ascii_digit()).next();
        match major.and_then(|major| major.parse::<u32>().ok()) {
            Some(major) if major >= Self::FLAG_SINCE => Self::Flag,
            _ => Self::Doubled,
        }
    }
}

/// All properties of a worker's transient service.
pub(super) fn of_worker(unit: &WorkerUnit, verbatim: Verbatim) -> Vec<Property> {
    let oom_policy = match unit.settings.oom_policy {
        OomPolicy::Kill => "kill",
        OomPolicy::Continue => "continue",
    };
    let mut list = vec![
        property("Description", unit.description.clone()),
        property("Slice", unit.settings.slice.unit()),
        property("Type", "exec"),
        property("User", unit.user.clone()),
        property("WorkingDirectory", unit.directory.clone()),
        property("Environment", unit.environment.clone()),
        property("ExecSearchPath", unit.search_path.clone()),
        exec_start(unit, verbatim),
        property("KillMode", "control-group"),
        property("TimeoutStopUSec", unit.settings.timeout_stop.0),
        property("OOMPolicy", oom_policy),
        property("CollectMode", "inactive-or-failed"),
        property("AddRef", true),
        property("OnSuccess", vec![unit.on_success()]),
        property("OnFailure", vec![unit.on_failure()]),
        property("LogNamespace", "loadline"),
        property("SyslogIdentifier", unit.log_identifier.clone()),
        property("LogExtraFields", bytes(&unit.log_fields)),
        property("ReadWritePaths", optional(&unit.writable)),
        property("TemporaryFileSystem", shared_memory(unit)),
    ];
    if !unit.devices.is_empty() {
        let allow = |device: &String| (device.clone(), "rw".to_owned());
        list.push(property(
            "DeviceAllow",
            unit.devices.iter().map(allow).collect::<Vec<_>>(),
        ));
    }
    list.extend(sandbox::properties(unit.devices.is_empty()));
    list.extend(of_settings(&Setting::of_worker(&unit.settings), &[]));
    list
}

/// The properties of settings, for a new unit or a running one. `disks`: those of the machine.
pub(super) fn of_settings(settings: &[Setting], disks: &[Disk]) -> Vec<Property> {
    settings
        .iter()
        .flat_map(|setting| {
            let also = match setting {
                Setting::CpuQuota(Limit::At(_)) => Some(property("CPUQuotaPeriodUSec", QUOTA_PERIOD_US)),
                Setting::IoBandwidth(rate) => Some(property("IOWriteBandwidthMax", bandwidth(*rate, disks))),
                _ => None,
            };
            [of_setting(setting, disks)].into_iter().chain(also)
        })
        .collect()
}

/// Each disk by name; none for one that goes by weight. systemd keeps what it was told of a disk before, so "no limit" is told of each too.
fn bandwidth(limit: Limit<BytesPerSecond>, disks: &[Disk]) -> Vec<(String, u64)> {
    let rate = match limit {
        Limit::Max => UNLIMITED,
        Limit::At(rate) => rate.0,
    };
    let of = |disk: &Disk| if disk.by_weight { UNLIMITED } else { rate };
    disks.iter().map(|disk| (disk.device.clone(), of(disk))).collect()
}

fn of_setting(setting: &Setting, disks: &[Disk]) -> Property {
    let amount = |ceiling: &Limit<Bytes>| match ceiling {
        Limit::Max => UNLIMITED,
        Limit::At(bytes) => bytes.0,
    };
    match setting {
        Setting::AllowedCpus(cpus) => property("AllowedCPUs", cpus.to_le_bytes()),
        Setting::AllowedMemoryNodes(nodes) => property("AllowedMemoryNodes", nodes.to_le_bytes()),
        Setting::CpuWeight(CpuWeight::Idle) => property("CPUWeight", WEIGHT_IDLE),
        Setting::CpuWeight(CpuWeight::Weight(share)) => property("CPUWeight", u64::from(*share)),
        Setting::CpuQuota(Limit::Max) => property("CPUQuotaPerSecUSec", UNLIMITED),
        // A thousandth of a CPU is a thousand microseconds in each second.
        Setting::CpuQuota(Limit::At(cpu)) => property("CPUQuotaPerSecUSec", cpu.0.saturating_mul(1000)),
        Setting::MemoryHigh(ceiling) => property("MemoryHigh", amount(ceiling)),
        Setting::MemoryMax(ceiling) => property("MemoryMax", amount(ceiling)),
        Setting::MemorySwapMax(ceiling) => property("MemorySwapMax", amount(ceiling)),
        Setting::TasksMax(Limit::Max) => property("TasksMax", UNLIMITED),
        Setting::TasksMax(Limit::At(tasks)) => property("TasksMax", *tasks),
        Setting::IoWeight(weight) => property("IOWeight", u64::from(*weight)),
        Setting::IoBandwidth(rate) => property("IOReadBandwidthMax", bandwidth(*rate, disks)),
        Setting::MemoryMin(floor) => property("MemoryMin", floor.0),
        Setting::MemoryLow(floor) => property("MemoryLow", floor.0),
    }
}

/// Back from systemd's numbers.
pub(super) const fn told(quota_us: u64, memory_high: u64) -> Told {
    Told {
        cpu_quota: Some(match quota_us {
            UNLIMITED => Limit::Max,
            micros => Limit::At(MilliCpu(micros / 1000)),
        }),
        memory_high: Some(match memory_high {
            UNLIMITED => Limit::Max,
            bytes => Limit::At(Bytes(bytes)),
        }),
    }
}

fn exec_start(unit: &WorkerUnit, verbatim: Verbatim) -> Property {
    let (program, argv) = (unit.program.clone(), unit.argv.clone());
    match verbatim {
        Verbatim::Flag => property(
            "ExecStartEx",
            vec![(program, argv, vec!["no-env-expand".to_owned()])],
        ),
        Verbatim::Doubled => {
            let doubled: Vec<String> = argv.iter().map(|word| word.replace('$', "$$")).collect();
            let failure_is_success = false;
            property("ExecStart", vec![(program, doubled, failure_is_success)])
        }
    }
}

/// Shared memory outlives a killed process; its own mount goes with it, and what is in it is charged to it.
fn shared_memory(unit: &WorkerUnit) -> Vec<(String, String)> {
    let options = format!("size={},mode=1777,nosuid,nodev", unit.shared_memory.0);
    vec![("/dev/shm".to_owned(), options)]
}

fn bytes(fields: &[String]) -> Vec<Vec<u8>> {
    fields.iter().map(|field| field.clone().into_bytes()).collect()
}

fn optional(paths: &[String]) -> Vec<String> {
    paths.iter().map(|path| format!("-{path}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use loadline_model::Span;
    use loadline_policy::settings::{Slice, WorkerSettings};

    fn unit() -> WorkerUnit {
        WorkerUnit {
            description: "train".into(),
            user: "alice".into(),
            directory: "/home/alice".into(),
            program: "python".into(),
            argv: vec!["python".into(), "$HOME %h".into()],
            search_path: vec!["/usr/bin".into()],
            environment: vec!["A=1".into()],
            settings: WorkerSettings {
                unit: "loadline-w-0192f0c123457abc8def0123456789ab.service".into(),
                slice: Slice::Standard,
                allowed_cpus: "1".parse().ok(),
                allowed_memory_nodes: None,
                cpu_weight: CpuWeight::Weight(100),
                memory_high: Limit::Max,
                memory_max: Limit::At(Bytes::from_mib(64)),
                memory_swap_max: Limit::At(Bytes::ZERO),
                tasks_max: Limit::At(64),
                oom_policy: OomPolicy::Kill,
                timeout_stop: Span::from_secs(30),
            },
            shared_memory: Bytes::from_mib(32),
            writable: vec!["/home/alice".into()],
            devices: Vec::new(),
            log_fields: vec!["LOADLINE_JOB=1".into()],
            log_identifier: "412.1".into(),
            attempt: "0192f0c123457abc8def0123456789ab".parse().unwrap(),
        }
    }

    fn signature(list: &[Property], name: &str) -> String {
        let values: Vec<_> = list.iter().filter(|(key, _)| *key == name).collect();
        assert_eq!(values.len(), 1, "{name}");
        values[0].1.value_signature().to_string()
    }

    #[test]
    fn every_value_has_the_type_that_systemd_documents() {
        let list = of_worker(&unit(), Verbatim::Flag);
        for (name, expected) in [
            ("ExecStartEx", "a(sasas)"),
            ("TemporaryFileSystem", "a(ss)"),
            ("SystemCallFilter", "(bas)"),
            ("RestrictAddressFamilies", "(bas)"),
            ("LogExtraFields", "aay"),
            ("ReadWritePaths", "as"),
            ("UMask", "u"),
            ("CapabilityBoundingSet", "t"),
            ("SystemCallErrorNumber", "i"),
            ("MemoryMax", "t"),
            ("TimeoutStopUSec", "t"),
            ("AddRef", "b"),
            ("OnSuccess", "as"),
        ] {
            assert_eq!(signature(&list, name), expected, "{name}");
        }
        let mut names: Vec<_> = list.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), list.len(), "a property was given twice");
    }

    #[test]
    fn settings_say_what_was_meant() {
        for (setting, expected) in [
            (
                Setting::CpuWeight(CpuWeight::Idle),
                ("CPUWeight", Value::new(0u64)),
            ),
            (
                Setting::CpuWeight(CpuWeight::Weight(100)),
                ("CPUWeight", Value::new(100u64)),
            ),
            (
                Setting::CpuQuota(Limit::At(MilliCpu(1500))),
                ("CPUQuotaPerSecUSec", Value::new(1_500_000u64)),
            ),
            (Setting::TasksMax(Limit::Max), ("TasksMax", Value::new(u64::MAX))),
            (
                Setting::AllowedCpus("1,9".parse().unwrap()),
                ("AllowedCPUs", Value::new(vec![0b10u8, 0b10])),
            ),
        ] {
            assert_eq!(of_setting(&setting, &[]), expected);
        }
        let quota = of_settings(&[Setting::CpuQuota(Limit::At(MilliCpu(1500)))], &[]);
        assert_eq!(
            quota[1],
            ("CPUQuotaPeriodUSec", Value::new(10_000u64)),
            "a throttled task waits 10 ms at most"
        );
        assert_eq!(of_settings(&[Setting::CpuQuota(Limit::Max)], &[]).len(), 1);
    }

    #[test]
    fn what_systemd_was_told_is_read_as_it_was_meant() {
        let number = |setting: &Setting| match of_setting(setting, &[]).1 {
            Value::U64(number) => number,
            other => panic!("{other:?}"),
        };
        for (cpu, high) in [
            (Limit::Max, Limit::At(Bytes(4097))),
            (Limit::At(MilliCpu(1510)), Limit::Max),
        ] {
            let read = told(
                number(&Setting::CpuQuota(cpu)),
                number(&Setting::MemoryHigh(high)),
            );
            assert_eq!((read.cpu_quota, read.memory_high), (Some(cpu), Some(high)));
        }
    }

    #[test]
    fn a_bandwidth_is_told_of_each_disk_both_ways() {
        let disks = [("vda", false), ("vdb", false), ("vdc", true)].map(|(name, by_weight)| Disk {
            number: "254:0".into(),
            device: format!("/dev/{name}"),
            name: name.into(),
            by_weight,
        });
        for (limit, rate) in [
            (Limit::At(BytesPerSecond(1 << 20)), 1 << 20),
            (Limit::Max, u64::MAX),
        ] {
            let list = of_settings(&[Setting::IoBandwidth(limit)], &disks);
            let told = vec![
                ("/dev/vda".to_owned(), rate),
                ("/dev/vdb".to_owned(), rate),
                ("/dev/vdc".to_owned(), u64::MAX),
            ];
            assert_eq!(
                list,
                [
                    property("IOReadBandwidthMax", told.clone()),
                    property("IOWriteBandwidthMax", told)
                ]
            );
            assert_eq!(signature(&list, "IOReadBandwidthMax"), "a(st)");
        }
    }

    #[test]
    fn a_dollar_reaches_the_command_as_it_is() {
        let mut dollars = unit();
        dollars.argv = vec!["sh".into(), "-c".into(), "echo $$ ${HOME}".into()];
        let doubled: Vec<String> = vec!["sh".into(), "-c".into(), "echo $$$$ $${HOME}".into()];
        for (version, expected) in [
            (
                "252.39-1~deb12u1",
                property("ExecStart", vec![(dollars.program.clone(), doubled, false)]),
            ),
            (
                "257.13-1~deb13u1",
                property(
                    "ExecStartEx",
                    vec![(
                        dollars.program.clone(),
                        dollars.argv.clone(),
                        vec!["no-env-expand".to_owned()],
                    )],
                ),
            ),
        ] {
            let list = of_worker(&dollars, Verbatim::for_version(version));
            assert!(list.contains(&expected), "{version}");
        }
        assert_eq!(Verbatim::for_version("v253~rc1"), Verbatim::Doubled);
    }

    #[test]
    fn gpu_workers_keep_their_devices() {
        let mut gpu = unit();
        gpu.devices = vec!["/dev/nvidia0".into()];
        let list = of_worker(&gpu, Verbatim::Flag);
        assert!(list.contains(&property("PrivateDevices", false)));
        assert_eq!(signature(&list, "DeviceAllow"), "a(ss)");
    }
}
