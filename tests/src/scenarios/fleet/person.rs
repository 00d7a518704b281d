//! A person at the command line of the fleet guest, and what the kernel of a node says about their workers.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::deploy::{FLEET_GUEST, as_person};
use crate::testbed::ssh::Output;
use crate::testbed::wait::{Look, wait_for};
use crate::testbed::{Fleet, Guest};

/// A command on an emulated CPU, other guests busy.
const COMMAND: Duration = Duration::from_secs(90);
/// From submit to a state that only needs the programs to do their work, on a host that has others to serve too: there
/// an emulated node may find production in need for a while, and start nothing.
pub(super) const SOON: Duration = Duration::from_secs(180);

/// Someone who may do what any user may.
pub(super) struct Person<'a> {
    guest: &'a Guest,
    account: &'static str,
}

/// One attempt as `fleet job -o json` shows it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Attempt(pub(super) Value);

impl<'a> Person<'a> {
    /// Alice, whom every scenario finds logged in.
    pub(super) fn of(fleet: &'a Fleet) -> Result<Self> {
        Self::named(fleet, "alice")
    }

    /// Someone whom a scenario has added.
    pub(super) fn named(fleet: &'a Fleet, account: &'static str) -> Result<Self> {
        Ok(Self {
            guest: fleet.guest(FLEET_GUEST)?,
            account,
        })
    }

    /// Types a command, whatever comes of it.
    pub(super) fn types(&self, command: &str) -> Result<Output> {
        self.guest.run(&as_person(self.account, command), COMMAND)
    }

    /// Types a command that must succeed and gives what it printed.
    pub(super) fn ok(&self, command: &str) -> Result<String> {
        let output = self.types(command)?;
        ensure!(
            output.status == 0,
            "{command:?} ended with {}: {}{}",
            output.status,
            output.stdout,
            output.stderr
        );
        Ok(output.stdout)
    }

    /// A command's JSON.
    pub(super) fn json(&self, command: &str) -> Result<Value> {
        let text = self.ok(&format!("{command} -o json"))?;
        serde_json::from_str(&text).with_context(|| format!("{command:?} printed {text}"))
    }

    /// Submits and leaves; gives the number.
    pub(super) fn submit(&self, flags: &str, command: &str) -> Result<u64> {
        let answer = self.ok(&format!("fleet run --detach -o json {flags} -- {command}"))?;
        let answer: Value =
            serde_json::from_str(&answer).with_context(|| format!("submit printed {answer}"))?;
        answer["job"]
            .as_u64()
            .with_context(|| format!("no number in {answer}"))
    }

    /// A job, whole.
    pub(super) fn job(&self, number: u64) -> Result<Value> {
        self.json(&format!("fleet job {number}"))
    }

    /// All attempts of a job, in the order of their tries, but for those that never began because production was in
    /// need: on a busy host an emulated node finds that now and then, and the job is tried again.
    pub(super) fn attempts(&self, number: u64) -> Result<Vec<Attempt>> {
        let job = self.job(number)?;
        let attempts = job["attempts"]
            .as_array()
            .with_context(|| format!("no attempts in {job}"))?;
        let attempts = attempts.iter().cloned().map(Attempt);
        Ok(attempts.filter(|attempt| !attempt.gave_way()).collect())
    }

    /// Waits until the job's newest attempt satisfies a condition.
    pub(super) fn until(
        &self,
        number: u64,
        what: &str,
        limit: Duration,
        holds: impl Fn(&Attempt) -> bool,
    ) -> Result<Attempt> {
        wait_for(&format!("job {number}: {what}"), limit, || {
            let attempts = self.attempts(number)?;
            Ok(match attempts.last() {
                Some(last) if holds(last) => Look::Done(last.clone()),
                _ => Look::Pending(format!("{attempts:?}")),
            })
        })
    }

    /// Waits until the newest attempt runs, be it at its floor while production needs the node.
    pub(super) fn running(&self, number: u64) -> Result<Attempt> {
        self.until(number, "runs", SOON, |attempt| {
            ["running", "squeezed"].contains(&attempt.state()) && attempt.pid() != 0
        })
    }

    /// Waits until the job is over.
    pub(super) fn over(&self, number: u64, limit: Duration) -> Result<Value> {
        wait_for(&format!("job {number} is over"), limit, || {
            let job = self.job(number)?;
            Ok(match job["state"].as_str() {
                Some("succeeded" | "failed" | "cancelled") => Look::Done(job),
                _ => Look::Pending(job.to_string()),
            })
        })
    }

    /// Cancels and waits for the end.
    pub(super) fn cancel(&self, number: u64) -> Result<Value> {
        self.ok(&format!("fleet cancel {number}"))?;
        self.over(number, SOON)
    }
}

impl Attempt {
    fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or_default()
    }

    pub(super) fn id(&self) -> &str {
        self.text("attempt_id")
    }

    pub(super) fn state(&self) -> &str {
        self.text("state")
    }

    pub(super) fn node(&self) -> &str {
        self.text("node")
    }

    pub(super) fn unit(&self) -> &str {
        self.text("unit")
    }

    pub(super) fn pid(&self) -> u64 {
        self.0["main_pid"].as_u64().unwrap_or(0)
    }

    pub(super) fn reason(&self) -> &str {
        self.0["ended"]["reason"].as_str().unwrap_or_default()
    }

    fn gave_way(&self) -> bool {
        let in_need = ["held at its floor", "too few to start in"];
        self.reason() == "refused_for_now" && in_need.iter().any(|words| self.detail().contains(words))
    }

    pub(super) fn detail(&self) -> &str {
        self.0["ended"]["detail"].as_str().unwrap_or_default()
    }
}

/// Files of a unit's cgroup, `name=value` a line.
pub(super) fn cgroup(node: &Guest, unit: &str, files: &[&str]) -> Result<String> {
    let script = format!(
        "c=/sys/fs/cgroup$(systemctl show -P ControlGroup {unit}); test \"$c\" != /sys/fs/cgroup && cd $c && \
         for f in {}; do echo \"$f=$(cat $f)\"; done",
        files.join(" ")
    );
    node.ok(&script)
}

/// One file of a unit's cgroup.
pub(super) fn cgroup_file(node: &Guest, unit: &str, file: &str) -> Result<String> {
    let line = cgroup(node, unit, &[file])?;
    match line.split_once('=') {
        Some((_, value)) => Ok(value.to_owned()),
        None => bail!("{unit} {file}: {line}"),
    }
}

/// The process of a unit, 0 if it has none.
pub(super) fn main_pid(node: &Guest, unit: &str) -> Result<u64> {
    let text = node.ok(&format!("systemctl show -P MainPID {unit}"))?;
    text.trim()
        .parse()
        .with_context(|| format!("MainPID of {unit} is {text:?}"))
}

/// CPU numbers of a kernel list.
pub(super) fn cpus(list: &str) -> Result<loadline_model::CpuSet> {
    list.trim()
        .parse()
        .with_context(|| format!("{list:?} is no CPU list"))
}
