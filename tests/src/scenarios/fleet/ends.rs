//! Ends under need: production wants every CPU, lent work is held at its floor, and yet each end comes soon and with its
//! own reason, and PID 1 is held up by none of them.
//!
//! **When.** From the moment an end is due to its record, by the guest's own clock. Due is: for a cancel, when the person
//! begins to type it; for an eviction, when systemd begins to tell the warden of a reserve that leaves no room; at the memory limit,
//! when the kernel refuses and less than a hundredth of it could be taken back; at the time limit, when the command has
//! been there for so long. A time limit counts time in which a worker was not squeezed: it is due while lent work is at
//! its floor, within the ten seconds in which production has to use all for that to be called squeezed.
//!
//! **PID 1.** Held up is: asleep anywhere but where it waits for something to do. The kernel itself keeps the longest
//! sleep that nothing can interrupt (locks, a child that shares its memory until it has become another program, disks):
//! `block_max` of `/proc/1/sched`, which counts until it is woken, so that waiting for a CPU is not in it: that is
//! production's own doing. Sleeps that a signal could end are looked for every ten milliseconds, before all others, in
//! `/proc/1/wchan`: a child that is waited for, a pipe. Both must be short. For how long the watcher itself, which comes
//! before all others, did not come to look (`late_ms`), the whole machine stood still: an emulated CPU that its host left
//! waiting, perhaps with a lock in its hand. So much longer PID 1 may have been held up without anybody's doing in the
//! guest. All are measured beside production alone, too, to tell what is not ours. When it has been held up for a tenth of
//! a second, the watcher says who else was in the kernel and wanted a CPU: one of those has what PID 1 waits for.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::escapes::put;
use super::operator::Operator;
use super::person::{Attempt, Person, SOON};
use super::{NEW, OLD};
use crate::testbed::wait::{Look, wait_for};
use crate::testbed::{Fleet, Guest};

/// From due to the record, the worker's grace of a second included.
const END_LIMIT_MS: u64 = 10_000;
/// The longest that PID 1 may be held up.
const PID1_LIMIT_MS: u64 = 100;
/// For lent work to be held at its floor, or for an end to be seen.
const RISE: Duration = Duration::from_secs(180);
/// The one with a time limit has so long …
const TIME_LIMIT: u64 = 25;
/// … and production rises so long before: it has used all for 10 s before lent work is squeezed for that, unless it
/// waits for its CPUs, too. Then the worker's time stands still, and it is tried again, so often in all.
const BEFORE: u64 = 4;
const TRIES: u32 = 3;

/// Looks every ten milliseconds at what PID 1 does, and every fiftieth at the workers. It says of each phase what
/// was seen, and when a worker met its memory limit and when it was gone.
const WATCH: &str = r"
import glob, os, time
def now():
    return int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1000)
def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ''
def sched():
    found = {}
    for line in read('/proc/1/sched').splitlines():
        name, _, value = line.partition(':')
        found[name.strip().replace('se.statistics.', '')] = value.strip()
    return found
def met(path):
    words = read(path + '/memory.events.local').split()
    return int(words[words.index('max') + 1]) if 'max' in words else 0
def full(path):
    used, limit = read(path + '/memory.current'), read(path + '/memory.max')
    if not used or not limit.strip().isdigit() or int(limit) - int(used) > 512 << 10:
        return False
    words = read(path + '/memory.stat').split()
    return sum(int(words[words.index(name) + 1]) for name in ('inactive_file', 'active_file') if name in words) * 100 < int(limit)
def others():
    for path in glob.glob('/proc/[0-9]*/task/[0-9]*'):
        state = read(path + '/stat').rpartition(')')[2].split()[:1]
        calls = [line.split()[-1].partition('+')[0] for line in read(path + '/stack').splitlines()]
        if state in (['R'], ['D']) and len(calls) > 1:
            yield read(path + '/comm').strip() + ':' + '<'.join(calls[:12])
