//! A kernel before 6.2 and a production process that chose its own CPUs: lending must not take that choice from it.

use anyhow::{Context, Result, ensure};

use super::operator::Operator;
use super::person::{Person, SOON, cgroup_file};
use super::{NEW, OLD};
use crate::testbed::{Fleet, Guest};

/// In place before anything of ours starts, as on a host where production was there first.
const PINNED: &str = "[Unit]\nBefore=loadline-warden.service\n[Service]\nType=exec\nCPUAffinity=1\n\
                      ExecStart=sleep infinity\n[Install]\nWantedBy=multi-user.target\n";

/// So that one of its two CPUs can be lent whole, were it not for the kernel.
const POLICY: &str = "version = 1\n[lend]\nmode = \"enforce\"\n[production]\nheadroom = { cpu = \"0%\" }\n";

fn allowed(node: &Guest, pid: &str) -> Result<String> {
    node.ok(&format!(
        "sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/{pid}/status"
    ))
}

pub(super) fn kept(fleet: &Fleet) -> Result<()> {
    let (alice, operator) = (Person::of(fleet)?, Operator::of(fleet)?);
    let node = fleet.guest(OLD)?;
    node.run_with_input("cat > /etc/systemd/system/pinned.service", PINNED.into(), SOON)?;
    node.ok("cp -p /etc/loadline/node.toml /root/node.toml && systemctl daemon-reload && systemctl -q enable pinned")?;
    node.run_with_input("cat > /etc/loadline/node.toml", POLICY.into(), SOON)?;
    node.reboot()?;
    operator.all_ready()?;
    let pid = node.ok("systemctl show -P MainPID pinned")?;
    ensure!(allowed(node, &pid)? == "1", "the stand-in has not chosen");
    named(&operator, node, &pid)?;
    let own = alice.submit(&format!("--cpus 1 --memory 64MiB --node {OLD}"), "sleep 900")?;
    let why = alice.json(&format!("fleet explain {own}"))?;
    ensure!(
        why["reasons"].to_string().contains(OLD) && why["reasons"].to_string().contains("exclusive"),
        "the refusal does not name {OLD}: {why}"
    );
    let said = alice.ok(&format!("fleet explain {own}"))?;
    ensure!(
        said.contains(OLD) && said.contains("gives none for exclusive use"),
        "{said}"
    );
    // Work by weight goes on there and leaves the choice alone; so does work elsewhere that owns its CPUs.
    for flags in [
        format!("--cpus 100m --memory 64MiB --node {OLD}"),
        format!("--cpus 1 --memory 64MiB --node {NEW}"),
    ] {
        let done = alice.types(&format!("fleet run --quiet {flags} -- echo lent"))?;
        ensure!(done.stdout.trim() == "lent", "{flags}: {done:?}");
    }
    ensure!(
        allowed(node, &pid)? == "1",
        "lending took the choice of process {pid}"
    );
    let enabled = node.ok("cat /sys/fs/cgroup/cgroup.subtree_control")?;
    ensure!(
        !enabled.contains("cpuset"),
        "cpuset is enabled all the same: {enabled}"
    );
    ensure!(
        alice.attempts(own)?.is_empty(),
        "an exclusive worker without CPUs of its own"
    );
    without_it(fleet, &operator, own)
}

/// The probe's finding is in the check, in what the fleet knows, and names the process.
fn named(operator: &Operator<'_>, node: &Guest, pid: &str) -> Result<()> {
    let sentence = format!("pid {pid} (sleep, pinned.service) runs on CPU 1 only");
    let check = node.run("loadline-warden check", SOON)?;
    ensure!(
        check.stdout.contains(&sentence),
        "the process is not named: {check:?}"
    );
    let json = node.ok("loadline-warden check -o json")?;
    let json: serde_json::Value =
        serde_json::from_str(&json).with_context(|| format!("check printed {json}"))?;
    ensure!(json["pinning"]["mode"] == "weights_only", "{json}");
    let shown = operator.until_node(OLD, "gives no CPUs of one's own", |shown| {
        shown["exclusive_cpus"] == false
    })?;
    ensure!(shown["missed"].to_string().contains(&sentence), "{shown}");
    Ok(())
}

/// Production's process gone, the node pins again, and who waited for it gets a CPU of their own.
fn without_it(fleet: &Fleet, operator: &Operator<'_>, own: u64) -> Result<()> {
    let (alice, node) = (Person::of(fleet)?, fleet.guest(OLD)?);
    node.ok("systemctl disable -q --now pinned && rm /etc/systemd/system/pinned.service && systemctl daemon-reload")?;
    node.ok("systemctl restart loadline-warden")?;
    operator.until_node(OLD, "gives CPUs of one's own", |shown| {
        shown["exclusive_cpus"] == true
    })?;
    let attempt = alice.running(own)?;
    let cpus = cgroup_file(node, attempt.unit(), "cpuset.cpus.effective")?;
    ensure!(
        cpus.trim().parse::<u32>().is_ok(),
        "not one CPU of its own: {cpus}"
    );
    alice.cancel(own)?;
    node.ok("cp -p /root/node.toml /etc/loadline/node.toml && systemctl reload loadline-warden")
        .map(drop)
}
