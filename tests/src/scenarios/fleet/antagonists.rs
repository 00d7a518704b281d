//! Lent work that wants all memory, or all processes there can be, beside production that needs its own: production keeps
//! what it holds.

use anyhow::{Context, Result, ensure};

use super::NEW;
use super::escapes::put;
use super::operator::Operator;
use super::person::{Person, SOON, cgroup};
use crate::testbed::Fleet;

/// Holds 300 MiB, goes through them once a second, and says how often and how slowly at worst.
const PRODUCTION: &str = r"
import time
held = bytearray(300 << 20)
worst, rounds = 0.0, 0
while True:
    begun = time.monotonic()
    for place in range(0, len(held), 4096):
        held[place] = (held[place] + 1) & 255
    rounds += 1
    worst = max(worst, time.monotonic() - begun)
    with open('/run/holds', 'w') as file:
        file.write('%d %.3f' % (rounds, worst))
    time.sleep(1)
";

/// A hundred megabytes a second, touched, until somebody stops it.
const LEAKER: &str = r"
import time
leak = []
while True:
    begun = time.monotonic()
    leak.append(bytearray(b'x') * (10 << 20))
    time.sleep(max(0, 0.1 - (time.monotonic() - begun)))
";

/// Reads a file larger than the machine's memory.
const STREAMER: &str =
    "sh -c \"truncate -s 3G \\$HOME/stream; cat \\$HOME/stream > /dev/null; rm \\$HOME/stream; exit 9\"";

pub(super) fn memory(fleet: &Fleet) -> Result<()> {
    let (alice, operator, node) = (Person::of(fleet)?, Operator::of(fleet)?, fleet.guest(NEW)?);
    put(node, "leaker.py", LEAKER)?;
    node.run_with_input("cat > /root/holds.py", PRODUCTION.into(), SOON)?;
    node.ok(
        "systemd-run --quiet --collect --unit=holds.service -p RuntimeMaxSec=600 python3 /root/holds.py",
    )?;
    node.wait_ok("production holds its memory", "grep -q '^[3-9]' /run/holds", SOON)?;
    let outcome = beside(&alice, &operator, fleet);
    node.ok("systemctl stop holds.service; rm -f /home/alice/leaker.py /home/alice/stream")?;
    outcome
}

fn beside(alice: &Person<'_>, operator: &Operator<'_>, fleet: &Fleet) -> Result<()> {
    let node = fleet.guest(NEW)?;
    let files = ["memory.events", "memory.stat", "memory.current"];
    let before = cgroup(node, "holds.service", &files)?;
    let flags = format!("--cpus 500m --node {NEW}");
    let streamer = alice.submit(&format!("{flags} --memory 128MiB"), STREAMER)?;
    alice.running(streamer)?;
    let leaker = alice.submit(
        &format!("{flags} --memory 900MiB"),
        "python3 /home/alice/leaker.py",
    )?;
    alice.over(leaker, SOON)?;
    let attempt = alice.attempts(leaker)?.pop().context("no attempt")?;
    ensure!(
        ["out_of_memory", "evicted"].contains(&attempt.reason()),
        "a leak ended otherwise: {attempt:?}"
    );
    let receipts = operator.guest().ok(&format!("fleet receipts {leaker}"))?;
    println!("# {NEW}: {} with {receipts}", attempt.reason());
    ensure!(receipts.contains("memory"), "its end has no receipt: {receipts}");
    let over = alice.over(streamer, SOON)?;
    ensure!(over["exit_code"] == 9, "the stream was cut: {over}");
    let after = cgroup(node, "holds.service", &files)?;
    for event in ["oom", "oom_kill", "oom_group_kill"] {
        ensure!(value(&after, event)? == 0, "production met {event}: {after}");
    }
    let current = value(&after, "memory.current=")?;
    ensure!(
        current >= 300 << 20,
        "production holds {current} bytes of 300 MiB"
    );
    let refaults = value(&after, "workingset_refault_anon")? - value(&before, "workingset_refault_anon")?;
    ensure!(refaults == 0, "{refaults} pages of production had to come back");
    let others = node.ok("dmesg | grep oom-kill: | grep -v 'task_memcg=/loadline.slice/' || true")?;
    ensure!(others.is_empty(), "killed for memory beyond the line: {others}");
    let holds = node.ok("cat /run/holds; systemctl is-active holds.service")?;
    println!(
        "# {NEW}: production's rounds and the slowest: {}",
        holds.replace('\n', " ")
    );
    Ok(())
}

/// Each forks as fast as it can, and so do its children.
const BOMB: &str = "perl -e \"while (1) { defined fork or select undef, undef, undef, 0.05 }\"";
/// So many have to be there before anybody speaks of a bomb.
const MANY: u32 = 300;

/// Production still gets processes, and nothing of a bomb is left once it was cancelled.
pub(super) fn forks(fleet: &Fleet) -> Result<()> {
    let (alice, node) = (Person::of(fleet)?, fleet.guest(NEW)?);
    let flags = format!("--cpus 1 --memory 900MiB --grace 1s --node {NEW}");
    let job = alice.submit(&flags, BOMB)?;
    let worker = alice.running(job)?;
    let files = cgroup(node, worker.unit(), &["pids.max"])?;
    let limit = value(&files, "pids.max=")?;
    let place = format!(
        "/sys/fs/cgroup$(systemctl show -P ControlGroup {})",
        worker.unit()
    );
    let forked = format!("cat {place}/pids.current && test $(cat {place}/pids.current) -gt {MANY}");
    node.wait_ok("the bomb goes off", &forked, SOON)?;
    node.ok("for i in 1 2 3; do systemd-run --quiet --wait --collect true || exit 1; done")
        .context("production gets no process any more")?;
    let now = node.ok(&format!("cat {place}/pids.current"))?;
    let now: u64 = now.trim().parse().with_context(|| format!("tasks {now:?}"))?;
    println!("# {NEW}: {now} of {limit} tasks");
    ensure!(now <= limit, "{now} tasks of {limit}");
    let most = node.ok("cat /proc/sys/kernel/pid_max")?;
    let most: u64 = most.trim().parse().with_context(|| format!("pid_max {most:?}"))?;
    ensure!(
        limit * 4 <= most,
        "one worker may have {limit} of {most} processes"
    );
    let over = alice.cancel(job)?;
    ensure!(over["state"] == "cancelled", "{over}");
    node.wait_ok("nothing of it is left", "test \"$(pgrep -c -x perl)\" = 0", SOON)?;
    let others = node.ok("dmesg | grep oom-kill: | grep -v 'task_memcg=/loadline.slice/' || true")?;
    ensure!(others.is_empty(), "killed for memory beyond the line: {others}");
    Ok(())
}

fn value(text: &str, name: &str) -> Result<u64> {
    let line = text.split(['\n', '=']).find_map(|line| {
        line.strip_prefix(name.trim_end_matches('='))
            .filter(|rest| rest.starts_with(' '))
    });
    let line = match line {
        Some(line) => line,
        None => text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .with_context(|| format!("no {name} in {text}"))?,
    };
    line.trim().parse().with_context(|| format!("{name} is {line:?}"))
}