told_of = ''
phase, begun, looks, late, longest, where, wait, runs, last = '', now(), 0, 0, 0, '-', 0, 0, now()
alive, told = {}, set()
while True:
    time.sleep(0.01)
    at = now()
    late = max(late, at - last)
    place, run = read('/proc/1/wchan').strip(), int(read('/proc/1/schedstat').split()[2])
    elsewhere = place not in ('', '0') and not place.startswith(('ep_', 'do_epoll'))
    wait = wait + at - last if elsewhere and run == runs else 0
    if wait > longest:
        longest, where = wait, place
    if wait >= 100 and told_of != phase:
        told_of = phase
        print('waits', phase, place, '; in the kernel:', *others(), flush=True)
    last, runs, looks = at, run, looks + 1
    if looks % 5:
        continue
    there = {path.rsplit('/', 1)[1]: path for path in glob.glob('/sys/fs/cgroup/loadline.slice/loadline-*.slice/loadline-w-*')}
    for unit in set(alive) - set(there):
        print('gone', unit, at, flush=True)
    for unit, path in there.items():
        if unit in told or not full(path):
            continue
        if met(path) > alive.get(unit, 0):
            told.add(unit)
            print('met', unit, at, flush=True)
    alive = {unit: alive.get(unit, met(path)) if full(path) else met(path) for unit, path in there.items()}
    wanted = read('/run/watch.phase').strip()
    if wanted != phase:
        if phase:
            kept = sched()
            print('phase', phase, 'blocked_ms', kept['block_max'].split('.')[0], 'elsewhere_ms', longest, 'at', where,
                  'queued_ms', kept['wait_max'].split('.')[0], 'disk_ms', kept['iowait_sum'].split('.')[0],
                  'seconds', (at - begun) // 1000, 'late_ms', late, flush=True)
        open('/proc/1/sched', 'w').write('0')
        phase, begun, late, longest, where = wanted, at, 0, 0, '-'
        if phase == 'end':
            break
";

/// Twice as many as the larger node has CPUs.
const MANY: u32 = 8;

/// Deaf to SIGTERM, and busy.
const HOG: &str = "sh -c \"trap : TERM; while :; do :; done\"";
/// Holds most of what it may, waits for its mark, and then takes more, and uses all of it.
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
        node.ok("cp -p /etc/loadline/node.toml /root/node.toml; rm -f /run/watch.phase /home/alice/eat")?;
        node.run_with_input("cat > /root/watch.py", WATCH.into(), SOON)?;
        put(node, "eater.py", EATER)?;
        let outcome = ends(fleet, node).with_context(|| format!("on {name}"));
        node.ok(
            "echo end > /run/watch.phase; systemctl stop rise.service rise.timer 2>/dev/null; \
             rm -f /home/alice/eat /home/alice/eater.py; \
             cp -p /root/node.toml /etc/loadline/node.toml && systemctl reload loadline-warden",
        )?;
        Operator::of(fleet)?.cancel_all()?;
        outcome?;
    }
    Operator::of(fleet)?.all_ready().map(drop)
}

/// Production that wants so many CPUs.
fn production(threads: u32) -> String {
    format!(
        "systemd-run --quiet --collect --unit=rise.service --property=RuntimeMaxSec=400 \
         sh -c 'for i in $(seq {threads}); do while :; do :; done & done; wait'"
    )
}

/// Jobs of one worker, one for each way to end that waits for a cause.
struct Jobs {
    cancelled: u64,
    evicted: u64,
    eater: u64,
}

/// One end.
struct End {
    attempt: Attempt,
    due: u64,
}

impl Jobs {
    fn start(alice: &Person<'_>, node: &Guest) -> Result<Self> {
        let begun = |flags: &str, command: &str| {
            let job = alice.submit(&format!("{} {flags}", flags_for(node)), command)?;
            alice.running(job).map(|_| job)
        };
        Ok(Self {
            evicted: begun("--tier burst", HOG)?,
            eater: begun("", "python3 /home/alice/eater.py")?,
            cancelled: begun("", HOG)?,
        })
    }
}

fn flags_for(node: &Guest) -> String {
    format!("--cpus 100m --memory 64MiB --grace 1s --node {}", node.name())
}

