//! How a worker's unit ended, as told twice: by systemd's signals while the warden listens, and by the record
//! that `loadline-ended@.service` writes into a folder whether or not anyone listens.
//!
//! The record is written by a unit of system.slice because an `ExecStopPost=` would run starved in the
//! worker's own cgroup and could be killed with it (seen on systemd 257).

mod folder;

use std::str::FromStr;

use loadline_model::{AttemptId, WallTime};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

pub use folder::{EndFolder, FolderError, Found};

/// How a unit's main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MainExit {
    /// By itself, with a code.
    Exited(u8),
    /// By a signal.
    Killed(u8),
}

/// What systemd says about a unit's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndFacts {
    /// systemd's word for it: `success`, `exit-code`, `signal`, `core-dump`, `oom-kill`, `timeout`, `resources` …
    pub result: String,
    /// How the main process ended; absent if there never was one.
    pub exit: Option<MainExit>,
}

impl EndFacts {
    /// From the properties `Result`, `ExecMainCode` (the kernel's `CLD_…`) and `ExecMainStatus`.
    pub fn from_properties(result: &str, code: i32, status: i32) -> Self {
        let status = u8::try_from(status).unwrap_or(u8::MAX);
        let exit = match code {
            1 => Some(MainExit::Exited(status)),
            2 | 3 => Some(MainExit::Killed(status)),
            _ => None,
        };
        Self {
            result: result.to_owned(),
            exit,
        }
    }

    /// From `MONITOR_SERVICE_RESULT`, `MONITOR_EXIT_CODE` and `MONITOR_EXIT_STATUS`, which give signals by name.
    pub fn from_monitor(result: &str, code: &str, status: &str) -> Self {
        let exit = match code {
            "exited" => status.parse().ok().map(MainExit::Exited),
            "killed" | "dumped" => signal_number(status).map(MainExit::Killed),
            _ => None,
        };
        Self {
            result: result.to_owned(),
            exit,
        }
    }
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
    /// What systemd said.
    pub facts: EndFacts,
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
            let told = EndFacts::from_properties(properties.0, properties.1, properties.2);
            assert_eq!(told, EndFacts::from_monitor(monitor.0, monitor.1, monitor.2));
        }
    }
}
