//! Two people of two teams on one small node: whose turn it is, what a quota holds, who makes room, and what is told.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::operator::{Operator, one_sentence};
use super::person::{Person, SOON};
use crate::deploy;
use crate::testbed::Fleet;
use crate::testbed::wait::{Look, wait_for};

/// Who yields has started so long ago. A minute, as fleetd has it, would be this scenario's most.
const RULES: &str = "[sharing]\nleft_alone = \"5s\"\npriority_most = \"high\"";

pub(super) fn two_teams(fleet: &Fleet) -> Result<()> {
    let operator = Operator::of(fleet)?;
    let admin = operator.guest();
    if !admin.ok("fleet user list")?.contains("bob") {
        deploy::add_person(fleet.guest(deploy::FLEET_GUEST)?, "bob", "user")?;
    }
    admin.ok(&format!(
        "cp /etc/loadline/fleetd.toml /root/fleetd.toml && printf '\\n%s\\n' '{RULES}' >> /etc/loadline/fleetd.toml && \
         systemctl restart fleetd"
    ))?;
    operator.all_ready()?;
    let outcome = shared(fleet, &operator);
    admin.ok("mv /root/fleetd.toml /etc/loadline/fleetd.toml && systemctl restart fleetd")?;
    operator.all_ready()?;
    operator.cancel_all()?;
    for person in ["alice", "bob"] {
        admin.ok(&format!("fleet user set {person} --team none"))?;
    }
    for team in ["vision", "audio"] {
        admin.run(&format!("fleet team remove {team}"), SOON)?;
    }
    outcome
}

fn shared(fleet: &Fleet, operator: &Operator<'_>) -> Result<()> {
    let (alice, bob) = (Person::of(fleet)?, Person::named(fleet, "bob")?);
    let admin = operator.guest();
    admin.ok("fleet team set vision --weight 100 --add alice")?;
    admin.ok("fleet team set audio --weight 300 --add bob")?;
    admin.ok("fleet user set alice --team vision")?;
    admin.ok("fleet user set bob --team audio")?;
    refused(&bob, operator)?;
    gives_back(&alice, &bob)?;
    let held = quota(&alice, operator)?;
    let third = yields(&alice, &bob)?;
    turns(&alice, &bob, &[held, third])?;
    accounts(operator)
}

/// Whom a team does not pay for is told so, and nothing runs.
fn refused(bob: &Person<'_>, operator: &Operator<'_>) -> Result<()> {
    let typed = bob.types("fleet run --detach --team vision -- true")?;
    ensure!(typed.status == 4, "{} {}", typed.status, typed.stderr);
    ensure!(
        typed.stderr.contains("bob is not in team vision"),
        "{}",
        typed.stderr
    );
    one_sentence(&typed.stderr)?;
    let typed = bob.types("fleet run --detach --priority 101 -- true")?;
    ensure!(
        typed.status == 4 && typed.stderr.contains("priority high at most"),
        "{} {}",
        typed.status,
        typed.stderr
    );
    one_sentence(&typed.stderr)?;
    let typed = bob.types("fleet quota set vision --cpus 100")?;
    ensure!(typed.status == 4, "a user raised a quota: {}", typed.stdout);
    let long = "a".repeat(10_240);
    let typed = operator.guest().run(&format!("fleet team set {long}"), SOON)?;
    ensure!(
        typed.status == 2 && typed.stderr.len() < 1000,
        "a name of 10 kB: {} {}",
        typed.status,
        typed.stderr.len()
    );
    Ok(())
}

const WORK: &str = "--memory 64MiB --time 30m --grace 2s --node new";

