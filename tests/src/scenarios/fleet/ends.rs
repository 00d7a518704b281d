//! Ends under need: production wants every CPU, lent work is held at its floor, and yet each end comes soon and with its
//! own reason, and PID 1 waits for none of them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::escapes::put;
use super::operator::Operator;
use super::person::{Attempt, Person, SOON};
use super::{NEW, OLD};
use crate::testbed::wait::{Look, wait_for};
use crate::testbed::{Fleet, Guest};

/// From the cause to the last process gone, the worker's grace of a second included.
const END_LIMIT_MS: u64 = 10_000;
/// The longest that PID 1 may wait for a child of its own to come to life.
const PID1_LIMIT_MS: u64 = 100;
/// For lent work to be held near its floor, or for an end to be seen.
const RISE: Duration = Duration::from_secs(180);

/// Looks every ten milliseconds, before all others, at what PID 1 does, and every hundredth at which workers live. A look
/// that came late makes no wait of PID 1 longer.
const WATCH: &str = r"
import glob, os, time
def uptime():
    return int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1000)
def waits():
    if open('/proc/1/wchan').read().strip() in ('kernel_clone', 'wait_for_vfork_done', 'do_freezer_trap'):
        return True
    return open('/proc/1/stat').read().rsplit(')', 1)[1].split()[0] == 'D'
alive, wait, longest, last, look, late = {}, 0, 0, uptime(), 0, 0
while not os.path.exists('/run/watch.stop'):
    time.sleep(0.01)
    now = uptime()
    late = max(late, now - last)
    if waits():
        wait += min(now - last, 20)
        longest = max(longest, wait)
    else:
        if wait > 50:
            print('waited', now, wait, flush=True)
        wait = 0
    last = now
    look += 1
    if look % 10 == 0:
        there = {path.rsplit('/', 1)[1] for path in glob.glob('/sys/fs/cgroup/loadline.slice/loadline-*.slice/loadline-w-*')}
        for unit in set(alive) - there:
            print('gone', unit, now, flush=True)
        alive = dict.fromkeys(there)
print('longest', longest, 'looks', look, 'late', late, flush=True)
";

/// Twice as many as there are CPUs, or more.
const PRODUCTION: &str = "systemd-run --quiet --collect --unit=rise.service --property=RuntimeMaxSec=400 \
     sh -c 'for i in 1 2 3 4 5 6 7 8; do while :; do :; done & done; wait'";

/// Deaf to SIGTERM, and busy.
const HOG: &str = "sh -c \"trap : TERM; while :; do :; done\"";
/// Holds most of what it may, waits for its mark, and then takes more, in steps that even next to no CPU is enough for.
const EATER: &str = r"
import os, time
held = [b'x' * (42 << 20)]
while not os.path.exists('/home/alice/eat'):
    time.sleep(0.5)
while True:
    held.append(bytes([len(held) & 255]) * (1 << 20))
";
/// Leaves nothing to lend.
const NOTHING: &str =
    "version = 1\n[lend]\nmode = \"enforce\"\n[production]\nreserve = { memory = \"RESERVE\" }\n";

pub(super) fn under_need(fleet: &Fleet) -> Result<()> {
    for name in [OLD, NEW] {
        let node = fleet.guest(name)?;
        node.ok("cp -p /etc/loadline/node.toml /root/node.toml; rm -f /run/watch.stop /home/alice/eat")?;
        node.run_with_input("cat > /root/watch.py", WATCH.into(), SOON)?;
        put(node, "eater.py", EATER)?;
        let outcome = ends(fleet, node).with_context(|| format!("on {name}"));
        node.ok(
            "touch /run/watch.stop; systemctl stop rise.service; rm -f /home/alice/eat /home/alice/eater.py; \
             cp -p /root/node.toml /etc/loadline/node.toml && systemctl reload loadline-warden",
        )?;
        cancel_all(fleet)?;
        outcome?;
    }
    Operator::of(fleet)?.all_ready().map(drop)
}

/// Four workers, one for each way to end.
struct Jobs {
    cancelled: u64,
    evicted: u64,
    eater: u64,
    timed: u64,
}

fn submit(alice: &Person<'_>, node: &Guest) -> Result<Jobs> {
    let flags = format!("--cpus 100m --memory 64MiB --grace 1s --node {}", node.name());
    let begun = |flags: &str, command: &str| {
        let job = alice.submit(flags, command)?;
        alice.running(job).map(|_| job)
    };
    // Burst first: beside a standard worker that takes the whole quota it would not get to its command at all.
    let jobs = Jobs {
        evicted: begun(&format!("{flags} --tier burst"), HOG)?,
        eater: begun(&flags, "python3 /home/alice/eater.py")?,
        cancelled: begun(&flags, HOG)?,
        timed: begun(&format!("{flags} --time 15s"), HOG)?,
    };
    Ok(jobs)
}

