//! Production rises and lent work yields; production is calm and lent work gets its share back.
//!
//! Whether tiers are squeezed too is left open: with more virtual CPUs than the host has, a guest's clocks do not
//! count all that its CPUs did, and production seems to use less than it asks for.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::operator::Operator;
use super::person::{Person, SOON, cgroup_file, main_pid};
use super::{NEW, OLD, on_both};
use crate::testbed::wait::{Look, wait_for};
use crate::testbed::{Fleet, Guest};

/// The hold lasts 10 to 30 s, and then a tenth of the machine comes back every 5 s; the guest is emulated.
const CALM: Duration = Duration::from_secs(300);
const RISE: Duration = Duration::from_secs(120);

/// What the guest may lend at most, in thousandths of a CPU: of four one is reserved, and a fifth of all kept idle.
const LINE: u64 = 2200;
/// Far less than that, and again more than that: not all of it, since the emulator itself makes production wait.
const LITTLE: u64 = LINE / 4;
const MUCH: u64 = LINE / 3;

/// All four CPUs.
const PRODUCTION: &str = "systemd-run --quiet --collect --unit=rise.service --property=RuntimeMaxSec=300 \
     sh -c 'for i in 1 2 3 4; do while :; do :; done & done; wait'";

/// `name nice` of each thread of both programs.
const THREADS: &str = "for unit in loadline-warden loadline-agent; do \
     for thread in /proc/$(systemctl show -P MainPID $unit)/task/*; do \
     echo $(cat $thread/comm) $(sed 's/.*) //' $thread/stat | cut -d' ' -f17); done; done | sort -u";

/// What keeps the line comes at once; whatever else we do on a node, production goes before it. Not while lent work is
/// squeezed, which it may still be.
pub(super) fn others_step_back(fleet: &Fleet) -> Result<()> {
    on_both(fleet, |node| {
        wait_for("all but the loop behind production", CALM, || {
            let threads = node.ok(THREADS)?;
            let has = |line: &str| threads.lines().any(|other| other == line);
            let all = ["headroom 0", "loadline-agent 5", "loadline-warden 19"]
                .into_iter()
                .all(has);
            let others = threads
                .lines()
                .filter(|line| !line.ends_with(" 5") && !line.ends_with(" 19"))
                .count();
            Ok(match all && others == 1 {
                true => Look::Done(()),
                false => Look::Pending(threads),
            })
        })
    })
}

/// In the check and in what the fleet knows; from inside the warden's sandbox it is seen as by root.
pub(super) fn kernel_leaves_lent_work(fleet: &Fleet) -> Result<()> {
    let operator = Operator::of(fleet)?;
    for (name, lacks) in [(OLD, true), (NEW, false)] {
        let node = fleet.guest(name)?;
        let check = node.run("loadline-warden check", SOON)?.stdout;
        let said = check.contains("(wanted: preempt=full): it is set to voluntary");
        let fine = check.contains("leaves lent work for production anywhere");
        ensure!((said, fine) == (lacks, !lacks), "{name}: {check}");
        operator.until_node(name, "says of its kernel what the check says", |shown| {
            shown["missed"].to_string().contains("preempt=full") == lacks
        })?;
        let metric =
            "curl -s http://127.0.0.1:7719/metrics | grep 'loadline_capability{capability=\"preempt\"}'";
        let metric = node.ok(metric)?;
        ensure!(
            metric.trim().ends_with(if lacks { " 0" } else { " 1" }),
            "{name}: {metric}"
        );
    }
    Ok(())
}

pub(super) fn rises_and_calms(fleet: &Fleet) -> Result<()> {
    let (alice, node) = (Person::of(fleet)?, fleet.guest(NEW)?);
    until(node, CALM, "lent work may have a third of the line", |node| {
        Ok(level(node)? == "open" && offered(node)? >= MUCH)
    })?;
    let hog = "sh -c 'while :; do :; done'";
    let standard = alice.submit(&format!("--cpus 500m --memory 64MiB --node {NEW}"), hog)?;
    let burst = alice.submit(
        &format!("--cpus 500m --memory 64MiB --tier burst --node {NEW}"),
        hog,
    )?;
    let (standard_runs, burst_runs) = (alice.running(standard)?, alice.running(burst)?);
    let pids = [
        main_pid(node, standard_runs.unit())?,
        main_pid(node, burst_runs.unit())?,
    ];

    node.ok(PRODUCTION)?;
    until(node, RISE, "lent work at a quarter of the line", |node| {
        Ok(lent_share(node)? <= LITTLE)
    })?;
    let unheld = node.ok("curl -s http://127.0.0.1:7719/metrics | grep '^loadline_agent_limit_verified{' | grep -v ' 1$' || true")?;
    ensure!(
        unheld.is_empty(),
        "limits that are not held while production is served: {unheld}"
    );

    node.ok("systemctl stop rise.service")?;
    until(node, CALM, "a third of the line again", |node| {
        Ok(lent_share(node)? >= MUCH)
    })?;
    for job in [standard, burst] {
        alice.until(job, "runs", CALM, |attempt| attempt.state() == "running")?;
    }
    let after = [
        main_pid(node, standard_runs.unit())?,
        main_pid(node, burst_runs.unit())?,
    ];
    ensure!(pids == after, "workers were {pids:?} and are {after:?}");
    alice.cancel(standard)?;
    alice.cancel(burst).map(drop)
}

/// `cpu.max` of all lent work, in thousandths of a CPU.
fn lent_share(node: &Guest) -> Result<u64> {
    let text = cgroup_file(node, "loadline.slice", "cpu.max")?;
    let (quota, period) = text
        .split_once(' ')
        .with_context(|| format!("cpu.max holds {text}"))?;
    let number = |text: &str| {
        text.trim()
            .parse::<u64>()
            .with_context(|| format!("cpu.max holds {text}"))
    };
    Ok(number(quota)? * 1000 / number(period)?)
}

/// What the loop lets lent work have, in thousandths of a CPU. The kernel hears of it only while something is lent.
fn offered(node: &Guest) -> Result<u64> {
    let name = "loadline_headroom_lent_cpu_limit_cores";
    let text = node.ok(&format!(
        "curl -s http://127.0.0.1:7719/metrics | sed -n 's/^{name} //p'"
    ))?;
    let cores: f64 = text
        .trim()
        .parse()
        .with_context(|| format!("{name} is {text:?}"))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few CPUs"
    )]
    Ok((cores * 1000.0) as u64)
}

fn level(node: &Guest) -> Result<String> {
    node.ok("curl -s http://127.0.0.1:7719/metrics | sed -n 's/^loadline_headroom_level{level=\"\\(.*\\)\"} 1$/\\1/p'")
}

fn until(node: &Guest, limit: Duration, what: &str, holds: impl Fn(&Guest) -> Result<bool>) -> Result<()> {
    wait_for(what, limit, || {
        if holds(node)? {
            return Ok(Look::Done(()));
        }
        let page = node.ok("curl -s http://127.0.0.1:7719/metrics | grep ^loadline_headroom; cat /sys/fs/cgroup/loadline.slice/cpu.max; uptime; journalctl -q -u loadline-warden -n 5 -o cat")?;
        Ok(Look::Pending(page))
    })
}
