//! What the owner keeps for production by name: memory that its unit keeps, and what it promises its own users.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::NEW;
use super::operator::{Operator, uptime};
use super::person::{Person, SOON};
use crate::testbed::wait::{Look, wait_for};
use crate::testbed::{Fleet, Guest};

/// The target is far above what an emulated nginx needs on a busy host, and far below the second after which a probe
/// gives up.
const POLICY: &str = "version = 1\n[production]\nprotect = [{ unit = \"nginx.service\", memory = \"48MiB\", \
     slo = { http = \"http://127.0.0.1/\", p99 = \"450ms\", every = \"250ms\" } }]\n";
const FLOOR: u64 = 48 << 20;

/// A hundred probes, four a second, and an emulator that stumbles now and then.
const KNOWN: Duration = Duration::from_secs(600);
/// Missed from the second probe without an answer on. In one piece: half a minute squeezed in vain, and who was squeezed
/// has to go.
const OUTAGE: &str = "systemctl stop nginx; f=/sys/fs/cgroup/loadline.slice/loadline-burst.slice/cpu.max; \
     for i in $(seq 120); do grep -q '^1000 20000$' $f && break; sleep 0.5; done; cat $f; systemctl start nginx";
const AT_ITS_FLOOR: &str = "1000 20000";
const MISSED: Duration = Duration::from_secs(240);

/// The unit and the slice above it.
const ON_THE_WAY: [&str; 2] = ["system.slice", "system.slice/nginx.service"];

pub(super) fn floors_and_promises(fleet: &Fleet) -> Result<()> {
    let node = fleet.guest(NEW)?;
    node.ok("cp -p /etc/loadline/node.toml /root/node.toml && systemctl start nginx")?;
    let outcome = kept(fleet, node);
    node.ok("systemctl start nginx; cp -p /root/node.toml /etc/loadline/node.toml && systemctl reload loadline-warden")?;
    outcome?;
    // Nobody is named any more: what its owner had is back.
    until(node, "the floors are taken back", SOON, |node| {
        Ok(floors(node)?.iter().all(|floor| *floor == 0))
    })?;
    node.ok("systemctl stop nginx").map(drop)
}

fn kept(fleet: &Fleet, node: &Guest) -> Result<()> {
    let operator = Operator::of(fleet)?;
    node.run_with_input("cat > /etc/loadline/node.toml", POLICY.into(), SOON)?;
    node.ok("systemctl reload loadline-warden")?;
    until(node, "the floors are held", SOON, |node| {
        Ok(floors(node)?.iter().all(|floor| *floor >= FLOOR) && verified(node)?)
    })?;
    let promised = "nginx.service: keeps 48MiB; p99 of GET http://127.0.0.1/ within 450ms";
    operator.until_node(NEW, "says what is kept", |shown| {
        shown["protected"].to_string().contains(promised)
    })?;
    by_hand(&operator, node)?;
    promise(fleet, &operator, node)
}

/// What somebody takes off comes back within seconds, at the unit and above it, and it is said.
fn by_hand(operator: &Operator<'_>, node: &Guest) -> Result<()> {
    for unit in ["nginx.service", "system.slice"] {
        node.ok(&format!(
            "systemctl set-property --runtime {unit} MemoryMin=0 MemoryLow=0"
        ))?;
        ensure!(
            floors(node)?.iter().any(|floor| *floor < FLOOR),
            "systemctl took nothing off {unit}"
        );
        let before = uptime(node)?;
        until(node, "the floors are back", SOON, |node| {
            Ok(floors(node)?.iter().all(|floor| *floor >= FLOOR))
        })?;
        let took = uptime(node)? - before;
        ensure!(took <= 30, "{unit} got its floor back after {took} s");
        let said = format!("on {unit}, had been taken off and is put back");
        wait_for("a receipt", SOON, || {
            let receipts = operator.guest().ok(&format!("fleet receipts {NEW}"))?;
            Ok(if receipts.contains(&said) {
                Look::Done(())
            } else {
                Look::Pending(receipts)
            })
        })?;
    }
    Ok(())
}

