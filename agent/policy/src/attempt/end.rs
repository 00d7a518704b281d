//! From systemd's words to ours: how a unit ended, and one sentence about it.

use alloc::format;
use alloc::string::{String, ToString};

use loadline_model::{EndReason, JobSpec, Peaks};
use serde::{Deserialize, Serialize};

/// How the main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MainEnd {
    /// By itself, with this code.
    Exited(u8),
    /// By this signal, with or without a core dump.
    Killed(u8),
    /// There was none, or systemd does not say.
    Unknown,
}

/// How a unit ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UnitEnd {
    /// systemd's `Result`: `success`, `exit-code`, `signal`, `core-dump`, `oom-kill`, `timeout`, `resources` …
    pub result: String,
    /// How its main process ended.
    pub main: MainEnd,
}

/// Numbers as on all architectures we run on (x86-64, arm64).
const SIGNALS: [(&str, u8); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// Why an attempt ended and what to tell the person. `had_started`: the command itself ran, so that an exit
/// code in systemd's own range is the command's.
pub fn end_reason(
    end: &UnitEnd,
    peaks: &Peaks,
    spec: Option<&JobSpec>,
    had_started: bool,
) -> (EndReason, String) {
    if end.result == "oom-kill" {
        return (EndReason::OutOfMemory, out_of_memory(peaks, spec));
    }
    if !had_started {
        if let MainEnd::Exited(status) = end.main
            && let Some(sentence) = start_failure(status, spec)
        {
            return (EndReason::StartFailed, sentence);
        }
        if matches!(
            end.result.as_str(),
            "resources" | "timeout" | "start-limit-hit" | "protocol"
        ) {
            let sentence = format!(
                "systemd could not start it: {}; see `journalctl -u` on the node",
                end.result
            );
            return (EndReason::StartFailed, sentence);
        }
    }
    match end.main {
        MainEnd::Exited(code) => (EndReason::Exited { code }, String::new()),
        MainEnd::Killed(signal) => {
            let name = SIGNALS
                .iter()
                .find(|(_, number)| *number == signal)
                .map(|(name, _)| *name);
            let name = name.map_or_else(|| signal.to_string(), |name| format!("SIG{name}"));
            let dumped = if end.result == "core-dump" {
                ", with a core dump"
            } else {
                ""
            };
            (
                EndReason::Signalled { signal },
                format!("ended by {name}{dumped}"),
            )
        }
        MainEnd::Unknown if had_started => {
            let detail = format!(
                "systemd reports `{}` and not how its main process ended",
                end.result
            );
            (EndReason::NodeLost, detail)
        }
        MainEnd::Unknown => (
            EndReason::StartFailed,
            format!("systemd reports `{}`", end.result),
        ),
    }
}

fn out_of_memory(peaks: &Peaks, spec: Option<&JobSpec>) -> String {
    let limit = spec.map_or_else(String::new, |spec| format!(" of {}", spec.worker.memory));
    let peak = peaks
        .memory
        .map_or_else(String::new, |peak| format!(" (peak {peak})"));
    format!("it reached its memory limit{limit}{peak}; ask for more with `worker.memory`, or use less")
}

/// What systemd's own exit codes (200 to 243) mean for whoever wrote the job; none for other codes.
pub fn start_failure(status: u8, spec: Option<&JobSpec>) -> Option<String> {
    let program = spec
        .and_then(|spec| spec.command.first())
        .map_or("?", String::as_str);
    let dir = spec.map_or("?", |spec| spec.dir.as_str());
    let step = match status {
        200 => {
            return Some(format!(
                "the working directory `{dir}` does not exist, or the account may not enter it"
            ));
        }
        203 => {
            return Some(format!(
                "command not found, or not executable by the account: `{program}`; give its full path, or a name in PATH"
            ));
        }
        216 => return Some("the account's groups could not be resolved on this node".into()),
        217 => return Some("the account does not exist on this node".into()),
        201 => "NICE (scheduling priority)",
        202 => "FDS (file descriptors)",
        204 => "MEMORY (not enough to begin)",
        205 => "LIMITS (resource limits)",
        206 => "OOM_ADJUST (out-of-memory score)",
        207 => "SIGNAL_MASK",
        208 => "STDIN (standard input)",
        209 => "STDOUT (standard output)",
        210 => "CHROOT",
        211 => "IOPRIO (IO priority)",
        212 => "TIMERSLACK",
        213 => "SECUREBITS",
        214 => "SETSCHEDULER",
        215 => "CPUAFFINITY",
        218 => "CAPABILITIES",
        219 => "CGROUP (its control group)",
        220 => "SETSID (its session)",
        221 => "CONFIRM",
        222 => "STDERR (standard error)",
        224 => "PAM",
        225 => "NETWORK (network namespace)",
        226 => "NAMESPACE (a path of its sandbox is missing)",
        227 => "NO_NEW_PRIVILEGES",
        228 => "SECCOMP (system call filter)",
        229 => "SELINUX_CONTEXT",
        230 => "PERSONALITY",
        231 => "APPARMOR_PROFILE",
        232 => "ADDRESS_FAMILIES",
        233 => "RUNTIME_DIRECTORY",
        235 => "CHOWN",
        236 => "SMACK_PROCESS_LABEL",
        237 => "KEYRING",
        238 => "STATE_DIRECTORY",
        239 => "CACHE_DIRECTORY",
        240 => "LOGS_DIRECTORY",
        241 => "CONFIGURATION_DIRECTORY",
        242 => "NUMA_POLICY",
        243 => "CREDENTIALS",
        _ => return None,
    };
    Some(format!(
        "systemd could not prepare it: step {step}; tell the node's operator, the journal says more"
    ))
}
