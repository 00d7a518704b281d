//! What jobs ask of their nodes and of each other: labels and taints that an operator sets, a spread, a chain.

use anyhow::{Context, Result, ensure};

use super::operator::Operator;
use super::person::{Person, SOON};
use super::{NEW, OLD};
use crate::testbed::Fleet;

/// Small enough for both nodes beside what else is there.
const SMALL: &str = "--cpus 100m --memory 64MiB";

pub(super) fn asked_for(fleet: &Fleet) -> Result<()> {
    let operator = Operator::of(fleet)?;
    let done = labels_and_taints(fleet, &operator).and_then(|()| chain(fleet));
    // Others get the nodes as they were, whatever came of it.
    for command in [
        format!("fleet node label {NEW} zone-"),
        format!("fleet node taint {OLD} only-"),
    ] {
        operator.guest().ok(&command)?;
    }
    done
}

fn labels_and_taints(fleet: &Fleet, operator: &Operator<'_>) -> Result<()> {
    let alice = Person::of(fleet)?;
    let waits = alice.submit(&format!("{SMALL} --require zone=eu"), "sleep 300")?;
    let why = alice.json(&format!("fleet explain {waits}"))?;
    let reason = &why["reasons"][0];
    ensure!(
        reason["code"] == "labels_unmet"
            && reason["sentence"] == "the job requires `zone=eu`, and no node's labels say so"
            && why["change"]
                .as_str()
                .is_some_and(|change| change.contains("leave out what it requires (--require 'zone=eu')")),
        "{why}"
    );
    let denied = alice.types(&format!("fleet node label {NEW} zone=eu"))?;
    ensure!(denied.status == 4, "labels are an operator's: {denied:?}");
    operator.guest().ok(&format!("fleet node label {NEW} zone=eu"))?;
    let attempt = alice.running(waits)?;
    ensure!(attempt.node() == NEW, "it requires a label of {NEW}: {attempt:?}");
    let shown = operator.node(NEW)?;
    ensure!(
        shown["labels"]["zone"] == "eu" && shown["labels"]["node"] == NEW,
        "{shown}"
    );

    let spread = alice.submit(&format!("{SMALL} --workers 2 --spread node"), "sleep 300")?;
    alice.running(spread)?;
    let mut nodes: Vec<String> = alice
        .attempts(spread)?
        .iter()
        .map(|attempt| attempt.node().to_owned())
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    ensure!(nodes.len() == 2, "two workers over two nodes: {nodes:?}");

    operator
        .guest()
        .ok(&format!("fleet node taint {OLD} only=tests"))?;
    let plain = alice.submit(SMALL, "sleep 300")?;
    let tolerant = alice.submit(
        &format!("{SMALL} --tolerate only --require 'node={OLD}'"),
        "sleep 300",
    )?;
    ensure!(alice.running(plain)?.node() == NEW, "{OLD} is kept for others");
    ensure!(alice.running(tolerant)?.node() == OLD, "it tolerates the taint");
    for job in [waits, spread, plain, tolerant] {
        alice.cancel(job)?;
    }
    Ok(())
}

fn chain(fleet: &Fleet) -> Result<()> {
    let alice = Person::of(fleet)?;
    let first = alice.submit(SMALL, "sh -c 'sleep 2; exit 3'")?;
    let well = alice.submit(&format!("{SMALL} --after {first}"), "true")?;
    let badly = alice.submit(&format!("{SMALL} --after-failed {first}"), "true")?;
    let told = alice.job(well)?;
    ensure!(
        told["waiting_for"] == format!("it waits for job {first} to end well") || told["state"] == "failed",
        "{told}"
    );
    let ended = alice.over(first, SOON)?;
    ensure!(ended["exit_code"] == 3, "{ended}");
    let never = alice.over(well, SOON)?;
    let why = never["never_started"]
        .as_str()
        .context("it does not say why it never started")?;
    ensure!(
        never["state"] == "failed" && why.ends_with(&format!("and job {first} failed")),
        "{never}"
    );
    ensure!(alice.attempts(well)?.is_empty(), "it must not have run: {never}");
    let after = alice.over(badly, SOON)?;
    ensure!(after["exit_code"] == 0, "{after}");
    Ok(())
}
