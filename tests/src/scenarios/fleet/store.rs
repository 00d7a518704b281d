//! fleetd and its store: an empty one stops nobody's work, and one store has one fleetd.

use std::time::Duration;

use anyhow::{Result, ensure};

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
    // Keys and fleet id stay; what the fleet knows is gone.
    admin.ok(&format!("systemctl stop fleetd && mkdir -p /root/kept && mv {FOLDER}/store.db* /root/kept/ && systemctl start fleetd"))?;
    let orphan = format!("the worker shows as an orphan of {NEW}");
    let look = "sqlite3 /dev/null .quit; journalctl -u fleetd -n 3 --no-pager >&2; curl -s http://127.0.0.1:7720/metrics";
    wait_for(&orphan, Duration::from_secs(120), || {
        let metrics = admin.run(look, SOON)?;
        let shown = metrics
            .stdout
            .lines()
            .any(|line| line.starts_with("loadline_manager_orphans") && !line.ends_with(" 0"));
        Ok(if shown {
            Look::Done(())
        } else {
            Look::Pending(format!("{}{}", metrics.stderr, metrics.stdout))
        })
    })?;
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
    let output = admin.run("runuser -u loadline-fleet -- fleetd run", SOON)?;
    ensure!(output.status != 0, "a second fleetd runs on the same store");
    let said = format!("{}{}", output.stdout, output.stderr);
    ensure!(
        said.contains("another fleetd") && !said.contains("panicked"),
        "{said}"
    );
    admin.ok("systemctl is-active fleetd").map(drop)
}
