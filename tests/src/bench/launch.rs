//! Submit → running and submit → done of `true` on an idle fleet, next to `systemd-run` (promise P6).
//!
//! fleetd and the node share one guest, so that there is one clock; the probe inside it interleaves ours, the
//! peer's two forms and the whole `fleet run` command, round by round.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Bench, BenchReport, Better, Figure, Goal};
use crate::deploy::{self, FLEET_GUEST, Packages, as_person};
use crate::testbed::cache::Cache;
use crate::testbed::image::Image;
use crate::testbed::{Fleet, Guest, GuestSpec};

const ROUNDS: usize = 20;
/// P6.
const GOAL_TIMES_PEER: f64 = 1.3;
const LIMIT: Duration = Duration::from_secs(400);
const DONE_LIMIT: Duration = Duration::from_secs(60);

/// What a worker's unit says of this worker only, or systemd-run says itself; the peer gets all the rest.
const OWN: [&str; 9] = [
    "Description",
    "Environment",
    "ExecSearchPath",
    "ExecStart",
    "ExecStartEx",
    "CollectMode",
    "LogExtraFields",
    "OnFailure",
    "OnSuccess",
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
    let probe = super::beside_this_program("launchprobe")?;
    let specs = [GuestSpec::new(FLEET_GUEST, Image::Debian13, 2)];
    let fleet = Fleet::boot(cache, "bench-launch", &specs)?;
    let guest = fleet.guest(FLEET_GUEST)?;
    deploy::start_alone(guest, &packages)?;
    deploy::add_person(guest, "alice", "user")?;
    // The peer must be root to name a user; the probe uses alice's identity from where she keeps it.
    guest.put(&probe, "/usr/local/bin/launchprobe")?;
    guest.ok("chmod 755 /usr/local/bin/launchprobe; systemctl is-system-running --wait || true")?;
    let properties: String = same_properties(&worker_unit(guest)?)
        .iter()
        .map(|property| format!(" --property '{property}'"))
        .collect();
    let command = format!("XDG_CONFIG_HOME=/home/alice/.config launchprobe --rounds {ROUNDS}{properties}");
    let mut bench = Bench::start("launch")?;
    let printed = guest.ok_within(&command, LIMIT)?;
    let samples: LaunchSamples =
        serde_json::from_str(&printed).with_context(|| format!("the probe printed {printed:.300}"))?;
    figures(&mut bench, &samples)?;
    bench.finish()
}

/// The unit file that systemd wrote for a worker like those that are measured.
fn worker_unit(guest: &Guest) -> Result<String> {
    let submit = "fleet run --detach -o json --cpus 100m --memory 64MiB -- sleep 300";
    let answer: serde_json::Value = serde_json::from_str(&guest.ok(&as_person("alice", submit))?)?;
    let job = answer["job"].as_u64().context("no number")?;
    let look = "systemctl list-units --no-legend --plain --state=active 'loadline-w-*' | grep -o '^[^ ]*'";
    let unit = guest.wait_ok("the worker runs", look, DONE_LIMIT)?;
    let text = guest.ok(&format!("cat /run/systemd/transient/{unit}"))?;
    guest.ok(&as_person("alice", &format!("fleet cancel {job}")))?;
    guest.wait_ok("the worker is gone", &format!("! {look}"), DONE_LIMIT)?;
    Ok(text)
}

/// A worker's settings for the peer: the same work, or it would do less. A list is first emptied in such a file,
/// which says nothing where values follow.
fn same_properties(unit: &str) -> Vec<String> {
    let lines: Vec<(&str, &str)> = unit.lines().filter_map(|line| line.split_once('=')).collect();
    let follows = |at: usize, key: &str| lines[at + 1..].iter().any(|(other, _)| *other == key);
    let kept = lines
        .iter()
        .enumerate()
        .filter(|(at, (key, value))| !(OWN.contains(key) || value.is_empty() && follows(*at, key)));
    kept.map(|(_, (key, value))| format!("{key}={value}")).collect()
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

#[cfg(test)]
mod tests {
    use super::same_properties;

    #[test]
    fn the_peer_gets_the_worker_s_settings_and_not_its_command() {
        let unit = "# not a setting\n[Service]\nType=exec\nExecStart=\nExecStart=:\"true\"\nAllowedCPUs=\n\
                    AllowedCPUs=1\nCapabilityBoundingSet=\nEnvironment=\"A=b\"\nOnSuccess=x@1.service\n";
        assert_eq!(
            same_properties(unit),
            ["Type=exec", "AllowedCPUs=1", "CapabilityBoundingSet="]
        );
    }
}
