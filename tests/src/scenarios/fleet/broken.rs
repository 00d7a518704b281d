//! Records that cannot be read any more: kept aside and named, and nothing else is lost with them.

use anyhow::{Context, Result, ensure};

use super::NEW;
use super::operator::{Operator, STATE, moment, one_sentence, over};
use super::person::{Attempt, Person, SOON, main_pid};
use crate::deploy::as_person;
use crate::testbed::{Fleet, Guest};

const LEDGER: &str = "/var/lib/loadline/warden/ledger.db";
const SPOOL: &str = "/var/lib/loadline-agent/spool.db";

/// A worker that ends with the code once its mark is there.
fn ends(code: u8) -> String {
    format!(
        "sh -c \"while [ ! -e \\$HOME/end-{code} ]; do sleep 1; done; rm \\$HOME/end-{code}; exit {code}\""
    )
}

fn hex(attempt: &Attempt) -> String {
    attempt.id().replace('-', "")
}

/// Changes one row of a database that nobody has open.
fn spoil(guest: &Guest, file: &str, statement: &str) -> Result<()> {
    let changed = guest.ok(&format!("sqlite3 {file} \"{statement}; SELECT changes()\""))?;
    ensure!(
        changed.trim() == "1",
        "{file}: {statement} changed {changed} rows"
    );
    Ok(())
}

pub(super) fn ledger(fleet: &Fleet) -> Result<()> {
    let (alice, operator) = (Person::of(fleet)?, Operator::of(fleet)?);
    let node = fleet.guest(NEW)?;
    let jobs = [
        alice.submit(&format!("--cpus 100m --memory 64MiB --node {NEW}"), "sleep 1800")?,
        alice.submit(&format!("--cpus 100m --memory 64MiB --node {NEW}"), "sleep 1800")?,
    ];
    let (broken, sound) = (alice.running(jobs[0])?, alice.running(jobs[1])?);
    let since = moment(node)?;
    node.ok("systemctl stop loadline-warden")?;
    let statement = format!(
        "UPDATE attempt SET state = substr(state, 2) WHERE id = x'{}'",
        hex(&broken)
    );
    spoil(node, LEDGER, &statement)?;
    node.ok("systemctl start loadline-warden")?;
    let shown = operator.until_node(NEW, "names what was set aside", |shown| {
        let receipts = shown["receipts"].to_string();
        receipts.contains(&hex(&broken)) && receipts.contains("cannot be read")
    })?;
    let logged = Operator::logged(node, "loadline-warden", &since)?;
    ensure!(
        logged.contains("set aside") && logged.contains(&hex(&broken)) && !logged.contains(&hex(&sound)),
        "{logged}"
    );
    for attempt in [&broken, &sound] {
        let pid = main_pid(node, attempt.unit())?;
        ensure!(pid == attempt.pid(), "{pid} instead of {attempt:?}: {shown}");
    }
    let metrics = node.ok("curl -sf http://127.0.0.1:7719/metrics")?;
    ensure!(
        metrics.contains("loadline_agent_ledger_records_set_aside_total 1"),
        "{metrics}"
    );
    // Both are still theirs to end.
    for job in jobs {
        let over = alice.cancel(job)?;
        ensure!(
            over["state"] == "cancelled" && alice.attempts(job)?.len() == 1,
            "{over}"
        );
    }
    for attempt in [&broken, &sound] {
        over(node, attempt.unit())?;
    }
    Ok(())
}

/// Two workers end while fleetd is away, and what the spool has kept of the first end is spoilt. The fleet is told so in
/// so many words, and does not make anything up: the worker it knows nothing of any more is tried again.
pub(super) fn spool(fleet: &Fleet) -> Result<()> {
    let (alice, operator) = (Person::of(fleet)?, Operator::of(fleet)?);
    let node = fleet.guest(NEW)?;
    let on_new = format!("--cpus 100m --memory 64MiB --node {NEW}");
    let (first, second) = (
        alice.submit(&on_new, &ends(21))?,
        alice.submit(&on_new, &ends(22))?,
    );
    let (one, two) = (alice.running(first)?, alice.running(second)?);
    operator.stop_fleetd()?;
    for (code, attempt) in [(21, &one), (22, &two)] {
        node.ok(&format!("touch /home/alice/end-{code}"))?;
        over(node, attempt.unit())?;
    }
    let both = "curl -sf http://127.0.0.1:7719/metrics | awk '$1 == \"loadline_agent_spool_events\" && $2 >= 2' | grep .";
    node.wait_ok("the spool has both ends", both, SOON)?;
    let since = moment(node)?;
    node.ok("systemctl stop loadline-agent")?;
    spoil(
        node,
        SPOOL,
        "UPDATE event SET body = zeroblob(length(body)) WHERE row = (SELECT min(row) FROM event)",
    )?;
    node.ok("systemctl start loadline-agent")?;
    operator.start_fleetd()?;
    operator.all_ready()?;
    let sound = alice.over(second, SOON)?;
    ensure!(
        sound["exit_code"] == 22 && alice.attempts(second)?.len() == 1,
        "{sound}"
    );
    operator.until_node(NEW, "has a receipt for the broken record", |shown| {
        let receipts = shown["receipts"].to_string();
        receipts.contains("checksum does not match") && receipts.contains("is lost")
    })?;
    let logged = Operator::logged(node, "loadline-agent", &since)?;
    ensure!(
        logged.contains("unreadable"),
        "the broken record is not named: {logged}"
    );
    let kept = "curl -sf http://127.0.0.1:7719/metrics | grep -x 'loadline_agent_spool_records_set_aside_total [1-9]'";
    node.ok(kept)?;
    let again = alice.until(first, "is tried again", SOON, |last| {
        last.id() != one.id() && last.state() == "running"
    })?;
    let attempts = alice.attempts(first)?;
    ensure!(
        attempts.len() == 2 && attempts[0].reason() == "node_lost",
        "{attempts:?}"
    );
    node.ok("touch /home/alice/end-21")?;
    let over = alice.over(first, SOON)?;
    ensure!(over["exit_code"] == 21, "{again:?} and then {over}");
    whole_spool(&operator, node)
}