fn ends(fleet: &Fleet, node: &Guest) -> Result<()> {
    let alice = Person::of(fleet)?;
    // First: then the program is in memory, and charged to no worker.
    node.ok(
        "systemd-run --quiet --unit=watch-pid1 --collect -p CPUSchedulingPolicy=fifo -p CPUSchedulingPriority=50 \
         -p StandardOutput=file:/run/watch.log -p StandardError=journal python3 -u /root/watch.py",
    )?;
    let jobs = Jobs::start(&alice, node)?;
    let mut all = vec![at_its_time_limit(&alice, node)?];
    node.ok(&production(MANY))?;
    let how = held(&alice, node, jobs.cancelled)?;
    phase(node, "alone")?;
    node.ok("sleep 10")?;
    phase(node, "ends")?;
    let due = now(node)?;
    alice.ok(&format!("fleet cancel {}", jobs.cancelled))?;
    all.push(End {
        attempt: first(&alice, node, jobs.cancelled, "cancelled")?,
        due,
    });
    node.ok("touch /home/alice/eat")?;
    let attempt = first(&alice, node, jobs.eater, "out_of_memory")?;
    let due = number(&log(node)?, &format!("met {} ", attempt.unit()))?;
    all.push(End { attempt, due });
    let reserve = node.ok("awk '/^MemTotal/ { print int($2 / 1024) - 100 \"MiB\" }' /proc/meminfo")?;
    let policy = NOTHING.replace("RESERVE", &reserve);
    node.run_with_input("cat > /etc/loadline/node.toml", policy.into(), SOON)?;
    node.ok("systemctl reload loadline-warden")?;
    let attempt = first(&alice, node, jobs.evicted, "evicted")?;
    let due = stamp(node, "-u loadline-warden", "Reloading")?;
    all.push(End { attempt, due });
    phase(node, "end")?;
    let said = node.wait_ok(
        "the watch has ended",
        "grep '^phase ends' /run/watch.log && cat /run/watch.log",
        SOON,
    )?;
    node.ok("systemctl stop rise.service")?;
    judge(node, &all, &how, &said)
}

/// Ends while production uses every CPU, and is not called squeezed yet.
fn at_its_time_limit(alice: &Person<'_>, node: &Guest) -> Result<End> {
    for _ in 0..TRIES {
        let flags = format!("{} --time {TIME_LIMIT}s", flags_for(node));
        let job = alice.submit(&flags, HOG)?;
        let due = active_since(node, &alice.running(job)?)? + TIME_LIMIT * 1000;
        let rest = format!("{due} / 1000 - {BEFORE} - $1");
        let threads = node.spec().cpus;
        phase(node, "time")?;
        node.ok(&format!(
            "sleep $(awk '{{ rest = {rest}; print (rest > 0 ? rest : 0) }}' /proc/uptime); {}",
            production(threads)
        ))?;
        let last = alice.until(job, "ends or stands still", RISE, |attempt| {
            ["ended", "squeezed"].contains(&attempt.state())
        })?;
        let used = node.ok("cat /sys/fs/cgroup/loadline.slice/cpu.max /proc/loadavg")?;
        node.ok("systemctl stop rise.service")?;
        if last.state() == "ended" {
            ensure!(last.reason() == "time_limit", "{last:?}");
            return Ok(End { attempt: last, due });
        }
        println!("# {}: squeezed before its time was over ({used})", node.name());
        alice.over(job, RISE)?;
    }
    bail!("squeezed before its time was over, {TRIES} times")
}

fn judge(node: &Guest, all: &[End], how: &str, said: &str) -> Result<()> {
    let name = node.name();
    let mut late = Vec::new();
    for End { attempt, due } in all {
        let gone = number(said, &format!("gone {} ", attempt.unit()))?.saturating_sub(*due);
        let recorded = recorded(node, attempt)?.saturating_sub(*due);
        let line = format!(
            "{}: gone after {gone} ms, recorded after {recorded} ms ({})",
            attempt.reason(),
            attempt.detail()
        );
        println!("# {name}, {how}: {line}");
        if gone.max(recorded) > END_LIMIT_MS {
            late.push(line);
        }
    }
    let phases = said
        .lines()
        .filter(|line| line.starts_with("phase ") || line.starts_with("waits "));
    phases.for_each(|line| println!("# {name}: PID 1: {line}"));
    ensure!(late.is_empty(), "too late: {late:?}");
    let of = said.lines().find(|line| line.starts_with("phase ends "));
    let of = of.context("no figures of PID 1")?;
    let figure = |name: &str| {
        let (_, rest) = of.split_once(name).context("a figure is missing")?;
        first_number(rest)
    };
    let limit = PID1_LIMIT_MS + figure("late_ms ")?;
    for held_up in ["blocked_ms ", "elsewhere_ms "] {
        ensure!(figure(held_up)? <= limit, "PID 1 was held up: {of}");
    }
    Ok(())
}

