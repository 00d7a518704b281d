//! A node that only watches touches nothing: every knob of every cgroup, every unit file and every process's CPUs are
//! what they were before it came, while it says what it would have done.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::OLD;
use super::operator::Operator;
use super::person::SOON;
use crate::testbed::wait::{Look, wait_for};
use crate::testbed::{Fleet, Guest};

const POLICY: &str = "version = 1\n[lend]\nmode = \"shadow\"\n";

/// Production's load stands before the first look, so that its own cgroup is among what is compared.
const PRODUCTION: &str = "systemd-run --quiet --unit=rise.service --property=RuntimeMaxSec=600 \
     sh -c 'for i in 1 2 3 4; do while :; do :; done & done; wait'";

/// All that can be written and is not a counter or a trigger, all unit files, and where every process may run.
const LOOK: &str = r#"
import hashlib, os
counts = {'memory.peak', 'memory.swap.peak', 'memory.reclaim', 'cgroup.kill', 'cgroup.procs', 'cgroup.threads',
          'cpu.pressure', 'io.pressure', 'memory.pressure', 'irq.pressure', 'dmem.peak'}
own = ('loadline-warden.service', 'loadline-agent.service')
for folder, below, files in os.walk('/sys/fs/cgroup'):
    below[:] = sorted(name for name in below if name not in own)
    print('cgroup', folder)
    for name in sorted(set(files) - counts):
        path = os.path.join(folder, name)
        if os.stat(path).st_mode & 0o200:
            print(path, '=', ' '.join(open(path).read().split()))
for place in '/etc/systemd', '/usr/lib/systemd', '/run/systemd/system', '/run/systemd/transient', '/run/systemd/system.control':
    for folder, below, files in os.walk(place):
        for name in sorted(files):
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not path.endswith('.wants/loadline-warden.service') and not path.endswith('.wants/loadline-agent.service'):
                print(path, '=', hashlib.sha256(open(path, 'rb').read()).hexdigest())
"#;

/// `pid name unit CPUs` of each process that production had then.
const PROCESSES: &str = "for p in $(systemctl show -P MainPID rise.service nginx.service systemd-journald dbus ssh); do \
     test -e /proc/$p/cgroup && echo $p $(cat /proc/$p/cgroup) $(sed -n 's/^Cpus_allowed_list://p' /proc/$p/status) \
     $(cat /proc/$p/oom_score_adj) $(cut -d' ' -f18,19 /proc/$p/stat); done";

pub(super) fn untouched(fleet: &Fleet) -> Result<()> {
    let (operator, node) = (Operator::of(fleet)?, fleet.guest(OLD)?);
    // As it was before anything was lent: nothing of ours is up, nothing is rendered.
    node.ok("cp -p /etc/loadline/node.toml /root/node.toml && systemctl -q disable loadline-warden loadline-agent && \
             mkdir -p /root/kept && mv /etc/systemd/system/loadline.slice.d/* /root/kept/")?;
    node.reboot()?;
    let outcome = watched(&operator, node);
    node.ok(
        "systemctl stop rise.service nginx; cp -p /root/node.toml /etc/loadline/node.toml; \
         cp -p /root/kept/* /etc/systemd/system/loadline.slice.d/; systemctl daemon-reload; \
         systemctl -q enable loadline-warden loadline-agent && systemctl restart loadline-warden loadline-agent",
    )?;
    operator.all_ready()?;
    outcome
}

fn watched(operator: &Operator<'_>, node: &Guest) -> Result<()> {
    node.run_with_input("cat > /etc/loadline/node.toml", POLICY.into(), SOON)?;
    node.run_with_input("cat > /root/look.py", LOOK.into(), SOON)?;
    node.ok("systemctl is-system-running --wait || true")?;
    node.ok(PRODUCTION)?;
    node.ok("systemctl start nginx && test ! -e /sys/fs/cgroup/loadline.slice")?;
    let before = look(node)?;
    let processes = node.ok(PROCESSES)?;
    node.ok("systemctl start loadline-warden loadline-agent")?;
    operator.until_node(OLD, "only watches", |shown| {
        shown["state"] == "ready" && shown.to_string().contains("shadow")
    })?;
    wait_for("it says that it would squeeze", Duration::from_secs(240), || {
        let said = operator.guest().ok(&format!("fleet receipts {OLD}"))?;
        Ok(if said.contains("would be held at its floor") {
            Look::Done(())
        } else {
            Look::Pending(
                said + &node
                    .ok("uptime; curl -s http://127.0.0.1:7719/metrics | grep ^loadline_headroom || true")?,
            )
        })
    })?;
    let after = look(node)?;
    let changed: Vec<String> = before
        .iter()
        .filter(|(key, value)| after.get(*key) != Some(value))
        .map(|(key, value)| format!("{key} was {value:?} and is {:?}", after.get(key)))
        .chain(
            after
                .keys()
                .filter(|key| !before.contains_key(*key))
                .map(|key| format!("{key} is new")),
        )
        .collect();
    ensure!(before.len() > 200, "only {} things were compared", before.len());
    ensure!(
        changed.is_empty(),
        "a node that only watches changed {changed:#?}"
    );
    let now = node.ok(PROCESSES)?;
    ensure!(
        now == processes,
        "production's processes were {processes} and are {now}"
    );
    Ok(())
}

fn look(node: &Guest) -> Result<BTreeMap<String, String>> {
    let text = node.ok("python3 /root/look.py")?;
    let pair = |line: &str| match line.split_once(" = ") {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (line.to_owned(), String::new()),
    };
    Ok(text.lines().map(pair).collect())
}
