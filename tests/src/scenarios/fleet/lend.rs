//! Work that is lent: what it may use, how it ends, what its owner is told.

use anyhow::{Context, Result, ensure};

use super::person::{Person, SOON, cgroup, cgroup_file, cpus, main_pid};
use super::{NEW, on_both};
use crate::testbed::Fleet;
use crate::testbed::wait::{Look, wait_for};

pub(super) fn words_and_code(fleet: &Fleet) -> Result<()> {
    let alice = Person::of(fleet)?;
    on_both(fleet, |node| {
        let node = node.name();
        let typed = format!(
            "fleet run --quiet --cpus 100m --node {node} -- sh -c \"echo out; echo err >&2; exit 7\""
        );
        let output = alice.types(&typed)?;
        ensure!(
            output.status == 7,
            "{} {}{}",
            output.status,
            output.stdout,
            output.stderr
        );
        ensure!(output.stdout.trim() == "out", "stdout {:?}", output.stdout);
        ensure!(output.stderr.contains("err"), "stderr {:?}", output.stderr);
        Ok(())
    })
}

pub(super) fn limits(fleet: &Fleet) -> Result<()> {
    let alice = Person::of(fleet)?;
    let job = alice.submit(&format!("--cpus 1 --memory 128MiB --node {NEW}"), "sleep 300")?;
    let attempt = alice.running(job)?;
    let node = fleet.guest(NEW)?;
    let held = cgroup(
        node,
        attempt.unit(),
        &["memory.max", "cpu.weight", "cpuset.cpus.effective", "pids.max"],
    )?;
    let own = cgroup_file(node, attempt.unit(), "cpuset.cpus.effective")?;
    ensure!(
        cpus(&own)?.len() == 1 && !cpus(&own)?.contains(0),
        "not one lendable CPU: {held}"
    );
    ensure!(
        attempt.0["cpus"] == own.as_str(),
        "the fleet was told {} and the kernel does {own}",
        attempt.0["cpus"]
    );
    ensure!(held.contains("memory.max=134217728"), "{held}");
    ensure!(held.contains("cpu.weight=100"), "{held}");
    ensure!(!held.contains("pids.max=max"), "{held}");
    let slice = cgroup(
        node,
        "loadline.slice",
        &["cpu.idle", "cpu.max", "memory.max", "pids.max"],
    )?;
    ensure!(slice.contains("cpu.idle=1"), "{slice}");
    for open in ["cpu.max=max", "memory.max=max", "pids.max=max"] {
        ensure!(!slice.contains(open), "loadline.slice has no limit: {slice}");
    }
    let metrics =
        node.ok("curl -s http://127.0.0.1:7719/metrics | grep '^loadline_agent_limit_verified{'")?;
    let unheld: Vec<&str> = metrics.lines().filter(|line| !line.ends_with(" 1")).collect();
    ensure!(unheld.is_empty(), "limits that are not verified: {unheld:?}");
    alice.cancel(job).map(drop)
}

pub(super) fn shut_in(fleet: &Fleet) -> Result<()> {
    let alice = Person::of(fleet)?;
    on_both(fleet, |node| {
        let name = node.name();
        let job = alice.submit(&format!("--cpus 100m --node {name}"), "sleep 300")?;
        let attempt = alice.running(job)?;
        let status = node.ok(&format!("cat /proc/{}/status", attempt.pid()))?;
        ensure!(
            status.contains("Uid:\t1000\t1000\t1000\t1000"),
            "not alice: {status}"
        );
        ensure!(status.contains("NoNewPrivs:\t1"), "{status}");
        ensure!(status.contains("CapBnd:\t0000000000000000"), "{status}");
        alice.cancel(job)?;
        for door in [
            "touch /etc/x",
            "echo max > /sys/fs/cgroup/loadline.slice/memory.max",
            "ls /run/dbus",
            "ls /run/loadline",
        ] {
            // Said by the worker itself: a job that fails for another reason proves nothing.
            let output = alice.types(&format!(
                "fleet run --quiet --cpus 100m --node {name} -- sh -c \"{door} && echo open || echo shut\""
            ))?;
            ensure!(output.stdout.trim() == "shut", "a worker may {door}: {output:?}");
        }
        Ok(())
    })
}

pub(super) fn out_of_memory(fleet: &Fleet) -> Result<()> {
    let alice = Person::of(fleet)?;
    on_both(fleet, |node| {
        let node = node.name();
        let hog = "python3 -c \"x = bytearray(300 << 20)\"";
        let job = alice.submit(&format!("--cpus 100m --memory 64MiB --node {node}"), hog)?;
        let over = alice.over(job, SOON)?;
        ensure!(over["exit_code"] == 137, "{over}");
        let attempt = alice.attempts(job)?.pop().context("no attempt")?;
        ensure!(attempt.reason() == "out_of_memory", "{attempt:?}");
        ensure!(
            attempt.detail().contains("64MiB"),
            "the limit is not named: {:?}",
            attempt.detail()
        );
        let peak = attempt.0["ended"]["peak_memory_bytes"].as_u64().unwrap_or(0);
        ensure!((32 << 20..=64 << 20).contains(&peak), "peak {peak}");
        Ok(())
    })
}

