//! fleetd and its store: an empty one stops nobody's work, and one store has one fleetd.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::NEW;
use super::operator::Operator;
use super::person::{Attempt, Person, SOON, main_pid};
use crate::deploy::{self, FLEET_GUEST};
use crate::testbed::wait::{Look, wait_for};
use crate::testbed::{Fleet, Guest};

const FOLDER: &str = "/var/lib/loadline-fleet";

pub(super) fn empty(fleet: &Fleet) -> Result<()> {
    let alice = Person::of(fleet)?;
    let (admin, node) = (fleet.guest(FLEET_GUEST)?, fleet.guest(NEW)?);
    let job = alice.submit(&format!("--cpus 100m --memory 64MiB --node {NEW}"), "sleep 900")?;
    let attempt = alice.running(job)?;
    admin.ok(&format!(
        "systemctl stop fleetd && mkdir -p /root/kept && mv {FOLDER}/store.db* /root/kept/"
    ))?;
    let seen = with_none(admin, node, &attempt);
    // The older store again, whatever was seen: the other scenarios need it.
    admin.ok(&format!("systemctl stop fleetd && rm -f {FOLDER}/store.db* && mv /root/kept/store.db* {FOLDER}/ && systemctl start fleetd"))?;
    deploy::await_ready(admin, NEW)?;
    seen?;
    // The job is known again and goes on.
    let again = alice.running(job)?;
    ensure!(
        again.pid() == attempt.pid() && main_pid(node, attempt.unit())? == attempt.pid(),
        "{again:?}"
    );
    alice.cancel(job).map(drop)
}

/// fleetd without a store. Keys and fleet id stay; what the fleet knows is gone, its people too: an administrator is let
/// in from the machine.
fn with_none(admin: &Guest, node: &Guest, attempt: &Attempt) -> Result<()> {
    let printed = admin.ok("fleetd admin 2>&1")?;
    let login = printed
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("fleet login "));
    let login = login.with_context(|| format!("`fleetd admin` named no `fleet login` command: {printed}"))?;
    admin.ok(&format!("systemctl start fleetd && {login}"))?;
    wait_for(
        &format!("the worker shows as an orphan of {NEW}"),
        Duration::from_secs(120),
        || {
            let shown = admin.run("fleet nodes -o json", SOON)?;
            let nodes: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap_or_default();
            let orphans = nodes
                .as_array()
                .into_iter()
                .flatten()
                .find(|row| row["node"] == NEW)
                .map(|row| &row["orphans"]);
            Ok(if orphans.is_some_and(|count| *count == 1) {
                Look::Done(())
            } else {
                Look::Pending(format!("{shown:?}"))
            })
        },
    )?;
    let pid = main_pid(node, attempt.unit())?;
    ensure!(
        pid == attempt.pid(),
        "an empty store cost the worker its life: {pid}"
    );
    Ok(())
}

/// A copy that was made before the last changes: work that it knows is recognised, work that it does not is an orphan,
/// and none of it ends. What the node did under the newer store must not keep it from taking orders of the older.
pub(super) fn older(fleet: &Fleet) -> Result<()> {
    let (alice, operator) = (Person::of(fleet)?, Operator::of(fleet)?);
    let node = fleet.guest(NEW)?;
    let known = alice.submit(&format!("--cpus 100m --memory 64MiB --node {NEW}"), "sleep 1800")?;
    let one = alice.running(known)?;
    operator.stop_fleetd()?;
    let admin = operator.guest();
    admin.ok(&format!(
        "mkdir -p /root/kept && cp -p {FOLDER}/store.db* /root/kept/"
    ))?;
    operator.start_fleetd()?;
    let unknown = alice.submit(&format!("--cpus 100m --memory 64MiB --node {NEW}"), "sleep 1800")?;
    let two = alice.running(unknown)?;
    operator.stop_fleetd()?;
    admin.ok(&format!(
        "rm -f {FOLDER}/store.db* && mv /root/kept/store.db* {FOLDER}/"
    ))?;
    operator.start_fleetd()?;
    operator.all_ready()?;
    let shown = operator.until_node(NEW, "has one orphan", |shown| shown["orphans"] == 1)?;
    let workers = shown["running"].as_array().context("no workers")?;
    ensure!(
        workers
            .iter()
            .any(|worker| worker["orphan"] == true && worker["unit"] == two.unit()),
        "{shown}"
    );
    let same = alice.running(known)?;
    ensure!(
        same.pid() == one.pid() && alice.attempts(known)?.len() == 1,
        "{same:?}"
    );
    for attempt in [&one, &two] {
        let pid = main_pid(node, attempt.unit())?;
        ensure!(pid == attempt.pid(), "an older store ended {attempt:?}: {pid}");
    }
    let next = alice.types(&format!(
        "fleet run --quiet --cpus 100m --memory 64MiB --node {NEW} -- echo on"
    ))?;
    ensure!(next.stdout.trim() == "on", "{next:?}");
    alice.cancel(known)?;
    node.ok(&format!("systemctl stop {}", two.unit()))?;
    operator
        .until_node(NEW, "has no orphan", |shown| shown["orphans"] == 0)
        .map(drop)
}

pub(super) fn second(fleet: &Fleet) -> Result<()> {
    let admin = fleet.guest(FLEET_GUEST)?;
    let elsewhere = "version = 1\n[listen]\nsession = \"127.0.0.1:7817\"\naccess = \"127.0.0.1:7818\"\nhttp = \"127.0.0.1:7820\"\n";
    admin.run_with_input("cat > /tmp/second.toml", elsewhere.into(), SOON)?;
    let output = admin.run(
        "runuser -u loadline-fleet -- fleetd --config /tmp/second.toml run",
        SOON,
    )?;
    ensure!(output.status != 0, "a second fleetd runs on the same store");
    let said = format!("{}{}", output.stdout, output.stderr);
    ensure!(
        said.contains("store.db is in use by process") && !said.contains("panicked"),
        "{said}"
    );
    admin.ok("systemctl is-active fleetd").map(drop)
}
