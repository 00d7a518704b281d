//! The packages on a machine of somebody else: what they start, change, keep and leave behind.
//!
//! The workers here are started by `systemd-run` under the names that the warden uses: what is tested is what packages
//! do to workers, with the warden dead, the worst time for it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::deploy::Packages;
use crate::scenarios::Suite;
use crate::testbed::image::Image;
use crate::testbed::{Guest, GuestSpec};

pub(super) const SUITE: Suite = Suite {
    name: "packages",
    guests: || {
        vec![
            GuestSpec::new("old", Image::Debian12, 2),
            GuestSpec::new("new", Image::Debian13, 2),
        ]
    },
    prepare: |fleet| fleet.each(install),
    scenarios: &[
        ("installed_nothing_runs_and_nothing_is_enabled", |fleet| {
            fleet.each(nothing_runs)
        }),
        ("units_are_sound_and_as_closed_as_promised", |fleet| {
            fleet.each(units_sound)
        }),
        ("the_end_of_a_worker_is_recorded_both_ways", |fleet| {
            fleet.each(ends_recorded)
        }),
        ("the_agent_reads_the_workers_journal_and_no_other", |fleet| {
            fleet.each(journal_kept)
        }),
        ("a_volatile_journal_stays_volatile", |fleet| {
            fleet.each(journal_volatile)
        }),
        ("reinstalling_leaves_workers_and_edited_files_alone", |fleet| {
            fleet.each(reinstall)
        }),
        ("removal_refuses_with_the_list_and_drains_when_told", |fleet| {
            fleet.each(removal)
        }),
        ("purged_nothing_is_left_but_the_accounts", |fleet| {
            fleet.each(purge)
        }),
    ],
    waiting: &[],
    recover: |_| Ok(()),
};

const ALL: &[&str] = &["loadline-node", "loadline-fleet", "loadline-cli"];
/// `apt-get` with maintainer scripts in an emulated guest on a busy host.
const APT_LIMIT: Duration = Duration::from_secs(300);
const SETTLE: Duration = Duration::from_secs(60);
const UNITS: &[&str] = &["loadline-warden", "loadline-agent", "fleetd"];

fn install(guest: &Guest) -> Result<()> {
    Packages::of(Path::new("target/packages"))?.install(guest, ALL)
}

/// A worker as the warden would start one. It runs `script` as alice.
fn worker(guest: &Guest, id: &str, script: &str) -> Result<()> {
    guest
        .ok(&format!(
            "systemd-run --quiet --collect --unit=loadline-w-{id}.service --slice=loadline-standard.slice --uid=alice \
             -p CPUWeight=100 -p TasksMax=64 -p LogNamespace=loadline \
             -p OnSuccess=loadline-ended@{id}.service -p OnFailure=loadline-failed@{id}.service \
             sh -c '{script}'"
        ))
        .map(drop)
}

fn id(digit: char) -> String {
    String::from(digit).repeat(32)
}

fn nothing_runs(guest: &Guest) -> Result<()> {
    for unit in UNITS {
        let state = guest.ok(&format!(
            "systemctl is-enabled {unit} || true; systemctl is-active {unit} || true"
        ))?;
        ensure!(
            state == "disabled\ninactive",
            "{}: {unit} is {state:?} after the installation",
            guest.name()
        );
        // Started by hand before a person has configured it: a condition that does not hold, not a failure.
        guest.ok(&format!("systemctl start {unit}"))?;
        let state = guest.ok(&format!(
            "systemctl show -P ActiveState -P ConditionResult {unit}"
        ))?;
        ensure!(
            state == "inactive\nno",
            "{}: {unit} started unconfigured: {state:?}",
            guest.name()
        );
    }
    let controllers = guest.ok("cat /sys/fs/cgroup/cgroup.subtree_control")?;
    ensure!(
        controllers == "memory pids",
        "{}: installing turned on controllers: {controllers}",
        guest.name()
    );
    guest.ok("id loadline-agent && id loadline-fleet && test ! -e /sys/fs/cgroup/loadline.slice")?;
    let state = guest.ok("systemctl is-system-running --wait || systemctl --failed --no-legend")?;
    ensure!(
        state == "running",
        "{}: the system is {state} after the installation",
        guest.name()
    );
    Ok(())
}

