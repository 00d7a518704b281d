//! How a worker's unit ended, as told twice: by systemd's signals while the warden listens, and by the record
//! that `loadline-ended@.service` (after a success; `loadline-failed@.service` else) writes into a folder
//! whether or not anyone listens.
//!
//! The record is written by a unit of system.slice because an `ExecStopPost=` would run starved in the
//! worker's own cgroup and could be killed with it (seen on systemd 257).

mod folder;

use std::str::FromStr;

use loadline_model::{AttemptId, WallTime};
use loadline_policy::attempt::{MainEnd, UnitEnd};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

pub use folder::{EndFolder, FolderError, Found};

/// From the properties `Result`, `ExecMainCode` (the kernel's `CLD_…`) and `ExecMainStatus`.
pub fn end_from_properties(result: &str, code: i32, status: i32) -> UnitEnd {
    let status = u8::try_from(status).unwrap_or(u8::MAX);
    let main = match code {
        1 => MainEnd::Exited(status),
        2 | 3 => MainEnd::Killed(status),
        _ => MainEnd::Unknown,
    };
    let result = result.to_owned();
    UnitEnd { result, main }
}

/// From `MONITOR_SERVICE_RESULT`, `MONITOR_EXIT_CODE` and `MONITOR_EXIT_STATUS`, which give signals by name.
pub fn end_from_monitor(result: &str, code: &str, status: &str) -> UnitEnd {
    let main = match code {
        "exited" => status.parse().map_or(MainEnd::Unknown, MainEnd::Exited),
        "killed" | "dumped" => signal_number(status).map_or(MainEnd::Unknown, MainEnd::Killed),
        _ => MainEnd::Unknown,
    };
    let result = result.to_owned();
    UnitEnd { result, main }
}

/// systemd writes `KILL`, `RTMIN+3` or a bare number.
fn signal_number(name: &str) -> Option<u8> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset = offset.strip_prefix('+').unwrap_or("0");
        return offset.parse::<u8>().ok()?.checked_add(34); // glibc keeps 32 and 33 for itself
    }
    let signal = Signal::from_str(&format!("SIG{name}")).ok()?;
    u8::try_from(signal as i32).ok()
}

/// One end, as kept in the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndRecord {
    /// Whose end.
    pub attempt: AttemptId,
    /// The run of the unit, 32 hexadecimal digits.
    pub invocation: String,
    /// The uptime it happened in.
    pub boot_id: String,
    /// When.
    pub at: WallTime,
    /// How.
    pub end: UnitEnd,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_telling_agree() {
        for (properties, monitor) in [
            (("success", 1, 0), ("success", "exited", "0")),
            (("exit-code", 1, 7), ("exit-code", "exited", "7")),
            (("signal", 2, 9), ("signal", "killed", "KILL")),
            (("oom-kill", 2, 9), ("oom-kill", "killed", "KILL")),
            (("core-dump", 3, 11), ("core-dump", "dumped", "SEGV")),
            (("signal", 2, 37), ("signal", "killed", "RTMIN+3")),
            (("resources", 0, 0), ("resources", "", "")),
        ] {
            let told = end_from_properties(properties.0, properties.1, properties.2);
            assert_eq!(told, end_from_monitor(monitor.0, monitor.1, monitor.2));
        }
    }
}
