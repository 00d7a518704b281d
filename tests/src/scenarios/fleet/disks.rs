//! Disks by weight: the kernel's io.cost, which is the whole machine's, only where the owner says so, and given back. And
//! what production used in a week, kept over a restart.

use anyhow::{Result, ensure};

use super::person::SOON;
use super::{NEW, on_both};
use crate::testbed::{Fleet, Guest};

const QOS: &str = "/sys/fs/cgroup/io.cost.qos";

pub(super) fn by_weight(fleet: &Fleet) -> Result<()> {
    on_both(fleet, |node| {
        node.ok("cp -p /etc/loadline/node.toml /root/node.toml")?;
        let held = on_and_off(node);
        node.ok("cp -p /root/node.toml /etc/loadline/node.toml && systemctl reload loadline-warden")?;
        held.and_then(|()| week(node))
    })
}

fn on_and_off(node: &Guest) -> Result<()> {
    let disk = node.ok("lsblk -dno NAME,TYPE | awk '$2 == \"disk\" { print $1; exit }'")?;
    let number = node.ok(&format!("cat /sys/block/{disk}/dev"))?;
    let on = format!("cat {QOS} | tee /dev/stderr | grep -q '^{number} .*enable=1'");
    ensure!(node.run(&on, SOON)?.status != 0, "it is on already");
    let policy = |cost: &str| format!("version = 1\n[lend]\nmode = \"enforce\"\n[io]\ncost = [{cost}]\n");
    let told = |text: String| -> Result<()> {
        node.run_with_input("cat > /etc/loadline/node.toml", text.into(), SOON)?;
        node.ok("systemctl reload loadline-warden").map(drop)
    };
    let tried = format!("echo '{number} enable=1' > {QOS} && echo '{number} enable=0' > {QOS}");
    let possible = node.run(&tried, SOON)?.status == 0;
    ensure!(
        possible || node.name() == NEW,
        "the kernel refuses io.cost on {disk}"
    );
    told(policy(&format!("{{ disk = \"{disk}\" }}")))?;
    if !possible {
        // As for an NVMe disk that may be reached in several ways: said, and its bandwidth is held as before.
        let said = format!(
            "loadline-warden status | tee /dev/stderr | grep '^disk .*{disk}: ' | grep -qv 'by weight'"
        );
        return node
            .wait_ok("that the kernel refuses is said", &said, SOON)
            .map(drop);
    }
    node.wait_ok("the disk goes by weight", &on, SOON)?;
    let limits = node.ok("cat /sys/fs/cgroup/loadline.slice/io.max")?;
    ensure!(
        !limits.contains(&number),
        "and its bandwidth is held, too: {limits}"
    );
    // Somebody switches it off: the owner's word is put back.
    node.ok(&format!("echo '{number} enable=0' > {QOS}"))?;
    node.wait_ok("it is put back", &on, SOON)?;
    // A disk that is not there is one clear sentence, and what was there is given back.
    told(policy("{ disk = \"nosuchdisk\" }"))?;
    let off = format!("! {{ {on}; }}");
    node.wait_ok("the disk is given back", &off, SOON)?;
    node.wait_ok(
        "the disk that is not there is named",
        "loadline-warden status | tee /dev/stderr | grep -q nosuchdisk",
        SOON,
    )
    .map(drop)
}

/// What production used outlives the warden, which saves it at an orderly end.
fn week(node: &Guest) -> Result<()> {
    node.ok("systemctl restart loadline-warden")?;
    node.wait_ok(
        "what was watched is kept and shown",
        "test -s /var/lib/loadline/warden/week.json && loadline-warden status | tee /dev/stderr | grep -q 'was watched for [1-9]'",
        SOON,
    )
    .map(drop)
}
