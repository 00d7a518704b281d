//! The operator at root's shell of the fleet guest, who sees every node and may look into fleetd's own files.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::person::SOON;
use crate::deploy::FLEET_GUEST;
use crate::testbed::wait::{Look, wait_for};
use crate::testbed::{Fleet, Guest};

/// fleetd's folder.
pub(super) const STATE: &str = "/var/lib/loadline-fleet";
/// Nodes come back within their longest back-off, and the first look may be a slow one.
const BACK: Duration = Duration::from_secs(180);

/// Root of the fleet guest.
pub(super) struct Operator<'a> {
    guest: &'a Guest,
}

impl<'a> Operator<'a> {
    pub(super) fn of(fleet: &'a Fleet) -> Result<Self> {
        Ok(Self {
            guest: fleet.guest(FLEET_GUEST)?,
        })
    }

    /// The machine.
    pub(super) const fn guest(&self) -> &'a Guest {
        self.guest
    }

    fn json(&self, command: &str) -> Result<Value> {
        let text = self.guest.ok(&format!("{command} -o json"))?;
        serde_json::from_str(&text).with_context(|| format!("{command:?} printed {text}"))
    }

    /// A node, whole.
    pub(super) fn node(&self, name: &str) -> Result<Value> {
        self.json(&format!("fleet node show {name}"))
    }

    /// Waits until a node satisfies a condition.
    pub(super) fn until_node(&self, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        wait_for(&format!("node {name} {what}"), BACK, || {
            let node = self.node(name)?;
            Ok(if holds(&node) {
                Look::Done(node)
            } else {
                Look::Pending(node.to_string())
            })
        })
    }

    /// Waits until every node that is not shut out is ready; what each was called meanwhile comes back.
    pub(super) fn all_ready(&self) -> Result<Vec<String>> {
        let mut called = Vec::new();
        wait_for("all nodes are ready", BACK, || {
            let nodes = self.json("fleet nodes")?;
            let now: Vec<String> = nodes
                .as_array()
                .into_iter()
                .flatten()
                .filter(|row| row["state"] != "banned")
                .map(|row| format!("{} {}", row["node"], row["state"]))
                .collect();
            let ready = !now.is_empty() && now.iter().all(|row| row.ends_with("\"ready\""));
            called.extend(now);
            Ok(if ready {
                Look::Done(())
            } else {
                Look::Pending(nodes.to_string())
            })
        })?;
        Ok(called)
    }

    /// Cancels every job that is not over, and waits until none is left.
    pub(super) fn cancel_all(&self) -> Result<()> {
        wait_for("no job is left", BACK, || {
            let jobs = self.json("fleet jobs")?;
            let left = jobs.as_array().with_context(|| format!("no list: {jobs}"))?;
            for job in left.iter().filter_map(|job| job["job"].as_u64()) {
                self.guest.run(&format!("fleet cancel {job}"), SOON)?;
            }
            Ok(if left.is_empty() {
                Look::Done(())
            } else {
                Look::Pending(jobs.to_string())
            })
        })
    }

    /// What fleetd's own record of events has for a condition in SQL, `at|kind|subject|detail` a line. Read from a
    /// copy, since fleetd holds the store alone.
    pub(super) fn events(&self, of: &str) -> Result<Vec<String>> {
        let script = format!(
            "d=$(mktemp -d) && cp {STATE}/store.db* $d && sqlite3 $d/store.db \
             \"SELECT at, kind, subject, detail FROM event WHERE {of} ORDER BY seq\" && rm -r $d"
        );
        Ok(self.guest.ok(&script)?.lines().map(str::to_owned).collect())
    }

    /// Stops fleetd in order and waits for the end of its process.
    pub(super) fn stop_fleetd(&self) -> Result<()> {
        self.guest.ok("systemctl stop fleetd").map(drop)
    }

    /// Starts it; it says itself when it is ready.
    pub(super) fn start_fleetd(&self) -> Result<()> {
        self.guest.ok("systemctl start fleetd").map(drop)
    }

    /// What a program of this machine logged since a moment of its clock (`date +%s`).
    pub(super) fn logged(guest: &Guest, unit: &str, since: &str) -> Result<String> {
        guest.ok(&format!("journalctl -q -o cat -u {unit} --since @{since}"))
    }

    /// The value of a metric of fleetd, by the whole name with its labels.
    pub(super) fn metric(&self, name: &str) -> Result<u64> {
        let page = self.guest.ok("curl -sf http://127.0.0.1:7720/metrics")?;
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        let line = line.with_context(|| format!("no metric {name}"))?;
        line.trim().parse().with_context(|| format!("{name} is {line:?}"))
    }
}

/// The guest's clock, for [`Operator::logged`].
pub(super) fn moment(guest: &Guest) -> Result<String> {
    guest.ok("date +%s")
}

/// Seconds since the guest booted.
pub(super) fn uptime(guest: &Guest) -> Result<u64> {
    let text = guest.ok("cut -d. -f1 /proc/uptime")?;
    text.trim()
        .parse()
        .with_context(|| format!("uptime of {} is {text:?}", guest.name()))
}

/// Waits until a unit is over.
pub(super) fn over(node: &Guest, unit: &str) -> Result<()> {
    let what = format!("{unit} is over");
    node.wait_ok(&what, &format!("! systemctl is-active -q {unit}"), SOON)
        .map(drop)
}

/// The one line that a refusal may have, and no trace of a panic.
pub(super) fn one_sentence(said: &str) -> Result<()> {
    ensure!(
        !said.contains("panicked") && (1..=4).contains(&said.trim().lines().count()),
        "not one clear sentence: {said}"
    );
    Ok(())
}
