//! fleetd and its store: an empty one stops nobody's work, and one store has one fleetd.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::NEW;
use super::person::{Person, SOON, main_pid};
use crate::deploy::{self, FLEET_GUEST};
use crate::testbed::Fleet;
use crate::testbed::wait::{Look, wait_for};

const FOLDER: &str = "/var/lib/loadline-fleet";

pub(super) fn empty(fleet: &Fleet) -> Result<()> {
    let alice = Person::of(fleet)?;
    let (admin, node) = (fleet.guest(FLEET_GUEST)?, fleet.guest(NEW)?);
    let job = alice.submit(&format!("--cpus 100m --node {NEW}"), "sleep 900")?;
    let attempt = alice.running(job)?;
    // Keys and fleet id stay; what the fleet knows is gone, its people too: an administrator is let in from the machine.
    admin.ok(&format!(
        "systemctl stop fleetd && mkdir -p /root/kept && mv {FOLDER}/store.db* /root/kept/"
    ))?;
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
    // The older store again: the job is known again and goes on.
    admin.ok(&format!("systemctl stop fleetd && rm -f {FOLDER}/store.db* && mv /root/kept/store.db* {FOLDER}/ && systemctl start fleetd"))?;
    deploy::await_ready(admin, NEW)?;
    let again = alice.running(job)?;
    ensure!(
        again.pid() == attempt.pid() && main_pid(node, attempt.unit())? == attempt.pid(),
        "{again:?}"
    );
    alice.cancel(job).map(drop)
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
        said.contains("another fleetd") && !said.contains("panicked"),
        "{said}"
    );
    admin.ok("systemctl is-active fleetd").map(drop)
}