/// Waits until lent work is at its floor; says whether it is called squeezed.
fn held(alice: &Person<'_>, node: &Guest, job: u64) -> Result<String> {
    let squeezed = || {
        let last = alice.attempts(job)?.pop();
        Ok::<_, anyhow::Error>(last.is_some_and(|attempt| attempt.state() == "squeezed"))
    };
    let floor = u64::from(node.spec().cpus) * 1000 / 10;
    let mut looks = 0;
    wait_for("lent work is held at its floor", RISE, || {
        looks += 1;
        let text = node.ok("cat /sys/fs/cgroup/loadline.slice/cpu.max")?;
        let mut words = text.split_whitespace().map(str::parse::<u64>);
        let share = match (words.next(), words.next()) {
            (Some(Ok(quota)), Some(Ok(period))) if period > 0 => quota * 1000 / period,
            _ => return Ok(Look::Pending(text)),
        };
        Ok(if squeezed()? {
            Look::Done(format!("squeezed, {share}m of CPU"))
        } else if share <= floor && looks > 15 {
            // The emulator takes CPU that production would need to be seen for long.
            Look::Done(format!("at its floor, {share}m of CPU"))
        } else {
            Look::Pending(text)
        })
    })
}

fn phase(node: &Guest, name: &str) -> Result<()> {
    node.ok(&format!("echo {name} > /run/watch.phase")).map(drop)
}

fn log(node: &Guest) -> Result<String> {
    node.ok("cat /run/watch.log")
}

/// Waits until the first attempt that began has ended, for this reason. An evicted one is tried again.
fn first(alice: &Person<'_>, node: &Guest, job: u64, reason: &str) -> Result<Attempt> {
    let ended = wait_for(&format!("job {job} ends as {reason}"), RISE, || {
        let attempts = alice.attempts(job)?;
        Ok(match attempts.first() {
            Some(first) if first.state() == "ended" => Look::Done(first.clone()),
            _ => Look::Pending(format!(
                "{attempts:?}; {}",
                node.ok("journalctl -q -u loadline-warden -n 20 -o short-monotonic; cat /run/watch.log; \
                    cd /sys/fs/cgroup/loadline.slice; head cpu.max cpu.weight cpu.idle cpu.pressure */cpu.max */cpu.pressure || true")?
            )),
        })
    })?;
    ensure!(ended.reason() == reason, "not {reason}: {ended:?}");
    Ok(ended)
}

/// When a unit became active, in milliseconds since the boot.
fn active_since(node: &Guest, worker: &Attempt) -> Result<u64> {
    let text = node.ok(&format!(
        "systemctl show -P ActiveEnterTimestampMonotonic {}",
        worker.unit()
    ))?;
    Ok(first_number(&text)? / 1000)
}

/// When its end was on disk, in milliseconds since the boot.
fn recorded(node: &Guest, worker: &Attempt) -> Result<u64> {
    let id = worker.unit().trim_start_matches("loadline-w-");
    let units = format!("-u loadline-ended@{id} -u loadline-failed@{id}");
    stamp(node, &units, "Finished")
}

/// When systemd last said this of one of these units, in milliseconds since the boot.
fn stamp(node: &Guest, units: &str, word: &str) -> Result<u64> {
    let line = node.wait_ok(
        &format!("{word} {units}"),
        &format!("journalctl -q -o short-monotonic {units} | grep ' {word} ' | tail -1 | grep ."),
        SOON,
    )?;
    let stamp = line.trim_start_matches(['[', ' ']).split(']').next();
    let (seconds, parts) = stamp
        .and_then(|stamp| stamp.split_once('.'))
        .with_context(|| format!("odd line {line:?}"))?;
    first_number(&format!("{seconds}{}", parts.get(..3).unwrap_or_default()))
}

fn now(node: &Guest) -> Result<u64> {
    Ok(first_number(&node.ok("cut -d' ' -f1 /proc/uptime | tr -d .")?)? * 10)
}

fn number(log: &str, begin: &str) -> Result<u64> {
    let line = log.lines().find_map(|line| line.strip_prefix(begin));
    first_number(line.with_context(|| format!("no {begin:?} in {log}"))?)
}

fn first_number(text: &str) -> Result<u64> {
    let word = text.split_whitespace().next().unwrap_or_default();
    word.parse().with_context(|| format!("no number in {text:?}"))
}
