//! Shared memory of workers: what outlives a process must not outlive its worker.

use anyhow::{Context, Result, ensure};

use super::escapes::put;
use super::on_both;
use super::person::{Person, SOON};
use crate::testbed::wait::{Look, wait_for};
use crate::testbed::{Fleet, Guest};

/// Shared memory is the worker's own, bounded, charged to it, and gone with it, killed or not.
pub(super) fn shared_memory(fleet: &Fleet) -> Result<()> {
    on_both(fleet, |node| shared_memory_on(fleet, node))
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
