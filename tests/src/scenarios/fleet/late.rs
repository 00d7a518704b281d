//! A worker that came and went while journald had no CPU: all that it wrote is found at once, and in any order. Its last
//! line has no end, which journald keeps back until the stream ends; and it lies in a file that journald makes for it.

use anyhow::{Context, Result, bail};

use super::on_both;
use super::person::Person;
use crate::testbed::wait::{Look, wait_for};
use crate::testbed::{Fleet, Guest};

/// Each is one throw of the dice that journald throws among what it finds at once.
const ROUNDS: usize = 2;
const JOURNALD: &str = "systemd-journald@loadline.service";

pub(super) fn written_while_journald_stood_still(fleet: &Fleet) -> Result<()> {
    on_both(fleet, |node| {
        for round in 0..ROUNDS {
            // People's lines go into a file of their own, which journald has to make anew each time.
            node.ok(&format!(
                "systemctl stop {JOURNALD}; rm -f /var/log/journal/*.loadline/user-*.journal; \
                 systemctl start {JOURNALD} && systemctl kill --kill-whom=main -s STOP {JOURNALD}"
            ))?;
            let read = read_late(fleet, node, &format!("{} {round}", node.name()));
            node.ok(&format!("systemctl kill --kill-whom=main -s CONT {JOURNALD}"))?;
            read.with_context(|| format!("round {round}"))?;
        }
        Ok(())
    })
}

/// One short worker; its log is asked for before journald goes on.
fn read_late(fleet: &Fleet, node: &Guest, word: &str) -> Result<()> {
    let alice = Person::of(fleet)?;
    let flags = format!("--cpus 100m --memory 64MiB --node {}", node.name());
    let job = alice.submit(
        &flags,
        &format!("sh -c 'echo {word}; echo it was >&2; printf the\\ rest'"),
    )?;
    alice.over(job, super::person::SOON)?;
    let reading = || alice.types(&format!("fleet logs {job}"));
    let read = std::thread::scope(|scope| -> Result<_> {
        let reader = scope.spawn(reading);
        wait_for("a reader of the agent asks journald", super::person::SOON, || {
            let threads = "cat /proc/$(systemctl show -P MainPID loadline-agent)/task/*/comm";
            let threads = node.ok(threads)?;
            Ok(if threads.contains("log-") || reader.is_finished() {
                Look::Done(())
            } else {
                Look::Pending(threads)
            })
        })?;
        node.ok(&format!("systemctl kill --kill-whom=main -s CONT {JOURNALD}"))?;
        reader
            .join()
            .map_err(|_| anyhow::anyhow!("the reader panicked"))?
    })?;
    let whole = read.status == 0
        && read.stdout.trim() == format!("{word}\nthe rest")
        && read.stderr.contains("it was");
    if !whole {
        let again = reading()?;
        let journal = node.ok(
            "journalctl -q -u loadline-agent -n 5 -o short-precise; \
             journalctl -q --namespace loadline -n 12 -o verbose --output-fields=MESSAGE,_SYSTEMD_UNIT,_PID,_UID,LOADLINE_NUMBER,_TRANSPORT",
        )?;
        bail!("not what the worker wrote: {read:?}; asked again: {again:?}; {journal}");
    }
    Ok(())
}