fn ends(fleet: &Fleet, node: &Guest) -> Result<()> {
    let alice = Person::of(fleet)?;
    let jobs = submit(&alice, node)?;
    node.ok(
        "systemd-run --quiet --unit=watch-pid1 --collect -p CPUSchedulingPolicy=fifo -p CPUSchedulingPriority=50 \
         -p StandardOutput=file:/run/watch.log python3 -u /root/watch.py",
    )?;
    node.ok(PRODUCTION)?;
    held(node)?;
    let asked = now(node)?;
    alice.ok(&format!("fleet cancel {}", jobs.cancelled))?;
    let cancelled = (first(&alice, jobs.cancelled, &["cancelled"])?, asked);
    node.ok("touch /home/alice/eat")?;
    let eaten = first(&alice, jobs.eater, &["out_of_memory"])?;
    let reserve = node.ok("awk '/^MemTotal/ { print int($2 / 1024) - 100 \"MiB\" }' /proc/meminfo")?;
    let policy = NOTHING.replace("RESERVE", &reserve);
    node.run_with_input("cat > /etc/loadline/node.toml", policy.into(), SOON)?;
    let asked = now(node)?;
    node.ok("systemctl reload loadline-warden")?;
    let evicted = (first(&alice, jobs.evicted, &["evicted"])?, asked);
    // The clock of a squeezed worker stands still: its limit comes before that, or it goes for the reserve.
    let timed = first(&alice, jobs.timed, &["time_limit", "evicted"])?;
    node.ok("touch /run/watch.stop; systemctl stop rise.service")?;
    let log = node.wait_ok(
        "the watch has ended",
        "grep -q ^longest /run/watch.log && cat /run/watch.log",
        SOON,
    )?;
    println!("# {}: {}", node.name(), log.replace('\n', "; "));
    for (attempt, asked) in [cancelled, evicted] {
        in_time(node, &attempt, asked, gone(&log, attempt.unit())?)?;
    }
    for attempt in [eaten, timed] {
        let asked = first_word(node, &attempt)?;
        in_time(node, &attempt, asked, gone(&log, attempt.unit())?)?;
    }
    let longest = number(&log, "longest ")?;
    ensure!(
        longest <= PID1_LIMIT_MS,
        "PID 1 waited {longest} ms for a child: {log}"
    );
    Ok(())
}

/// What was evicted waits to be tried again, and after a failure all of them may run.
fn cancel_all(fleet: &Fleet) -> Result<()> {
    let alice = Person::of(fleet)?;
    let left = alice.json("fleet jobs")?;
    for job in left
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|row| row["job"].as_u64())
    {
        alice.cancel(job)?;
    }
    Ok(())
}

fn in_time(node: &Guest, attempt: &Attempt, asked: u64, gone: u64) -> Result<()> {
    let took = gone.saturating_sub(asked);
    println!("# {}: {} ended within {took} ms", node.name(), attempt.reason());
    ensure!(
        took <= END_LIMIT_MS,
        "{} took {took} ms: {attempt:?}",
        attempt.reason()
    );
    Ok(())
}

/// Waits until lent work has less than a seventh of the machine.
fn held(node: &Guest) -> Result<()> {
    let cpus = u64::from(node.spec().cpus);
    wait_for("lent work is held", RISE, || {
        let text = node.ok("cat /sys/fs/cgroup/loadline.slice/cpu.max")?;
        let mut words = text.split_whitespace().map(str::parse::<u64>);
        let held = matches!((words.next(), words.next()), (Some(Ok(quota)), Some(Ok(period))) if quota * 7 <= period * cpus);
        Ok(if held { Look::Done(()) } else { Look::Pending(text) })
    })
}

/// Waits for an attempt that ended so. One that was evicted is tried again: its first attempt counts.
fn first(alice: &Person<'_>, job: u64, reasons: &[&str]) -> Result<Attempt> {
    wait_for(&format!("job {job} ends with {reasons:?}"), RISE, || {
        let attempts = alice.attempts(job)?;
        let ended = |attempt: &&Attempt| reasons.contains(&attempt.reason());
        Ok(match attempts.iter().find(ended) {
            Some(found) => Look::Done(found.clone()),
            None => Look::Pending(format!("{attempts:?}")),
        })
    })
}

/// When systemd first said something about the end, in milliseconds since the boot.
fn first_word(node: &Guest, worker: &Attempt) -> Result<u64> {
    let lines = node.ok(&format!(
        "journalctl -q -o short-monotonic -u {} | grep -E 'OOM|Stopping|Stopped|Deactivated|Failed|Main process' || true",
        worker.unit()
    ))?;
    let line = lines
        .lines()
        .next()
        .with_context(|| format!("systemd said nothing of {worker:?}"))?;
    let (seconds, parts) = line
        .trim_start_matches(['[', ' '])
        .split(']')
        .next()
        .and_then(|text| text.split_once('.'))
        .with_context(|| format!("odd line {line:?}"))?;
    format!("{seconds}{}", parts.get(..3).unwrap_or_default())
        .parse()
        .with_context(|| format!("odd line {line:?}"))
}

