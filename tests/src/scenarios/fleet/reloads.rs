//! systemd reloaded back to back for a minute, and a package installed, while limits are in force: each is back within a
//! second of each reload's end, and no worker notices.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::on_both;
use super::person::{Person, SOON, main_pid};
use crate::testbed::{Fleet, Guest};

const MINUTE: Duration = Duration::from_secs(180);

/// Reads what is in force, reloads for a minute, and after each reload looks until it is in force again; says how long
/// that took. The quota of all lent work, and where its memory is slowed down, move with production: that they are there,
/// and no more than the line, is asked of them.
const RELOADS: &str = r#"
import glob, subprocess, sys, time
fixed = ('memory.max', 'memory.high', 'memory.swap.max', 'cpu.weight', 'cpu.idle', 'cpuset.cpus', 'pids.max')
top = '/sys/fs/cgroup/loadline.slice'
places = [top] + glob.glob(top + '/loadline-*.slice') + glob.glob(top + '/loadline-*.slice/loadline-w-*')
def read(path):
    try:
        return open(path).read().strip()
    except FileNotFoundError:
        return None
def share():
    quota, period = read(top + '/cpu.max').split()
    return float('inf') if quota == 'max' else int(quota) / int(period)
def high():
    high, most = read(top + '/memory.high'), read(top + '/memory.max')
    return float('inf') if 'max' in (high, most) else int(high) / int(most)
moving = (top + '/memory.high',)
wanted = {path: read(path) for path in (place + '/' + name for place in places for name in fixed) if path not in moving}
firm = float(sys.argv[1])
def wrong():
    found = [(path, value, read(path)) for path, value in wanted.items() if read(path) != value]
    found += [('cpu.max', firm, share())] if share() > firm + 0.011 else []
    return found + ([('memory.high', 'memory.max', high())] if high() > 1 else [])
assert not wrong(), wrong()
times, reloads, end = [], 0, time.monotonic() + float(sys.argv[2])
command = sys.argv[3:]
while True:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    done = time.monotonic()
    first = wrong()
    while (left := wrong()) and time.monotonic() < done + 10:
        time.sleep(0.01)
    times.append(time.monotonic() - done if first else 0)
    if left or times[-1] > 1:
        print('late', round(times[-1], 2), left or first, flush=True)
    reloads += 1
    if time.monotonic() > end:
        break
print('reloads', reloads, 'values', len(wanted), 'longest_ms', int(max(times) * 1000), 'disturbed', sum(t > 0 for t in times), flush=True)
"#;

/// A package as many are: a unit, and a script that has systemd read it.
const PACKAGE: &str = "rm -rf /root/pkg && mkdir -p /root/pkg/DEBIAN /root/pkg/usr/lib/systemd/system && cd /root/pkg && \
    printf 'Package: small\\nVersion: 1\\nArchitecture: all\\nMaintainer: Nobody <nobody@example.org>\\nDescription: small\\n' > DEBIAN/control && \
    printf '#!/bin/sh\\nset -e\\nsystemctl daemon-reload\\nsystemctl start small.service\\n' > DEBIAN/postinst && \
    printf '#!/bin/sh\\nsystemctl daemon-reload\\n' > DEBIAN/postrm && chmod 755 DEBIAN/postinst DEBIAN/postrm && \
    printf '[Service]\\nType=oneshot\\nExecStart=true\\n' > usr/lib/systemd/system/small.service && \
    dpkg-deb --root-owner-group --build /root/pkg /root/small.deb";

pub(super) fn back_to_back(fleet: &Fleet) -> Result<()> {
    on_both(fleet, |node| on(fleet, node))
}

fn on(fleet: &Fleet, node: &Guest) -> Result<()> {
    let alice = Person::of(fleet)?;
    let flags = format!("--cpus 100m --memory 64MiB --node {}", node.name());
    // Burst first: beside a standard worker that takes the whole quota it would not get to its command at all.
    let burst = alice.submit(&format!("{flags} --tier burst"), "sleep 900")?;
    let burst_worker = alice.running(burst)?;
    let standard = alice.submit(&flags, "sh -c \"while :; do :; done\"")?;
    let (jobs, workers) = ([burst, standard], [burst_worker, alice.running(standard)?]);
    node.run_with_input("cat > /root/reloads.py", RELOADS.into(), SOON)?;
    let firm = node.ok(
        "sed -n 's/^CPUQuota=\\([0-9]*\\)%/\\1/p' /etc/systemd/system/loadline.slice.d/10-reserve.conf",
    )?;
    let firm: f64 = firm.trim().parse().with_context(|| format!("quota {firm:?}"))?;
    let said = node.ok_within(
        &format!(
            "python3 /root/reloads.py {} 60 systemctl daemon-reload",
            firm / 100.0
        ),
        MINUTE,
    )?;
    println!("# {}: {said}", node.name());
    ensure!(!said.contains("late"), "limits stayed lost: {said}");
    node.ok(PACKAGE)?;
    let said = node.ok_within(
        &format!("python3 /root/reloads.py {} 0 env DEBIAN_FRONTEND=noninteractive apt-get install -q -y /root/small.deb", firm / 100.0),
        MINUTE,
    )?;
    println!("# {}: package: {said}", node.name());
    ensure!(
        !said.contains("late"),
        "limits stayed lost after an installation: {said}"
    );
    node.ok("test \"$(systemctl show -P LoadState small.service)\" = loaded && apt-get purge -q -y small")?;
    node.wait_ok(
        "every limit is verified",
        "curl -sf http://127.0.0.1:7719/metrics | grep '^loadline_agent_limit_verified{' > /run/held && test -s /run/held && ! grep -v ' 1$' /run/held",
        SOON,
    )?;
    for (job, worker) in jobs.iter().zip(&workers) {
        let pid = main_pid(node, worker.unit())?;
        ensure!(pid == worker.pid(), "process {pid} instead of {worker:?}");
        let over = alice.cancel(*job)?;
        ensure!(
            over["state"] == "cancelled" && alice.attempts(*job)?.len() == 1,
            "{over}"
        );
    }
    Ok(())
}
