//! Crash, restart, upgrade, reboot, power cut: workers run on where they can, and are counted once where not.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::person::{Person, SOON, cgroup, main_pid};
use super::{NEW, OLD};
use crate::deploy::{self, FLEET_GUEST, Packages};
use crate::testbed::{Fleet, Guest};

const LIMITS: &[&str] = &["memory.max", "cpu.weight", "cpuset.cpus.effective", "pids.max"];
const LINES: u32 = 150;
/// Back after a boot: units, session, first sample.
const BACK: Duration = Duration::from_secs(180);

/// What must stay as it is while programs come and go.
struct Watched<'a> {
    node: &'a Guest,
    unit: String,
    pid: u64,
    limits: String,
}

impl Watched<'_> {
    fn check(&self, after: &str) -> Result<()> {
        let pid = main_pid(self.node, &self.unit)?;
        ensure!(
            pid == self.pid,
            "after {after}: process {pid} instead of {}",
            self.pid
        );
        let limits = cgroup(self.node, &self.unit, LIMITS)?;
        ensure!(
            limits == self.limits,
            "after {after}: limits {limits} instead of {}",
            self.limits
        );
        Ok(())
    }
}

pub(super) fn programs(fleet: &Fleet) -> Result<()> {
    let alice = Person::of(fleet)?;
    let (admin, node) = (fleet.guest(FLEET_GUEST)?, fleet.guest(NEW)?);
    let count = format!("sh -c \"for i in \\$(seq {LINES}); do echo line \\$i; sleep 1; done; exit 3\"");
    let job = alice.submit(&format!("--cpus 1 --memory 64MiB --node {NEW}"), &count)?;
    let attempt = alice.running(job)?;
    let limits = cgroup(node, attempt.unit(), LIMITS)?;
    let watched = Watched {
        node,
        unit: attempt.unit().to_owned(),
        pid: attempt.pid(),
        limits,
    };
    for program in ["loadline-warden", "loadline-agent"] {
        node.ok(&format!("systemctl kill -s KILL {program}"))?;
        node.wait_ok(
            &format!("{program} is back"),
            &format!("systemctl is-active {program}"),
            SOON,
        )?;
        watched.check(&format!("kill -9 of {program}"))?;
        node.ok(&format!("systemctl restart {program}"))?;
        watched.check(&format!("restart of {program}"))?;
    }
    node.ok("systemctl daemon-reload")?;
    watched.check("daemon-reload")?;
    let packages = Packages::of(Path::new("target/packages"))?;
    packages.install(node, &["loadline-node"])?;
    watched.check("reinstall of loadline-node")?;
    admin.ok("systemctl kill -s KILL fleetd")?;
    admin.wait_ok("fleetd is back", "systemctl is-active fleetd", SOON)?;
    packages.install(admin, &["loadline-fleet", "loadline-cli"])?;
    watched.check("kill -9 and reinstall of fleetd")?;
    deploy::await_ready(admin, NEW)?;
    let over = alice.over(job, Duration::from_secs(u64::from(LINES) * 3))?;
    ensure!(over["exit_code"] == 3, "{over}");
    ensure!(alice.attempts(job)?.len() == 1, "more than one attempt: {over}");
    let logs = alice.ok(&format!("fleet logs {job}"))?;
    let expected: Vec<String> = (1..=LINES).map(|i| format!("line {i}")).collect();
    let lines: Vec<&str> = logs.lines().collect();
    ensure!(
        lines == expected,
        "logs are broken: {} lines, {:?} …",
        lines.len(),
        &lines[..lines.len().min(5)]
    );
    Ok(())
}

/// A job whose first attempt the node's end ends, and whose second succeeds.
fn once_more(fleet: &Fleet, name: &str, end: impl Fn(&Guest) -> Result<()>) -> Result<()> {
    let alice = Person::of(fleet)?;
    let node = fleet.guest(name)?;
    // The first attempt leaves a mark and waits; the second finds the mark.
    let script = "sh -c \"if [ -e \\$HOME/mark ]; then rm \\$HOME/mark; exit 0; fi; touch \\$HOME/mark; sync; sleep 900\"";
    let job = alice.submit(&format!("--cpus 100m --node {name}"), script)?;
    let first = alice.running(job)?;
    node.wait_ok("the mark is there", "test -e /home/alice/mark && sync", SOON)?;
    end(node)?;
    let over = alice.over(job, BACK)?;
    ensure!(over["state"] == "succeeded", "{over}");
    let attempts = alice.attempts(job)?;
    let reasons: Vec<&str> = attempts.iter().map(super::person::Attempt::reason).collect();
    ensure!(
        reasons == ["node_rebooted", "exited"],
        "{reasons:?}: {attempts:?}"
    );
    ensure!(
        attempts[0].unit() == first.unit(),
        "another first attempt: {attempts:?}"
    );
    deploy::await_ready(fleet.guest(FLEET_GUEST)?, name)
}

pub(super) fn reboot(fleet: &Fleet) -> Result<()> {
    once_more(fleet, OLD, Guest::reboot)
}

pub(super) fn node_power(fleet: &Fleet) -> Result<()> {
    once_more(fleet, NEW, |node| {
        node.power_cut();
        node.power_on()
    })
}

pub(super) fn fleet_power(fleet: &Fleet) -> Result<()> {
    let alice = Person::of(fleet)?;
    let (admin, node) = (fleet.guest(FLEET_GUEST)?, fleet.guest(NEW)?);
    let job = alice.submit(
        &format!("--cpus 100m --node {NEW}"),
        "sh -c \"while [ ! -e \\$HOME/go ]; do sleep 1; done; rm \\$HOME/go; exit 5\"",
    )?;
    let attempt = alice.running(job)?;
    let before = admin.ok("fleet jobs --all -o json")?;
    admin.power_cut();
    node.ok("touch /home/alice/go")?;
    node.wait_ok(
        "the worker ended meanwhile",
        &format!("! systemctl is-active -q {}", attempt.unit()),
        SOON,
    )?;
    admin.power_on()?;
    admin.wait_ok("fleetd is back", "systemctl is-active fleetd", BACK)?;
    deploy::await_ready(admin, NEW)?;
    let over = alice.over(job, BACK)?;
    ensure!(over["exit_code"] == 5, "{over}");
    ensure!(alice.attempts(job)?.len() == 1, "{over}");
    let numbers = |text: &str| -> Result<Vec<u64>> {
        let jobs: serde_json::Value = serde_json::from_str(text)?;
        let jobs = jobs.as_array().context("no list of jobs")?;
        Ok(jobs.iter().filter_map(|job| job["job"].as_u64()).collect())
    };
    let after = admin.ok("fleet jobs --all -o json")?;
    ensure!(
        numbers(&after)? == numbers(&before)?,
        "jobs before {before} and after {after}"
    );
    Ok(())
}