/// A quota of one CPU holds the second job until it is raised, without a restart. Two run then.
fn quota(alice: &Person<'_>, operator: &Operator<'_>) -> Result<u64> {
    let admin = operator.guest();
    admin.ok("fleet quota set vision --cpus 1")?;
    let first = alice.submit(&format!("--cpus 1 {WORK}"), "sleep 900")?;
    let second = alice.submit(&format!("--cpus 1 {WORK}"), "sleep 900")?;
    alice.running(first)?;
    let why = alice.json(&format!("fleet explain {second}"))?;
    ensure!(why["reasons"][0]["code"] == "quota_reached", "{why}");
    let said = alice.ok(&format!("fleet explain {second}"))?;
    ensure!(said.contains("the team may hold 1 CPUs at once"), "{said}");
    ensure!(alice.attempts(second)?.is_empty(), "the quota did not hold");
    let lowered = admin.ok("fleet quota set vision --cpus 500m 2>&1")?;
    ensure!(lowered.contains("nothing is ended for it"), "{lowered}");
    admin.ok("fleet quota set vision --cpus 2")?;
    alice.running(second)?;
    alice.running(first)?;
    admin.ok("fleet quota remove vision")?;
    // The node has two CPUs to give away for exclusive use.
    alice.cancel(second)?;
    Ok(first)
}

/// An elastic job has what is free, and gives back to an equal what it has beyond its least; both are told.
fn gives_back(alice: &Person<'_>, bob: &Person<'_>) -> Result<()> {
    let elastic = alice.submit(&format!("--cpus 1 --workers 1-2 {WORK}"), "sleep 900")?;
    let live = |what: &str, wanted: usize| {
        wait_for(&format!("{wanted} workers {what}"), SOON, || {
            let attempts = alice.attempts(elastic)?;
            let live = attempts.iter().filter(|attempt| attempt.state() == "running");
            Ok(if live.count() == wanted {
                Look::Done(())
            } else {
                Look::Pending(format!("{attempts:?}"))
            })
        })
    };
    live("run in what is free", 2)?;
    let other = bob.submit(&format!("--cpus 1 {WORK}"), "sleep 900")?;
    bob.running(other)?;
    evicted_for(alice, elastic, other)?;
    live("are left", 1)?;
    let why = alice.json(&format!("fleet explain {elastic}"))?;
    let reasons = why["reasons"].as_array().into_iter().flatten();
    ensure!(
        reasons.clone().any(|reason| reason["code"] == "beyond_least"),
        "{why}"
    );
    alice.cancel(elastic)?;
    bob.cancel(other).map(drop)
}

/// Burst makes room for standard, the lower priority for the higher; both are told for whom.
fn yields(alice: &Person<'_>, bob: &Person<'_>) -> Result<u64> {
    let burst = bob.submit(&format!("--cpus 1 --tier burst {WORK}"), "sleep 900")?;
    bob.running(burst)?;
    let third = alice.submit(&format!("--cpus 1 {WORK}"), "sleep 900")?;
    alice.running(third)?;
    evicted_for(bob, burst, third)?;
    // Standard like alice's, and urgent.
    let urgent = bob.submit(&format!("--cpus 1 --priority high {WORK}"), "sleep 900")?;
    bob.running(urgent)?;
    let left = wait_for("one of alice's made room", SOON, || {
        let jobs = alice.json("fleet jobs")?;
        let waits = |job: &&Value| job["user"] == "alice" && job["state"] != "running";
        let queued = jobs.as_array().into_iter().flatten().find(waits);
        Ok(match queued.and_then(|job| job["job"].as_u64()) {
            Some(job) => Look::Done(job),
            None => match evicted_of(alice)? {
                Some(job) => Look::Done(job),
                None => Look::Pending(jobs.to_string()),
            },
        })
    })?;
    evicted_for(alice, left, urgent)?;
    bob.cancel(urgent)?;
    // Who yielded comes back by itself.
    alice.running(left)?;
    bob.cancel(burst)?;
    Ok(third)
}

