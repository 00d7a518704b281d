//! A full disk, of a node and of fleetd: nothing is acknowledged that is not durable, so nothing is lost, and no
//! worker is disturbed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::NEW;
use super::operator::{Operator, STATE, moment, one_sentence, over};
use super::person::{Person, SOON, main_pid};
use crate::testbed::wait::{Look, wait_for};
use crate::testbed::{Fleet, Guest};

/// Asks for more than there is: what there is stays allocated without being written, then the last blocks are written.
const FILL: &str = "{ fallocate -l $(( $(stat -f -c %f /) * $(stat -f -c %S /) )) /full.most; \
                    cat /dev/zero > /full.rest; sync; ! echo probe > /full.probe; } 2>/dev/null";
const ROOM: &str = "rm -f /full.most /full.rest /full.probe && sync";
/// A worker that ends with 9 once its mark is gone: that needs no room.
const ENDS: &str = "sh -c \"touch \\$HOME/full; while [ -e \\$HOME/full ]; do sleep 1; done; exit 9\"";
/// What the files still have room for is a few lines.
const SUBMITS: usize = 60;
/// Tried again every ten seconds at the latest.
const AGAIN: Duration = Duration::from_secs(120);

/// Holds a guest's disk full while something is done, and makes room whatever comes of it.
fn while_full(guest: &Guest, what: impl FnOnce() -> Result<()>) -> Result<()> {
    let filled = guest.ok(FILL).map(drop);
    let done = filled.and_then(|()| what());
    guest.ok(ROOM)?;
    done
}

pub(super) fn node(fleet: &Fleet) -> Result<()> {
    let (alice, node) = (Person::of(fleet)?, fleet.guest(NEW)?);
    let stays = alice.submit(&format!("--cpus 100m --memory 64MiB --node {NEW}"), "sleep 1800")?;
    let ends = alice.submit(&format!("--cpus 100m --memory 64MiB --node {NEW}"), ENDS)?;
    let (one, two) = (alice.running(stays)?, alice.running(ends)?);
    node.wait_ok("its mark is there", "test -e /home/alice/full", SOON)?;
    // With their logs short, what comes next needs room.
    node.ok("systemctl restart loadline-warden loadline-agent")?;
    Operator::of(fleet)?.all_ready()?;
    let mut late = 0;
    while_full(node, || {
        let since = moment(node)?;
        node.ok("rm /home/alice/full")?;
        over(node, two.unit())?;
        late = alice.submit(&format!("--cpus 100m --memory 64MiB --node {NEW}"), "echo late")?;
        wait_for("the node says that it cannot write", SOON, || {
            let warden = Operator::logged(node, "loadline-warden", &since)?;
            let agent = Operator::logged(node, "loadline-agent", &since)?;
            Ok(if format!("{warden}{agent}").contains("full") {
                Look::Done(())
            } else {
                Look::Pending(format!("{warden}\n{agent}"))
            })
        })?;
        let job = alice.job(ends)?;
        ensure!(
            job["state"] == "running",
            "told although it is durable nowhere: {job}"
        );
        let waits = alice.attempts(late)?;
        ensure!(
            waits.iter().all(|attempt| attempt.state() == "assigned"),
            "started although its order is durable nowhere: {waits:?}"
        );
        let pid = main_pid(node, one.unit())?;
        ensure!(pid == one.pid(), "a full disk disturbed a worker: {pid}");
        Ok(())
    })?;
    let told = alice.over(ends, AGAIN)?;
    ensure!(
        told["exit_code"] == 9,
        "what happened meanwhile came wrong: {told}"
    );
    let done = alice.over(late, AGAIN)?;
    ensure!(done["exit_code"] == 0, "{done}");
    for job in [stays, ends, late] {
        let attempts = alice.attempts(job)?;
        ensure!(attempts.len() == 1, "job {job}: {attempts:?}");
    }
    let same = alice.running(stays)?;
    ensure!(
        same.pid() == one.pid() && main_pid(node, one.unit())? == one.pid(),
        "{same:?}"
    );
    alice.cancel(stays).map(drop)
}

pub(super) fn fleetd(fleet: &Fleet) -> Result<()> {
    let (alice, operator) = (Person::of(fleet)?, Operator::of(fleet)?);
    let (admin, node) = (operator.guest(), fleet.guest(NEW)?);
    let ends = alice.submit(&format!("--cpus 100m --memory 64MiB --node {NEW}"), ENDS)?;
    let attempt = alice.running(ends)?;
    node.wait_ok("its mark is there", "test -e /home/alice/full", SOON)?;
    let pid = main_pid(admin, "fleetd")?;
    let mut accepted = Vec::new();
    while_full(admin, || {
        accepted = until_refused(&alice)?;
        node.ok("rm /home/alice/full")?;
        over(node, attempt.unit())?;
        let still = main_pid(admin, "fleetd")?;
        ensure!(still == pid, "fleetd {pid} became {still} by a full disk");
        Ok(())
    })?;
    let told = alice.over(ends, AGAIN)?;
    ensure!(
        told["exit_code"] == 9,
        "what happened meanwhile came wrong: {told}"
    );
    ensure!(alice.attempts(ends)?.len() == 1, "{told}");
    let still = main_pid(admin, "fleetd")?;
    ensure!(still == pid, "fleetd {pid} became {still} once there was room");
    // Durable: also for a fleetd that reads its store anew. And no job of a refused submit.
    operator.stop_fleetd()?;
    operator.start_fleetd()?;
    operator.all_ready()?;
    let jobs = alice.json("fleet jobs --all")?;
    let named = jobs.as_array().context("no list of jobs")?.iter();
    let named = named.filter(|job| job["name"].as_str().is_some_and(|name| name.starts_with("full-")));
    let mut kept: Vec<u64> = named.filter_map(|job| job["job"].as_u64()).collect();
    kept.sort_unstable();
    ensure!(kept == accepted, "accepted {accepted:?} and kept {kept:?}");
    let checked = admin.run(&format!("fleetd audit verify {STATE}/audit.log"), SOON)?;
    ensure!(checked.status == 0, "{checked:?}");
    for job in accepted {
        alice.cancel(job)?;
    }
    let next = alice.types(&format!(
        "fleet run --quiet --cpus 100m --memory 64MiB --node {NEW} -- echo on"
    ))?;
    ensure!(next.stdout.trim() == "on", "{next:?}");
    Ok(())
}

/// Submits jobs that can start nowhere until one is refused, and gives the numbers of those that were not.
fn until_refused(alice: &Person<'_>) -> Result<Vec<u64>> {
    let mut accepted = Vec::new();
    for number in 0..SUBMITS {
        let typed = format!("fleet run --detach --cpus 64 --name full-{number} -- true");
        let answer = alice.types(&typed)?;
        if answer.status != 0 {
            one_sentence(&answer.stderr)?;
            ensure!(
                answer.stderr.contains("disk") && answer.stderr.contains("room"),
                "it does not say what to do: {answer:?}"
            );
            return Ok(accepted);
        }
        let number = answer.stdout.trim().parse();
        accepted.push(number.with_context(|| format!("no number: {answer:?}"))?);
    }
    anyhow::bail!("{SUBMITS} jobs were accepted on a full disk");
}