/// While nginx answers no one, lent work is squeezed; once it has answered for long enough it is let go, and lives.
fn promise(fleet: &Fleet, operator: &Operator<'_>, node: &Guest) -> Result<()> {
    let alice = Person::of(fleet)?;
    until(node, "nginx keeps its promise", KNOWN, |node| {
        Ok(slack(node)?.is_some_and(|slack| slack > 0.1) && level(node)? == "open")
    })?;
    let job = alice.submit(
        &format!("--cpus 100m --memory 64MiB --tier burst --node {NEW}"),
        "sh -c 'while :; do sleep 1; done'",
    )?;
    let attempt = alice.running(job)?;
    let held = node.run(OUTAGE, MISSED)?;
    ensure!(
        held.status == 0 && held.stdout.trim() == AT_ITS_FLOOR,
        "burst has {held:?} while nginx answers no one"
    );
    let why = "burst work is held at its floor: production misses its target by";
    wait_for("the fleet is told why", SOON, || {
        let receipts = operator.guest().ok(&format!("fleet receipts {NEW}"))?;
        Ok(if receipts.contains(why) {
            Look::Done(())
        } else {
            Look::Pending(receipts)
        })
    })?;
    until(node, "nginx keeps its promise again", KNOWN, |node| {
        Ok(slack(node)?.is_some_and(|slack| slack > 0.1))
    })?;
    let again = alice.until(job, "runs on", KNOWN, |attempt| attempt.state() == "running")?;
    ensure!(
        again.id() == attempt.id() && again.pid() == attempt.pid(),
        "a few seconds without nginx cost the worker its life: {again:?}"
    );
    let log = alice.types(&format!("fleet logs {job}"))?;
    ensure!(
        log.stderr.contains(&format!("loadline: {why}")),
        "its own log says nothing of it: {log:?}"
    );
    alice.cancel(job).map(drop)
}

/// The lower of `memory.min` and `memory.low` of each cgroup on the way, in bytes.
fn floors(node: &Guest) -> Result<Vec<u64>> {
    let files: Vec<String> = ON_THE_WAY
        .iter()
        .flat_map(|cgroup| ["min", "low"].map(|of| format!("/sys/fs/cgroup/{cgroup}/memory.{of}")))
        .collect();
    let text = node.ok(&format!("cat {}", files.join(" ")))?;
    text.lines()
        .map(|line| {
            line.trim()
                .parse()
                .with_context(|| format!("a floor is {line:?}"))
        })
        .collect()
}

fn metric(node: &Guest, name: &str) -> Result<String> {
    let page = node.ok(&format!(
        "curl -s http://127.0.0.1:7719/metrics | grep '^{name}' || true"
    ))?;
    Ok(page.trim().rsplit(' ').next().unwrap_or_default().to_owned())
}

fn verified(node: &Guest) -> Result<bool> {
    Ok(metric(node, "loadline_protect_verified{unit=\"nginx.service\"}")? == "1")
}

/// None: not known.
fn slack(node: &Guest) -> Result<Option<f64>> {
    Ok(metric(node, "loadline_slo_slack_ratio{unit=\"nginx.service\"}")?
        .parse()
        .ok())
}

fn level(node: &Guest) -> Result<String> {
    node.ok("curl -s http://127.0.0.1:7719/metrics | sed -n 's/^loadline_headroom_level{level=\"\\(.*\\)\"} 1$/\\1/p'")
}

fn until(node: &Guest, what: &str, limit: Duration, holds: impl Fn(&Guest) -> Result<bool>) -> Result<()> {
    wait_for(what, limit, || {
        if holds(node)? {
            return Ok(Look::Done(()));
        }
        let page = node.ok("curl -s http://127.0.0.1:7719/metrics | grep -E '^loadline_(headroom|protect|slo)'; journalctl -q -u loadline-warden -n 5 -o cat; uptime")?;
        Ok(Look::Pending(page))
    })
}
