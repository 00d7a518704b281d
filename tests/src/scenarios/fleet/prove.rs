//! A node is tested from the fleet, beside its running warden: the antagonist is lent work under the line, the report
//! comes back signed, whoever owns the node may refuse, and whoever asked may end it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::NEW;
use super::operator::Operator;
use super::person::{Person, SOON};
use crate::clock;
use crate::testbed::wait::{Look, wait_for};
use crate::testbed::{Fleet, Guest};

/// The shortest that may come to a verdict; under emulation it takes a minute and a half.
const SHORT: &str = "--stand-in --rate 20 --resource cpu --round 2s --rounds 4 --limit 3m";
const SHORT_LIMIT: Duration = Duration::from_secs(240);
/// Long enough to be ended.
const LONG: &str = "--stand-in --rate 20 --resource cpu --round 60s --rounds 5 --limit 15m";
const ANTAGONIST: &str = "/sys/fs/cgroup/loadline.slice/loadline-burst.slice/loadline-prove-cpu.service";
/// Everything of a test that could be left: units that are not over, cgroups, processes.
const LEFT: &str = "systemctl list-units --all --no-legend --plain 'loadline-prove*' | grep -v ' inactive ' ; \
     find /sys/fs/cgroup -name 'loadline-prove*' ; pgrep -af '[l]oadline-warden prove' ; ls /run/loadline/prove ; true";

pub(super) fn from_the_fleet(fleet: &Fleet) -> Result<()> {
    let (operator, node) = (Operator::of(fleet)?, fleet.guest(NEW)?);
    beside_work(fleet, operator.guest())?;
    measured(operator.guest(), node)?;
    ended(operator.guest(), node)?;
    node.ok("cp -p /etc/loadline/node.toml /root/node.toml")?;
    let refused = refused(&operator, node);
    node.ok("cp -p /root/node.toml /etc/loadline/node.toml && systemctl reload loadline-warden")?;
    refused
}

/// Work that runs blurs what production does alone: not without being told so.
fn beside_work(fleet: &Fleet, admin: &Guest) -> Result<()> {
    let alice = Person::of(fleet)?;
    let job = alice.submit(&format!("--cpus 100m --memory 64MiB --node {NEW}"), "sleep 600")?;
    alice.running(job)?;
    wait_for("a test is refused because of the work", SHORT_LIMIT, || {
        let refused = admin.run(&format!("fleet prove {NEW} {SHORT}"), SOON)?;
        // Just after a start production may seem to be in need for a moment.
        Ok(
            if refused.status == 1 && refused.stderr.contains("--with-workers") {
                Look::Done(())
            } else {
                Look::Pending(format!("{refused:?}"))
            },
        )
    })?;
    // Alice may look, not ask.
    let denied = alice.types(&format!("fleet prove {NEW} {SHORT}"))?;
    ensure!(denied.status == 4, "{denied:?}");
    alice.cancel(job).map(drop)
}