/// Two fit on the four-CPU node, the third waits and knows why; then a churn of short ones, while the node is
/// watched: no moment in which two of them share a CPU.
pub(super) fn exclusive(fleet: &Fleet) -> Result<()> {
    let alice = Person::of(fleet)?;
    let node = fleet.guest(NEW)?;
    let flags = format!("--cpus 1 --memory 64MiB --node {NEW}");
    let first = alice.submit(&flags, "sleep 600")?;
    let second = alice.submit(&flags, "sleep 600")?;
    let (one, two) = (alice.running(first)?, alice.running(second)?);
    let effective = |unit: &str| cpus(&cgroup_file(node, unit, "cpuset.cpus.effective")?);
    let (a, b) = (effective(one.unit())?, effective(two.unit())?);
    ensure!(a.is_disjoint(&b) && a.len() == 1 && b.len() == 1, "{a} and {b}");
    let third = alice.submit(&flags, "true")?;
    let why = wait_for("the third says why it waits", SOON, || {
        let why = alice.json(&format!("fleet explain {third}"))?;
        let reasons = why["reasons"].as_array().map_or(0, Vec::len);
        Ok(if reasons > 0 {
            Look::Done(why)
        } else {
            Look::Pending(why.to_string())
        })
    })?;
    ensure!(why["reasons"].to_string().to_lowercase().contains("cpu"), "{why}");
    ensure!(why["state"] == "queued", "{why}");
    alice.cancel(first)?;
    alice.over(third, SOON)?;
    churn(&alice, node, &flags)?;
    ensure!(
        main_pid(node, two.unit())? == two.pid(),
        "the second was disturbed"
    );
    alice.cancel(second).map(drop)
}

fn churn(alice: &Person<'_>, node: &crate::testbed::Guest, flags: &str) -> Result<()> {
    // Reads all workers' sets at once, again and again; a cgroup that goes away meanwhile reads as nothing.
    let watch = "rm -f /tmp/shared /tmp/watch.stop; n=0; while [ ! -e /tmp/watch.stop ]; do \
         grep -H . /sys/fs/cgroup/loadline.slice/loadline-standard.slice/loadline-w-*/cpuset.cpus.effective 2>/dev/null \
         | cut -d: -f2 | sort | uniq -d >> /tmp/shared; n=$((n+1)); echo $n > /tmp/watch.count; done";
    node.ok(&format!(
        "systemd-run -q --collect --unit=watch-cpus sh -c '{watch}'"
    ))?;
    let jobs = (0..4)
        .map(|_| alice.submit(flags, "sleep 0.5"))
        .collect::<Result<Vec<_>>>()?;
    for job in jobs {
        let over = alice.over(job, SOON)?;
        ensure!(over["state"] == "succeeded", "{over}");
    }
    node.ok("touch /tmp/watch.stop")?;
    let seen = node.ok("cat /tmp/watch.count; echo; cat /tmp/shared")?;
    let (count, shared) = seen.split_once('\n').unwrap_or((seen.as_str(), ""));
    let count: u32 = count.trim().parse().context("the watch counted nothing")?;
    ensure!(count >= 20, "the watch looked only {count} times");
    ensure!(shared.trim().is_empty(), "CPUs in two exclusive sets: {shared}");
    Ok(())
}

pub(super) fn ended_early(fleet: &Fleet) -> Result<()> {
    let alice = Person::of(fleet)?;
    on_both(fleet, |node| {
        let node = node.name();
        let job = alice.submit(
            &format!("--cpus 100m --time 2s --grace 1s --node {node}"),
            "sleep 600",
        )?;
        let over = alice.over(job, SOON)?;
        let attempt = alice.attempts(job)?.pop().context("no attempt")?;
        ensure!(
            attempt.reason() == "time_limit" && over["exit_code"] == 124,
            "{over}"
        );
        let job = alice.submit(
            &format!("--cpus 100m --grace 2s --node {node}"),
            "sh -c \"trap : TERM; while :; do sleep 1; done\"",
        )?;
        alice.running(job)?;
        let over = alice.cancel(job)?;
        let attempt = alice.attempts(job)?.pop().context("no attempt")?;
        ensure!(
            attempt.reason() == "cancelled" && over["state"] == "cancelled",
            "{over}"
        );
        Ok(())
    })
}
