//! The network parts node and fleet: the node goes on, nothing is lost, nothing counts twice.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::person::{Attempt, Person, SOON, main_pid};
use super::{NEW, OLD};
use crate::clock;
use crate::deploy::{self, FLEET_GUEST};
use crate::testbed::wait::{Look, wait_for};
use crate::testbed::{Fleet, Guest};

/// Holds the cable out until a condition holds, at least for so long.
fn apart(node: &Guest, least: Duration, mut holds: impl FnMut() -> Result<Look<()>>) -> Result<()> {
    node.lan_down()?;
    let start = clock::now();
    let parted = wait_for("the partition has lasted", least + SOON, || {
        let left = least.saturating_sub(start.elapsed());
        Ok(match holds()? {
            Look::Done(()) if left.is_zero() => Look::Done(()),
            Look::Done(()) => Look::Pending(format!("{} s left", left.as_secs())),
            pending @ Look::Pending(_) => pending,
        })
    });
    node.lan_up()?;
    parted
}

pub(super) fn short(fleet: &Fleet) -> Result<()> {
    let alice = Person::of(fleet)?;
    let (admin, node) = (fleet.guest(FLEET_GUEST)?, fleet.guest(NEW)?);
    let stays = alice.submit(&format!("--cpus 100m --memory 64MiB --node {NEW}"), "sleep 900")?;
    let ends = alice.submit(
        &format!("--cpus 100m --memory 64MiB --node {NEW}"),
        "sh -c \"while [ ! -e \\$HOME/part ]; do sleep 1; done; rm \\$HOME/part; exit 9\"",
    )?;
    let (one, two) = (alice.running(stays)?, alice.running(ends)?);
    apart(node, Duration::from_secs(30), || {
        node.ok(&format!(
            "systemctl is-active -q {} && touch /home/alice/part || true",
            two.unit()
        ))?;
        let state = node.run(&format!("systemctl is-active {}", two.unit()), SOON)?;
        Ok(if state.status == 0 {
            Look::Pending("still runs".into())
        } else {
            Look::Done(())
        })
    })?;
    node.ok("rm -f /home/alice/part")?;
    let over = alice.over(ends, SOON)?;
    ensure!(
        over["exit_code"] == 9,
        "what happened during the partition came wrong: {over}"
    );
    ensure!(alice.attempts(ends)?.len() == 1, "{over}");
    ensure!(
        main_pid(node, one.unit())? == one.pid(),
        "the worker was disturbed"
    );
    deploy::await_ready(admin, NEW)?;
    let same = alice.running(stays)?;
    ensure!(same.pid() == one.pid(), "{same:?}");
    alice.cancel(stays).map(drop)
}

/// The node is lost at 60 s. `wait` keeps its attempt, `replace` gets another elsewhere and the first is stopped.
pub(super) fn long(fleet: &Fleet) -> Result<()> {
    let alice = Person::of(fleet)?;
    let (admin, node) = (fleet.guest(FLEET_GUEST)?, fleet.guest(NEW)?);
    let waits = alice.submit(
        &format!("--cpus 100m --memory 64MiB --on-node-lost wait --node {NEW}"),
        "sleep 900",
    )?;
    let moves = alice.submit(
        &format!("--cpus 100m --memory 64MiB --on-node-lost replace --node {NEW} --node {OLD}"),
        "sleep 900",
    )?;
    let (stays, first) = (alice.running(waits)?, alice.running(moves)?);
    let (cut, other) = if first.node() == NEW {
        (node, OLD)
    } else {
        (fleet.guest(OLD)?, NEW)
    };
    apart(cut, Duration::from_secs(180), || {
        let attempts = alice.attempts(moves)?;
        let last = attempts.last().context("no attempt")?;
        Ok(if last.node() == other && last.state() == "running" {
            Look::Done(())
        } else {
            Look::Pending(format!("{attempts:?}"))
        })
    })?;
    deploy::await_ready(admin, cut.name())?;
    cut.wait_ok(
        "the replaced worker is stopped once its node is back",
        &format!("! systemctl is-active -q {}", first.unit()),
        SOON,
    )?;
    let attempts = alice.attempts(moves)?;
    ensure!(attempts.len() == 2, "not one replacement: {attempts:?}");
    ensure!(attempts[0].reason() == "node_lost", "{attempts:?}");
    let alive = |attempt: &Attempt| attempt.state() == "running";
    ensure!(
        attempts.iter().filter(|attempt| alive(attempt)).count() == 1,
        "{attempts:?}"
    );
    let same = alice.running(waits)?;
    ensure!(
        same.pid() == stays.pid() && alice.attempts(waits)?.len() == 1,
        "`wait` did not wait: {same:?}"
    );
    alice.cancel(moves)?;
    alice.cancel(waits).map(drop)
}
