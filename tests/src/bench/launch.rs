//! Submit → running and submit → done of `true` on an idle fleet, next to `systemd-run` (promise P6).
//!
//! fleetd and the node share one guest, so that there is one clock; the probe inside it interleaves ours, the
//! peer's two forms and the whole `fleet run` command, round by round.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Bench, BenchReport, Better, Figure, Goal};
use crate::deploy::{self, FLEET_GUEST, Packages};
use crate::testbed::cache::Cache;
use crate::testbed::image::Image;
use crate::testbed::{Fleet, GuestSpec};

const ROUNDS: usize = 20;
/// P6.
const GOAL_TIMES_PEER: f64 = 1.3;
const LIMIT: Duration = Duration::from_secs(400);

/// What a worker's unit asks of systemd beyond a bare one: the same for the peer, or it would do less work.
const PROPERTIES: [&str; 30] = [
    "Type=exec",
    "User=alice",
    "Slice=loadline-standard.slice",
    "WorkingDirectory=/home/alice",
    "CPUWeight=100",
    "MemoryMax=64M",
    "MemoryHigh=62M",
    "TasksMax=512",
    "LogNamespace=loadline",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "DevicePolicy=closed",
    "PrivateDevices=yes",
    "PrivateTmp=yes",
    "ProtectSystem=strict",
    "ProtectProc=invisible",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "RestrictSUIDSGID=yes",
    "RestrictRealtime=yes",
    "LockPersonality=yes",
    "KeyringMode=private",
    "SystemCallArchitectures=native",
    "SystemCallFilter=~@clock @cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @swap",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "TemporaryFileSystem=/dev/shm:size=32M",
];

/// Milliseconds, one a round.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct LaunchSamples {
    /// Submit → running.
    pub running_ms: Vec<f64>,
    /// Submit → done.
    pub done_ms: Vec<f64>,
    /// `systemd-run`, which returns once the unit runs.
    pub peer_running_ms: Vec<f64>,
    /// `systemd-run --wait`.
    pub peer_done_ms: Vec<f64>,
    /// The whole `fleet run -- true`.
    pub cli_ms: Vec<f64>,
}

pub(super) fn run(cache: &Cache) -> Result<BenchReport> {
    let packages = Packages::of(&super::report::packages_folder()?)?;
    let probe = std::env::current_exe()
        .context("finding this program")?
        .with_file_name("launchprobe");
    let specs = [GuestSpec::new(FLEET_GUEST, Image::Debian13, 2)];
    let fleet = Fleet::boot(cache, "bench-launch", &specs)?;
    let guest = fleet.guest(FLEET_GUEST)?;
    deploy::start_fleetd(&fleet, &packages)?;
    packages.install(guest, &["loadline-node"])?;
    deploy::join(guest, guest)?;
    deploy::await_ready(guest, FLEET_GUEST)?;
    deploy::add_person(&fleet, "alice", "user")?;
    // The peer must be root to name a user; the probe uses alice's identity from where she keeps it.
    guest.put(&probe, "/usr/local/bin/launchprobe")?;
    guest.ok("chmod 755 /usr/local/bin/launchprobe; systemctl is-system-running --wait || true")?;
    let properties: String = PROPERTIES
        .map(|property| format!(" --property '{property}'"))
        .concat();
    let command = format!("XDG_CONFIG_HOME=/home/alice/.config launchprobe --rounds {ROUNDS}{properties}");
    let mut bench = Bench::start("launch")?;
    let printed = guest.ok_within(&command, LIMIT)?;
    let samples: LaunchSamples =
        serde_json::from_str(&printed).with_context(|| format!("the probe printed {printed:.300}"))?;
    figures(&mut bench, &samples)?;
    bench.finish()
}

fn figures(bench: &mut Bench, samples: &LaunchSamples) -> Result<()> {
    let goal = Goal::TimesPeer(GOAL_TIMES_PEER);
    let compared = |id: &str, ours: &[f64], name: &str, peer: &[f64]| {
        Figure::new(id, "ms", Better::Lower, ours)?
            .goal(goal)
            .peer(name, peer)
    };
    bench.add(compared(
        "launch.submit_to_running_ms",
        &samples.running_ms,
        "systemd-run",
        &samples.peer_running_ms,
    ))?;
    bench.add(compared(
        "launch.submit_to_done_ms",
        &samples.done_ms,
        "systemd-run --wait --collect",
        &samples.peer_done_ms,
    ))?;
    bench.add(Figure::new("launch.cli_ms", "ms", Better::Lower, &samples.cli_ms))
}