/// Promise P12, and every unit as `systemd-analyze verify` wants it. Guests have no manual pages.
fn units_sound(guest: &Guest) -> Result<()> {
    let said = guest.ok(
        "cd /usr/lib/systemd/system && systemd-analyze verify loadline*.slice loadline-warden.service \
         loadline-agent.service loadline-ended@x.service loadline-failed@x.service loadline-prove.service $(ls fleetd.service) 2>&1 \
         | grep -E 'loadline|fleetd' | grep -v \"Command 'man \" || true",
    )?;
    ensure!(
        said.is_empty(),
        "{}: systemd-analyze verify: {said}",
        guest.name()
    );
    for (unit, most) in [("loadline-warden", 2.5), ("loadline-agent", 2.0), ("fleetd", 2.0)] {
        let line = guest.ok(&format!(
            "systemd-analyze security --no-pager {unit}.service | tail -n 1"
        ))?;
        let score: f64 = line
            .split_whitespace()
            .find_map(|word| word.parse().ok())
            .with_context(|| format!("no score in {line:?}"))?;
        ensure!(
            score <= most,
            "{}: {unit} scores {score}, promised is {most}",
            guest.name()
        );
    }
    Ok(())
}

fn ends_recorded(guest: &Guest) -> Result<()> {
    for (digit, script, word) in [('a', "exit 0", "success"), ('b', "exit 3", "exit-code")] {
        let id = id(digit);
        worker(guest, &id, script)?;
        let record = format!("/var/lib/loadline/warden/ended/{id}.json");
        let text = guest.wait_ok("the record of the end", &format!("cat {record}"), SETTLE)?;
        ensure!(
            text.contains(word),
            "{}: the record of `{script}` says {text}",
            guest.name()
        );
    }
    Ok(())
}

/// What a reader sees of the workers' journal and of the machine's.
fn as_agent(namespace: &str) -> String {
    format!(
        "setpriv --reuid loadline-agent --regid loadline-agent --clear-groups \
         journalctl {namespace} -o cat --no-pager 2>&1"
    )
}

/// The condition of the warden's unit is met and its preparation is run as the unit runs it.
fn prepare_journal(guest: &Guest) -> Result<()> {
    guest
        .ok(
            "test ! -d /var/log/journal || mkdir -p /var/log/journal/$(cat /etc/machine-id).loadline; \
             systemd-tmpfiles --create loadline-node.conf",
        )
        .map(drop)
}

fn journal_readable(guest: &Guest, word: &str) -> Result<()> {
    prepare_journal(guest)?;
    worker(guest, &id('c'), &format!("echo {word}; sleep 2"))?;
    let look = format!("{} | grep -x {word}", as_agent("--namespace=loadline"));
    guest.wait_ok("the worker's line, read by the agent's account", &look, SETTLE)?;
    let other = guest.run(&as_agent(""), SETTLE)?;
    ensure!(
        other.stdout.contains("insufficient permissions") || other.stdout.contains("No entries"),
        "{}: the agent's account reads the machine's journal: {}",
        guest.name(),
        other.stdout
    );
    let slice = guest.ok("systemctl show -P Slice systemd-journald@loadline.service")?;
    ensure!(
        slice == "loadline.slice",
        "{}: the workers' journald runs in {slice}",
        guest.name()
    );
    gone(guest, &id('c'))
}

fn gone(guest: &Guest, id: &str) -> Result<()> {
    let look = format!("! systemctl is-active loadline-w-{id}.service");
    guest.wait_ok("the end of the worker", &look, SETTLE).map(drop)
}