/// In all its forms, with the antagonist where lent work is and held as lent work is.
fn measured(admin: &Guest, node: &Guest) -> Result<()> {
    let limits =
        format!("cat {ANTAGONIST}/memory.max {ANTAGONIST}/pids.max /sys/fs/cgroup/loadline.slice/cpu.max");
    let bounded = begun(admin, node, SHORT, &limits)?;
    ensure!(
        !bounded.contains("max"),
        "the antagonist is not bounded: {bounded}"
    );
    let last = format!("fleet prove {NEW} --last --html /root/report.html -o json");
    let text = wait_for("the report", SHORT_LIMIT, || {
        let last = admin.run(&last, SOON)?;
        Ok(if last.stdout.trim().starts_with('{') && last.status != 3 {
            Look::Done(last.stdout)
        } else {
            Look::Pending(format!("{last:?}"))
        })
    })?;
    let report: Value = serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))?;
    let report = &report["report"];
    ensure!(report["format"] == "loadline-prove", "{report}");
    ensure!(
        report["line"]["held_by"] == "the running warden",
        "{}",
        report["line"]
    );
    ensure!(
        report["left_behind"].as_array().is_some_and(Vec::is_empty),
        "{report}"
    );
    let cpu = &report["resources"][0];
    ensure!(cpu["resource"] == "cpu" && !cpu["verdict"].is_null(), "{cpu}");
    println!("verdict {}, aborted {}", cpu["verdict"], report["aborted"]);
    // What a loaded host does to an emulated guest may look like danger, and a test has to end at that.
    let danger = report["aborted"]
        .as_str()
        .is_some_and(|why| !why.contains("interrupted"));
    ensure!(
        danger || cpu["work_cpu_us"].as_u64().is_some_and(|us| us > 100_000),
        "the antagonist did nothing: {report}"
    );
    let page = admin.ok("head -c 15 /root/report.html")?;
    ensure!(page == "<!doctype html>", "{page}");
    let screen = admin.run(&format!("fleet prove {NEW} --last"), SOON)?;
    ensure!(
        screen.stdout.contains("asked for by") && screen.stdout.contains("VERDICT"),
        "{screen:?}"
    );
    node.run_with_input("cat > /root/report.json", text.into(), SOON)?;
    let genuine = node.ok("loadline-warden prove --verify /root/report.json")?;
    ensure!(genuine.contains("this node's own key"), "{genuine}");
    nothing_left(node)?;
    // The antagonist is no worker: nobody is told that one was evicted or found.
    let receipts = admin.ok(&format!("fleet receipts {NEW}"))?;
    ensure!(!receipts.contains("loadline-prove"), "{receipts}");
    Ok(())
}

fn ended(admin: &Guest, node: &Guest) -> Result<()> {
    begun(admin, node, LONG, "pgrep -f '[p]rove-stand-in'")?;
    let busy = admin.run(&format!("fleet prove {NEW} {SHORT}"), SOON)?;
    ensure!(
        busy.status == 1 && busy.stderr.contains("runs on node"),
        "{busy:?}"
    );
    let begun = clock::now();
    let stopped = admin.run(&format!("fleet prove {NEW} --stop"), SOON)?;
    let took = begun.elapsed();
    ensure!(stopped.status == 0, "{stopped:?}");
    println!("a test was ended {took:?} after it was asked");
    nothing_left(node)
}

/// Begins a test, and again if the node was not calm enough for it, until something of it is seen on the node.
fn begun(admin: &Guest, node: &Guest, flags: &str, sign: &str) -> Result<String> {
    wait_for("a test runs", SHORT_LIMIT, || {
        let seen = node.run(sign, SOON)?;
        if seen.status == 0 {
            return Ok(Look::Done(seen.stdout));
        }
        let last = admin.run(&format!("fleet prove {NEW} --last"), SOON)?;
        if last.stderr.contains("runs just now") {
            return Ok(Look::Pending(format!("{last:?}")));
        }
        let asked = admin.run(&format!("fleet prove {NEW} {flags} --detach"), SOON)?;
        Ok(Look::Pending(format!("{last:?} {asked:?}")))
    })
}

fn nothing_left(node: &Guest) -> Result<()> {
    wait_for("nothing of the test is left", SOON, || {
        let left = node.ok(LEFT)?;
        Ok(if left.is_empty() {
            Look::Done(())
        } else {
            Look::Pending(left)
        })
    })
}

fn refused(operator: &Operator<'_>, node: &Guest) -> Result<()> {
    node.ok("printf 'version = 1\\n[lend]\\nprove = \"refuse\"\\n' > /etc/loadline/node.toml && systemctl reload loadline-warden")?;
    wait_for("the owner's word is known", SOON, || {
        let refused = operator
            .guest()
            .run(&format!("fleet prove {NEW} {SHORT}"), SOON)?;
        Ok(if refused.status == 1 && refused.stderr.contains("lend.prove") {
            Look::Done(())
        } else {
            Look::Pending(format!("{refused:?}"))
        })
    })?;
    nothing_left(node)
}
