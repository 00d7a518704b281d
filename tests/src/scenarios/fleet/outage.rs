//! fleetd is away, the network is not: nodes go on, are not lost for it, and what happened meanwhile is told once.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::operator::{Operator, over, uptime};
use super::person::{Person, SOON, main_pid};
use super::{NEW, OLD};
use crate::testbed::Fleet;

const OUTAGE: u64 = 300;
/// A worker that ends with 9 once its mark is there.
const ENDS: &str = "sh -c \"while [ ! -e \\$HOME/outage ]; do sleep 1; done; rm \\$HOME/outage; exit 9\"";

/// Five minutes are five times what makes a silent node a lost one, and more than the longest wait between two
/// attempts to reach fleetd.
pub(super) fn five_minutes(fleet: &Fleet) -> Result<()> {
    let (alice, operator) = (Person::of(fleet)?, Operator::of(fleet)?);
    let (admin, node) = (operator.guest(), fleet.guest(NEW)?);
    let stays = alice.submit(
        &format!("--cpus 100m --memory 64MiB --on-node-lost replace --node {NEW} --node {OLD}"),
        "sleep 1800",
    )?;
    let ends = alice.submit(&format!("--cpus 100m --memory 64MiB --node {NEW}"), ENDS)?;
    let (one, two) = (alice.running(stays)?, alice.running(ends)?);
    let host = fleet.guest(one.node())?;
    let lost = operator.events("kind = 'node_lost'")?;
    operator.stop_fleetd()?;
    let begun = uptime(admin)?;
    node.ok("touch /home/alice/outage")?;
    over(node, two.unit())?;
    let refused = alice.types("fleet jobs")?;
    ensure!(refused.status == 5, "fleetd is away: {refused:?}");
    admin.wait_ok(
        "five minutes without fleetd have passed",
        &format!("test $(cut -d. -f1 /proc/uptime) -ge {}", begun + OUTAGE),
        Duration::from_secs(OUTAGE) + SOON,
    )?;
    operator.start_fleetd()?;
    let called = operator.all_ready()?;
    ensure!(
        !called.iter().any(|state| state.contains("lost")),
        "a node was called lost: {called:?}"
    );
    let after = operator.events("kind = 'node_lost'")?;
    ensure!(after == lost, "a node was lost: {after:?} after {lost:?}");
    let done = alice.over(ends, SOON)?;
    ensure!(
        done["exit_code"] == 9,
        "what happened meanwhile came wrong: {done}"
    );
    let ended = alice.attempts(ends)?.pop().context("no attempt")?;
    let told = operator.events(&format!("kind = 'attempt' AND subject = '{}'", ended.id()))?;
    let ends_told: Vec<&String> = told.iter().filter(|event| event.contains("exited")).collect();
    ensure!(ends_told.len() == 1, "its end is not recorded once: {told:?}");
    let same = alice.running(stays)?;
    ensure!(
        same.pid() == one.pid() && main_pid(host, one.unit())? == one.pid(),
        "another process: {same:?} instead of {one:?}"
    );
    ensure!(
        alice.attempts(stays)?.len() == 1,
        "more than one attempt: {same:?}"
    );
    alice.cancel(stays).map(drop)
}