fn journal_kept(guest: &Guest) -> Result<()> {
    guest.ok("test -d /var/log/journal")?;
    journal_readable(guest, "kept")?;
    guest
        .ok("ls /var/log/journal/*.loadline/*.journal")
        .map(drop)
        .context("the host keeps its journal, and the workers' is not kept")
}

fn journal_volatile(guest: &Guest) -> Result<()> {
    guest.ok(
        "systemctl stop systemd-journald@loadline.service; mv /var/log/journal /var/log/journal.aside; \
         systemctl restart systemd-journald",
    )?;
    let outcome = journal_readable(guest, "volatile").and_then(|()| {
        guest
            .ok("test ! -e /var/log/journal")
            .map(drop)
            .context("a worker's log line turned the host's volatile journal into a kept one")
    });
    guest.ok(
        "systemctl stop systemd-journald@loadline.service; rm -rf /var/log/journal; \
              mv /var/log/journal.aside /var/log/journal; systemctl restart systemd-journald",
    )?;
    outcome
}

fn reinstall(guest: &Guest) -> Result<()> {
    let id = id('d');
    worker(guest, &id, "while :; do date; sleep 1; done")?;
    let pid = format!("systemctl show -P MainPID loadline-w-{id}.service");
    let before = guest.ok(&pid)?;
    ensure!(before != "0", "{}: no worker to look after", guest.name());
    guest.ok("echo '# edited here' >> /etc/loadline/node.toml")?;
    install(guest)?;
    let after = guest.ok(&pid)?;
    ensure!(
        after == before,
        "{}: worker {before} became {after} during the installation",
        guest.name()
    );
    guest
        .ok("tail -n 1 /etc/loadline/node.toml | grep -x '# edited here'")
        .context("an edited node.toml was overwritten")?;
    Ok(())
}

fn removal(guest: &Guest) -> Result<()> {
    let unit = format!("loadline-w-{}.service", id('d'));
    let refused = guest.run("apt-get remove -q -y loadline-node", APT_LIMIT)?;
    ensure!(
        refused.status != 0,
        "{}: removed under a live worker",
        guest.name()
    );
    let said = format!("{}{}", refused.stdout, refused.stderr);
    for word in [&*id('d'), "LOADLINE_REMOVE=drain"] {
        ensure!(
            said.contains(word),
            "{}: no {word} in the refusal:\n{said}",
            guest.name()
        );
    }
    guest
        .ok(&format!(
            "systemctl is-active {unit} && dpkg-query -W -f '${{Status}}' loadline-node | grep -x 'install ok installed'"
        ))
        .context("after the refusal")?;
    guest.ok_within(
        "LOADLINE_REMOVE=drain apt-get remove -q -y loadline-node",
        APT_LIMIT,
    )?;
    guest
        .ok(&format!(
            "! systemctl is-active {unit} && test ! -e /sys/fs/cgroup/loadline.slice && \
             test ! -e /etc/systemd/system/loadline.slice.d && test -e /etc/loadline/node.toml"
        ))
        .context("after the drain: worker and slice gone, configuration there")?;
    Ok(())
}

fn purge(guest: &Guest) -> Result<()> {
    guest.ok_within(&format!("apt-get purge -q -y {}", ALL.join(" ")), APT_LIMIT)?;
    let left = guest.ok(
        "find / -xdev \\( -iname '*loadline*' -o -iname '*fleetd*' \\) -not -path '/var/tmp/*' -not -path '/proc/*' \
         -not -path '/sys/*' 2>/dev/null; find /run -iname '*loadline*' 2>/dev/null || true",
    )?;
    ensure!(
        left.is_empty(),
        "{}: purged, and there is still\n{left}",
        guest.name()
    );
    let units = guest.ok("systemctl list-units --all --no-legend '*loadline*' 'fleetd*'")?;
    ensure!(
        units.is_empty(),
        "{}: purged, and PID 1 still knows\n{units}",
        guest.name()
    );
    // Debian's custom: a number must not come to mean somebody else.
    guest.ok("id loadline-agent && id loadline-fleet").map(drop)
}