/// A spool that is no database any more is kept under another name, and a new one carries what comes next.
fn whole_spool(operator: &Operator<'_>, node: &Guest) -> Result<()> {
    let since = moment(node)?;
    node.ok(&format!(
        "systemctl stop loadline-agent && printf broken | dd of={SPOOL} conv=notrunc status=none && systemctl start loadline-agent"
    ))?;
    let logged = Operator::logged(node, "loadline-agent", &since)?;
    ensure!(
        logged.contains("spool.db.broken-"),
        "the broken spool is not named: {logged}"
    );
    node.ok(&format!(
        "grep -q ^broken {SPOOL}.broken-* && rm {SPOOL}.broken-*"
    ))?;
    operator.all_ready()?;
    let next = operator.guest().ok(&as_person(
        "alice",
        &format!("fleet run --quiet --cpus 100m --memory 64MiB --node {NEW} -- echo on"),
    ))?;
    ensure!(next.trim() == "on", "{next}");
    Ok(())
}

pub(super) fn store(fleet: &Fleet) -> Result<()> {
    let (alice, operator) = (Person::of(fleet)?, Operator::of(fleet)?);
    let (admin, node) = (operator.guest(), fleet.guest(NEW)?);
    let done = alice.submit(&format!("--cpus 100m --memory 64MiB --node {NEW}"), "true")?;
    alice.over(done, SOON)?;
    let stays = alice.submit(&format!("--cpus 100m --memory 64MiB --node {NEW}"), "sleep 1800")?;
    let attempt = alice.running(stays)?;
    unreadable_file(&operator)?;
    operator.stop_fleetd()?;
    let since = moment(admin)?;
    spoil(
        admin,
        &format!("{STATE}/store.db"),
        &format!("UPDATE job SET spec = x'ff00' WHERE number = {done}"),
    )?;
    operator.start_fleetd()?;
    operator.all_ready()?;
    let logged = Operator::logged(admin, "fleetd", &since)?;
    ensure!(
        logged
            .lines()
            .any(|line| line.contains("moved aside") && line.contains("job id=")),
        "the row is not named: {logged}"
    );
    let gone = alice.types(&format!("fleet job {done}"))?;
    ensure!(gone.status == 3, "{gone:?}");
    let same = alice.running(stays)?;
    ensure!(
        same.pid() == attempt.pid() && main_pid(node, attempt.unit())? == attempt.pid(),
        "{same:?} instead of {attempt:?}"
    );
    alice.cancel(stays).map(drop)
}

/// A store that is none any more is refused with a sentence and left as it is, for whoever has a copy.
fn unreadable_file(operator: &Operator<'_>) -> Result<()> {
    let admin = operator.guest();
    operator.stop_fleetd()?;
    admin.ok(&format!(
        "cp -p {STATE}/store.db /root/store.kept && printf broken | dd of={STATE}/store.db conv=notrunc status=none"
    ))?;
    let refused = admin.run("runuser -u loadline-fleet -- fleetd run", SOON)?;
    ensure!(refused.status != 0, "fleetd runs on a store that it cannot read");
    one_sentence(&refused.stderr).with_context(|| format!("{refused:?}"))?;
    ensure!(
        refused.stderr.contains("store.db") && refused.stderr.contains("restore a copy"),
        "{refused:?}"
    );
    let left = admin.ok(&format!("head -c 6 {STATE}/store.db"))?;
    ensure!(left == "broken", "the file was touched: {left}");
    admin.ok(&format!("mv /root/store.kept {STATE}/store.db"))?;
    operator.start_fleetd()?;
    operator.all_ready().map(drop)
}
