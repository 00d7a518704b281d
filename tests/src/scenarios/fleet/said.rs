//! What is done to a worker stands in its own log, between its own lines; and no worker can say such a thing.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::NEW;
use super::operator::Operator;
use super::person::{Person, SOON, cgroup_file};
use crate::testbed::Fleet;
use crate::testbed::wait::{Look, wait_for};

/// Writes into the journal as the warden does: about itself and about another worker. `PIPES` stands for that one's
/// unit; journald drops what begins with an underscore and names the sender itself.
const FORGER: &str = "python3 -u -c \"import socket, time; print('mine')
own = open('/proc/self/cgroup').read().strip().rsplit('/', 1)[1]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for about in (own, 'PIPES'):
    fields = ['MESSAGE=forged about ' + about, 'OBJECT_SYSTEMD_UNIT=' + about, '_SYSTEMD_UNIT=loadline-warden.service', '_UID=0', 'LOADLINE_ACTION=evicted']
    s.sendto(chr(10).join(fields).encode(), '/run/systemd/journal/socket')
print('sent'); time.sleep(600)\"";

pub(super) fn in_its_own_log(fleet: &Fleet) -> Result<()> {
    let (alice, operator) = (Person::of(fleet)?, Operator::of(fleet)?);
    let node = fleet.guest(NEW)?;
    let flags = format!("--cpus 100m --memory 64MiB --node {NEW}");
    let other = alice.submit(&flags, "sh -c 'echo quiet; sleep 600'")?;
    let of_other = alice.running(other)?;
    let forger = FORGER.replace("PIPES", of_other.unit());
    let job = alice.submit(&format!("{flags} --tier burst"), &forger)?;
    let of_job = alice.running(job)?;
    said(&alice, job, "what it forged", |lines| {
        lines.iter().any(|line| line.0 != "loadline" && line.1 == "sent")
    })?;

    // A limit of its own, changed by somebody; then the whole node, by an operator, who ends it with that.
    let unit = of_job.unit();
    node.ok(&format!(
        "echo 99 > /sys/fs/cgroup/loadline.slice/loadline-burst.slice/{unit}/pids.max"
    ))?;
    said(&alice, job, "the limit that was put back", |lines| {
        lines
            .iter()
            .any(|line| line.0 == "loadline" && line.1.contains("pids.max"))
    })?;
    ensure!(
        cgroup_file(node, unit, "pids.max")?.trim() != "99",
        "told, and not put back"
    );
    operator.guest().ok(&format!("fleet node line {NEW} 0"))?;
    let ended = said(&alice, job, "its end", |lines| {
        lines
            .iter()
            .any(|line| line.0 == "loadline" && line.1.starts_with("evicted: "))
    });
    operator.guest().ok(&format!("fleet node line {NEW} 100"))?;
    let lines = ended?;
    // What it sent is its own, whomever it is about.
    let forged: Vec<&Line> = lines.iter().filter(|line| line.1.starts_with("forged")).collect();
    ensure!(
        forged.len() == 2 && forged.iter().all(|line| line.0 == "stderr"),
        "a worker speaks for Loadline: {lines:?}"
    );
    let place = |of: &str| {
        lines
            .iter()
            .position(|line| line.1.contains(of))
            .with_context(|| format!("no {of} in {lines:?}"))
    };
    ensure!(
        place("mine")? < place("pids.max")? && place("pids.max")? < place("evicted: ")?,
        "not in its order: {lines:?}"
    );
    let of_other = log(&alice, other)?;
    ensure!(
        of_other.iter().all(|line| !line.1.contains("forged")),
        "one worker's log has what another wrote: {of_other:?}"
    );
    let shown = alice.types(&format!("fleet logs {job}"))?;
    ensure!(
        shown.stderr.contains("loadline: evicted: ") && !shown.stdout.contains("evicted"),
        "{shown:?}"
    );
    for job in [job, other] {
        alice.cancel(job)?;
    }
    Ok(())
}

/// Stream and text.
type Line = (String, String);

fn log(alice: &Person<'_>, job: u64) -> Result<Vec<Line>> {
    let text = alice.ok(&format!("fleet logs {job} -o json"))?;
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        Ok((text("stream"), text("text")))
    };
    text.lines().map(line).collect()
}

fn said(alice: &Person<'_>, job: u64, what: &str, holds: impl Fn(&[Line]) -> bool) -> Result<Vec<Line>> {
    wait_for(&format!("the log of job {job} has {what}"), SOON, || {
        let lines = log(alice, job)?;
        Ok(if holds(&lines) {
            Look::Done(lines)
        } else {
            Look::Pending(format!("{lines:?}"))
        })
    })
}