fn now(node: &Guest) -> Result<u64> {
    let text = node.ok("cut -d' ' -f1 /proc/uptime | tr -d .")?;
    Ok(text
        .trim()
        .parse::<u64>()
        .with_context(|| format!("uptime {text:?}"))?
        * 10)
}

fn gone(log: &str, unit: &str) -> Result<u64> {
    number(log, &format!("gone {unit} "))
}

fn number(log: &str, begin: &str) -> Result<u64> {
    let line = log.lines().find_map(|line| line.strip_prefix(begin));
    let line = line.with_context(|| format!("no {begin:?} in {log}"))?;
    let word = line.split_whitespace().next().unwrap_or_default();
    word.parse().with_context(|| format!("odd line {line:?}"))
}

/// Shared memory is the worker's own, bounded, charged to it, and gone with it, killed or not.
pub(super) fn shared_memory(fleet: &Fleet) -> Result<()> {
    for name in [OLD, NEW] {
        shared_memory_on(fleet, fleet.guest(name)?).with_context(|| format!("on {name}"))?;
    }
    Ok(())
}

/// Half of its memory fits, more does not, and what is there stays until it is killed.
const FILLER: &str = r"
import os, signal, sys, time
kept = 0
try:
    with open('/dev/shm/fill', 'wb', buffering=0) as file:
        while kept < 400:
            if file.write(bytes(1 << 20)) < 1 << 20:
                break
            kept += 1
except OSError as error:
    print('stopped at', kept, 'MiB', error.strerror, flush=True)
print('filled', kept, flush=True)
open(os.path.expanduser('~/filled'), 'w').close()
time.sleep(600)
";

fn shared_memory_on(fleet: &Fleet, node: &Guest) -> Result<()> {
    let alice = Person::of(fleet)?;
    put(node, "filler.py", FILLER)?;
    node.ok("rm -f /home/alice/filled; head -c 8000000 /dev/urandom > /dev/shm/production; sync")?;
    let sum = node.ok("sha256sum /dev/shm/production")?;
    let before = shmem(node)?;
    let flags = format!("--cpus 100m --memory 128MiB --node {}", node.name());
    let job = alice.submit(&flags, "python3 /home/alice/filler.py")?;
    let worker = alice.running(job)?;
    node.wait_ok("its shared memory is full", "test -e /home/alice/filled", SOON)?;
    let held = shmem(node)?.saturating_sub(before);
    ensure!(
        (56 << 10..=66 << 10).contains(&held),
        "it fills {held} KiB of 64 MiB"
    );
    let charged = node.ok(&format!(
        "sed -n 's/^shmem //p' /sys/fs/cgroup/$(systemctl show -P ControlGroup {})/memory.stat",
        worker.unit()
    ))?;
    let charged: u64 = charged
        .trim()
        .parse()
        .with_context(|| format!("shmem {charged:?}"))?;
    ensure!(charged >= 56 << 20, "only {charged} bytes are charged to it");
    ensure!(
        node.ok("ls /dev/shm")?.trim() == "production",
        "its files lie in production's /dev/shm"
    );
    node.ok(&format!("systemctl kill -s KILL {}", worker.unit()))?;
    alice.over(job, SOON)?;
    wait_for("shared memory is freed", SOON, || {
        let left = shmem(node)?.saturating_sub(before);
        Ok(if left <= 2 << 10 {
            Look::Done(())
        } else {
            Look::Pending(format!("{left} KiB are left"))
        })
    })?;
    // Together with what it allocates it meets its limit, which is told as such.
    let hog = "sh -c \"head -c 60M /dev/zero > /dev/shm/half; exec python3 -c 'x = bytearray(100 << 20)'\"";
    let job = alice.submit(&flags, hog)?;
    alice.over(job, SOON)?;
    let attempt = alice.attempts(job)?.pop().context("no attempt")?;
    ensure!(attempt.reason() == "out_of_memory", "{attempt:?}");
    ensure!(
        node.ok("sha256sum /dev/shm/production")? == sum,
        "production's shared memory changed"
    );
    node.ok("rm /dev/shm/production /home/alice/filler.py /home/alice/filled")
        .map(drop)
}

/// Shared memory of the machine, in KiB.
fn shmem(node: &Guest) -> Result<u64> {
    let text = node.ok("sed -n 's/^Shmem: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo")?;
    text.trim().parse().with_context(|| format!("Shmem {text:?}"))
}