/// The job of a person of which an attempt was evicted.
fn evicted_of(person: &Person<'_>) -> Result<Option<u64>> {
    let jobs = person.json("fleet jobs")?;
    for job in jobs
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|job| job["job"].as_u64())
    {
        if person
            .attempts(job)
            .is_ok_and(|all| all.iter().any(|attempt| attempt.reason() == "evicted"))
        {
            return Ok(Some(job));
        }
    }
    Ok(None)
}

fn evicted_for(person: &Person<'_>, job: u64, other: u64) -> Result<()> {
    let what = format!("job {job} yielded to job {other}");
    let attempts = wait_for(&what, SOON, || {
        let attempts = person.attempts(job)?;
        let gone = attempts
            .iter()
            .find(|attempt| attempt.reason() == "evicted")
            .cloned();
        Ok(match gone {
            Some(gone) => Look::Done(gone),
            None => Look::Pending(format!("{attempts:?}")),
        })
    })?;
    let named = format!("job {other}");
    ensure!(attempts.detail().contains(&named), "{}", attempts.detail());
    let whole = person.job(job)?;
    let receipts = whole["receipts"].to_string();
    ensure!(
        receipts.contains("yield") && receipts.contains(&named),
        "{receipts}"
    );
    Ok(())
}

/// With the node full, the first who waits has its turn kept. Of two who wait behind it the one whose team has had less
/// by weight goes first, though the other came earlier; and explain tells why.
fn turns(alice: &Person<'_>, bob: &Person<'_>, running: &[u64; 2]) -> Result<()> {
    let next = alice.submit(&format!("--cpus 1 {WORK}"), "sleep 900")?;
    let earlier = alice.submit(&format!("--cpus 1 {WORK}"), "sleep 900")?;
    let later = bob.submit(&format!("--cpus 1 {WORK}"), "sleep 900")?;
    let why = alice.json(&format!("fleet explain {earlier}"))?;
    ensure!(why["reasons"][0]["code"] == "cpus_busy", "{why}");
    ensure!(why["jobs_before"].as_u64().is_some(), "{why}");
    alice.cancel(running[0])?;
    alice.running(next)?;
    alice.cancel(running[1])?;
    wait_for("one of the two has its turn", Duration::from_secs(90), || {
        let (a, b) = (alice.attempts(earlier)?, bob.attempts(later)?);
        Ok(if a.is_empty() && b.is_empty() {
            Look::Pending("neither".to_owned())
        } else {
            Look::Done(())
        })
    })?;
    ensure!(
        !bob.attempts(later)?.is_empty() && alice.attempts(earlier)?.is_empty(),
        "whose team had its part and more went first"
    );
    Ok(())
}

/// What teams have had is theirs by name, and survives fleetd.
fn accounts(operator: &Operator<'_>) -> Result<()> {
    let admin = operator.guest();
    let had = || -> Result<Vec<u64>> {
        let text = admin.ok("fleet team list -o json")?;
        let teams: Value = serde_json::from_str(&text).with_context(|| format!("teams: {text}"))?;
        let share = |name: &str| {
            let team = teams
                .as_array()
                .into_iter()
                .flatten()
                .find(|team| team["team"] == name);
            team.and_then(|team| team["share_per_mille"].as_u64())
        };
        ["vision", "audio"]
            .into_iter()
            .map(|name| share(name).with_context(|| format!("no {name} in {text}")))
            .collect()
    };
    let before = had()?;
    // What alice's jobs of other scenarios had before she was in a team is nobody's of these.
    ensure!(
        (900..=1000).contains(&before.iter().sum::<u64>()) && before.iter().all(|had| *had > 200),
        "both have had their part: {before:?}"
    );
    operator.stop_fleetd()?;
    operator.start_fleetd()?;
    operator.all_ready()?;
    let after = had()?;
    let moved = before
        .iter()
        .zip(&after)
        .map(|(before, after)| before.abs_diff(*after));
    ensure!(
        moved.max() < Some(100),
        "{before:?} became {after:?} by a restart"
    );
    Ok(())
}
