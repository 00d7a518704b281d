//! Crash, restart, upgrade, reboot, power cut: workers run on where they can, and are counted once where not.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::person::{Person, SOON, cgroup, main_pid};
use super::{NEW, OLD, on_both};
use crate::deploy::{self, FLEET_GUEST, Packages};
use crate::testbed::{Fleet, Guest};

const LIMITS: &[&str] = &["memory.max", "cpu.weight", "cpuset.cpus.effective", "pids.max"];
/// Counts, a line a second, until it is told that it is enough.
const COUNT: &str =
    "sh -c \"i=0; while [ ! -e ~/enough ]; do i=\\$((i + 1)); echo line \\$i; sleep 1; done; exit 3\"";
/// Back after a boot: units, session, first sample.
const BACK: Duration = Duration::from_secs(180);
/// `apt-get` with maintainer scripts that end a worker.
const PACKAGE: Duration = Duration::from_secs(300);

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
    node.ok("rm -f /home/alice/enough")?;
    let job = alice.submit(&format!("--cpus 1 --memory 64MiB --node {NEW}"), COUNT)?;
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
    node.ok("touch /home/alice/enough")?;
    let over = alice.over(job, SOON)?;
    node.ok("rm /home/alice/enough")?;
    ensure!(over["exit_code"] == 3, "{over}");
    ensure!(alice.attempts(job)?.len() == 1, "more than one attempt: {over}");
    let logs = alice.ok(&format!("fleet logs {job}"))?;
    let lines: Vec<&str> = logs.lines().collect();
    let expected: Vec<String> = (1..=lines.len()).map(|i| format!("line {i}")).collect();
    ensure!(
        lines.len() > 20 && lines == expected,
        "logs are broken: {} lines, {:?} …",
        lines.len(),
        &lines[..lines.len().min(5)]
    );
    Ok(())
}

/// Words in which systemd, a shell or its unit files would see something of their own.
const WORDS: &[&str] = &["$HOME $$ ${A} %h %%", r#"\n "q" ; #x"#, "$HOME"];

/// systemd writes a transient unit into a file and reads it again at each reload: the worker must still be the one
/// that was ordered, word for word, and its settings and its end still be in our hands.
pub(super) fn reloads(fleet: &Fleet) -> Result<()> {
    on_both(fleet, |node| reloaded(fleet, node))
}

fn reloaded(fleet: &Fleet, node: &Guest) -> Result<()> {
    let alice = Person::of(fleet)?;
    let literal: Vec<String> = WORDS.iter().map(|word| format!("'{word}'")).collect();
    let file = format!(
        "version = 1\nname = 'words'\nnodes = ['{}']\n\
         command = ['sh', '-c', 'printf \"%s\\n\" \"$@\"; exec sleep 900', 'sh', {}]\n\
         [worker]\ncpus = '100m'\nmemory = '64MiB'\n",
        node.name(),
        literal.join(", ")
    );
    fleet.guest(FLEET_GUEST)?.run_with_input(
        &format!("cat > /home/alice/words-{}.toml", node.name()),
        file.into(),
        SOON,
    )?;
    let job = alice.json(&format!("fleet run --detach words-{}.toml", node.name()))?["job"]
        .as_u64()
        .context("no number")?;
    let attempt = alice.running(job)?;
    let watched = Watched {
        node,
        unit: attempt.unit().to_owned(),
        pid: attempt.pid(),
        limits: cgroup(node, attempt.unit(), LIMITS)?,
    };
    for time in 1..=2 {
        node.ok("systemctl daemon-reload")?;
        watched.check(&format!("daemon-reload {time}"))?;
    }
    let state = node.ok(&format!("systemctl show -P LoadState {}", attempt.unit()))?;
    ensure!(
        state == "loaded",
        "after daemon-reload the worker's unit is {state}"
    );
    let over = alice.cancel(job)?;
    ensure!(over["state"] == "cancelled", "{over}");
    let logs = alice.ok(&format!("fleet logs {job}"))?;
    ensure!(logs.lines().eq(WORDS.iter().copied()), "its words came as {logs}");
    Ok(())
}

/// A job whose first attempt `end` ends with a reason, and whose last succeeds.
fn once_more(fleet: &Fleet, name: &str, reason: &str, end: impl Fn(&Guest) -> Result<()>) -> Result<()> {
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
    let mut reasons: Vec<&str> = attempts.iter().map(super::person::Attempt::reason).collect();
    // A node that ends its work lends nothing meanwhile, and says so when asked.
    reasons.retain(|reason| *reason != "refused");
    ensure!(reasons == [reason, "exited"], "{reasons:?}: {attempts:?}");
    ensure!(
        attempts[0].unit() == first.unit(),
        "another first attempt: {attempts:?}"
    );
    deploy::await_ready(fleet.guest(FLEET_GUEST)?, name)
}

pub(super) fn reboot(fleet: &Fleet) -> Result<()> {
    once_more(fleet, OLD, "node_rebooted", Guest::reboot)
}

pub(super) fn node_power(fleet: &Fleet) -> Result<()> {
    once_more(fleet, NEW, "node_rebooted", |node| {
        node.power_cut();
        node.power_on()
    })
}

/// Removal under a live worker refuses with its name; told to drain it ends the worker by name. Installed again, the
/// node is what it was.
pub(super) fn removed(fleet: &Fleet) -> Result<()> {
    once_more(fleet, OLD, "evicted", |node| {
        let refused = node.run("apt-get remove -q -y loadline-node", PACKAGE)?;
        let said = format!("{}{}", refused.stdout, refused.stderr);
        ensure!(
            refused.status != 0 && said.contains("loadline-w-") && said.contains("LOADLINE_REMOVE=drain"),
            "removal ended with {}: {said}",
            refused.status
        );
        node.ok("systemctl is-active loadline-warden loadline-agent")
            .context("after the refusal")?;
        node.ok_within(
            "LOADLINE_REMOVE=drain apt-get remove -q -y loadline-node",
            PACKAGE,
        )?;
        node.ok("! systemctl list-units --no-legend 'loadline-*' | grep . && test ! -e /sys/fs/cgroup/loadline.slice")
            .context("after the removal")?;
        Packages::of(Path::new("target/packages"))?.install(node, &["loadline-node"])
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
