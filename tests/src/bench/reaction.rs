//! From production's first need to the first lower limit of lent work (promise P2), and from an operator's brake to a
//! tier that is idle.
//!
//! fleetd has a guest of its own: on the node it would be production, and leave nothing to lend of this little machine.
//! Onsets and limits are seen on the node, by one clock; the brake is an operator's who sits at the node. Lent work spins
//! at its line; the probe beside it saturates every CPU again and again, also while systemd reloads its units back to back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::form::Form;
use super::{Bench, BenchReport, Better, Figure, Goal, beside_this_program};
use crate::deploy::{self, FLEET_GUEST, Packages, as_person};
use crate::inguest::onset::Onsets;
use crate::testbed::cache::Cache;
use crate::testbed::image::Image;
use crate::testbed::wait::{Look, wait_resting};
use crate::testbed::{Fleet, Guest, GuestSpec};

const CPUS: u32 = 2;
const NODE: &str = "node";
/// P2.
const GOAL_MS: f64 = 150.0;
/// A 99th percentile of fewer says nothing.
const ONSETS_LEAST: f64 = 30.0;
/// All of burst's CPU is gone (design §7, `fleet node line NODE 0`).
const GOAL_BRAKE_MS: f64 = 2000.0;
const BRAKES: usize = 5;
/// What is kept idle here, and what lent work has before each onset, in thousandths of a CPU. What matters is that lent
/// work is at its line, where every rise of production's use takes something from it.
#[derive(Debug)]
struct Line {
    headroom: &'static str,
    quota_least: u64,
}
/// From the usual line, 1600 of 2000, it would be most of a minute away after each onset: of 600 here fleetd's and the
/// agent's use is taken.
const QUIET_LINE: Line = Line {
    headroom: "70%",
    quota_least: 350,
};
/// systemd itself uses one CPU of the two while it reloads.
const RELOAD_LINE: Line = Line {
    headroom: "20%",
    quota_least: 500,
};
const LIMIT: Duration = Duration::from_secs(120);
/// Between two looks at whether lent work runs: more often, and the looks are what it cannot start beside.
const REST: Duration = Duration::from_secs(5);

/// How many onsets of each kind, and how long they may take.
const fn amount(form: Form) -> (u32, Duration) {
    match form {
        Form::One | Form::Short => (32, Duration::from_secs(540)),
        Form::Release => (200, Duration::from_secs(1500)),
    }
}

pub(super) fn run(cache: &Cache) -> Result<BenchReport> {
    let form = Form::chosen()?;
    let packages = Packages::of(&super::report::packages_folder()?)?;
    let specs = [
        GuestSpec::new(FLEET_GUEST, Image::Debian13, 1),
        GuestSpec::new(NODE, Image::Debian13, CPUS),
    ];
    let fleet = Fleet::boot(cache, "bench-reaction", &specs)?;
    prepare(&fleet, &packages)?;
    let (admin, guest) = (fleet.guest(FLEET_GUEST)?, fleet.guest(NODE)?);
    let mut bench = Bench::start("reaction")?;
    let jobs = [lend(admin, "standard", 2)?, lend(admin, "burst", 1)?];
    let quiet = onsets(guest, form, &QUIET_LINE, "")?;
    add(&mut bench, &QUIET, &quiet)?;
    // A reload takes an emulated guest seconds; one follows the other around each onset.
    draw(guest, &RELOAD_LINE)?;
    guest.ok("systemctl reload loadline-warden")?;
    let reloaded = onsets(guest, form, &RELOAD_LINE, "--reload")?;
    add(&mut bench, &RELOADS, &reloaded)?;
    for job in jobs {
        admin.ok(&as_person("alice", &format!("fleet cancel {job}")))?;
    }
    brake(&mut bench, admin, guest)?;
    bench.finish()
}

fn prepare(fleet: &Fleet, packages: &Packages) -> Result<()> {
    deploy::start_fleet(fleet, packages)?;
    let (admin, guest) = (fleet.guest(FLEET_GUEST)?, fleet.guest(NODE)?);
    deploy::add_person(admin, "alice", "user")?;
    draw(guest, &QUIET_LINE)?;
    guest.ok("systemctl reload loadline-warden")?;
    packages.install(guest, &["loadline-cli"])?;
    admin.ok("fleet user add carol --role operator")?;
    let token = deploy::token(admin, "fleet token login carol")?;
    guest.ok(&format!("fleet login {token}"))?;
    guest.put(&beside_this_program("benchprobe")?, "/usr/local/bin/benchprobe")?;
    guest
        .ok("chmod 755 /usr/local/bin/benchprobe; systemctl is-system-running --wait || true")
        .map(drop)
}

/// Writes the line into node.toml.
fn draw(guest: &Guest, line: &Line) -> Result<()> {
    let policy = format!(
        "version = 1\n[lend]\nmode = \"enforce\"\n[production]\nreserve = {{ cpus = 0 }}\nheadroom = {{ cpu = \"{}\" }}\n",
        line.headroom
    );
    let written = guest.run_with_input("cat > /etc/loadline/node.toml", policy.into(), LIMIT)?;
    ensure!(written.status == 0, "write node.toml: {}", written.stderr);
    Ok(())
}

/// Workers that spin; returns once all of them run.
fn lend(admin: &Guest, tier: &str, workers: usize) -> Result<u64> {
    let submit = format!(
        "fleet run --detach -o json --tier {tier} --workers {workers} --cpus 50m --memory 32MiB -- \
         sh -c \"while :; do :; done\""
    );
    let printed = admin.ok(&as_person("alice", &submit))?;
    let answer: Value =
        serde_json::from_str(&printed).with_context(|| format!("submitting printed {printed}"))?;
    let job = answer["job"]
        .as_u64()
        .with_context(|| format!("no number in {answer}"))?;
    wait_resting(&format!("{tier} runs"), LIMIT, REST, || {
        let printed = admin.ok(&as_person("alice", &format!("fleet job {job} -o json")))?;
        let seen: Value =
            serde_json::from_str(&printed).with_context(|| format!("`fleet job` printed {printed}"))?;
        let attempts = seen["attempts"].as_array().map_or(&[][..], Vec::as_slice);
        let running = attempts.iter().filter(|attempt| attempt["state"] == "running");
        Ok(if running.count() == workers {
            Look::Done(job)
        } else {
            Look::Pending(format!("{attempts:?}"))
        })
    })
}

fn onsets(guest: &Guest, form: Form, line: &Line, more: &str) -> Result<Onsets> {
    let (onsets, limit) = amount(form);
    let command = format!(
        "chrt --reset-on-fork --fifo 10 benchprobe onset --onsets {onsets} --threads {CPUS} \
         --quota-least {} --limit-s {} {more}",
        line.quota_least,
        limit.as_secs()
    );
    let printed = guest.ok_within(&command, limit + LIMIT)?;
    let seen: Onsets =
        serde_json::from_str(&printed).with_context(|| format!("the probe printed {printed:.300}"))?;
    eprintln!("bench: {seen:?}");
    Ok(seen)
}

/// The value that this many of a hundred do not exceed: the smallest sample that has so many at or below it.
fn percentile(samples: &[f64], per_cent: usize) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * per_cent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// Ids of what one kind of onsets gives.
#[derive(Debug)]
struct Ids {
    p99: &'static str,
    median: &'static str,
    onsets: &'static str,
    unanswered: &'static str,
    late_looks: &'static str,
    skipped: &'static str,
}

const QUIET: Ids = Ids {
    p99: "reaction.p99_ms",
    median: "reaction.median_ms",
    onsets: "reaction.onsets",
    unanswered: "reaction.unanswered",
    late_looks: "reaction.late_looks",
    skipped: "reaction.skipped",
};
const RELOADS: Ids = Ids {
    p99: "reaction.reload_p99_ms",
    median: "reaction.reload_median_ms",
    onsets: "reaction.reload_onsets",
    unanswered: "reaction.reload_unanswered",
    late_looks: "reaction.reload_late_looks",
    skipped: "reaction.reload_skipped",
};

fn add(bench: &mut Bench, ids: &Ids, seen: &Onsets) -> Result<()> {
    let of = |per_cent| percentile(&seen.reaction_ms, per_cent).map_or_else(Vec::new, |value| vec![value]);
    let goal = |figure: Figure| figure.goal(Goal::Value(GOAL_MS));
    let low = |id: &str, samples: &[f64]| Figure::new(id, "ms", Better::Lower, samples);
    if !seen.reaction_ms.is_empty() {
        bench.add(low(ids.p99, &of(99)).map(goal))?;
        bench.add(low(ids.median, &seen.reaction_ms))?;
    }
    let count = |id: &str, better, count: f64| Figure::new(id, "", better, &[count]);
    let enough = Goal::Value(ONSETS_LEAST);
    let made = count(ids.onsets, Better::Higher, seen.reaction_ms.len() as f64);
    bench.add(made.map(|figure| figure.goal(enough)))?;
    bench.add(
        count(ids.unanswered, Better::Lower, seen.unanswered.into())
            .map(|figure| figure.goal(Goal::Value(0.0))),
    )?;
    bench.add(count(ids.skipped, Better::Lower, seen.skipped.into()))?;
    bench.add(count(ids.late_looks, Better::Lower, seen.late_looks.into()))
}

/// From `fleet node line NODE 0` to a burst tier that uses no CPU; and back.
fn brake(bench: &mut Bench, admin: &Guest, guest: &Guest) -> Result<()> {
    let mut millis = Vec::new();
    for _ in 0..BRAKES {
        let job = lend(admin, "burst", 1)?;
        let command = format!(
            "chrt --reset-on-fork --fifo 10 benchprobe brake --group loadline.slice/loadline-burst.slice -- \
             fleet node line {NODE} 0"
        );
        let printed = guest.ok_within(&command, LIMIT)?;
        let took: f64 =
            serde_json::from_str(&printed).with_context(|| format!("the probe printed {printed:.300}"))?;
        millis.push(took);
        guest.ok(&format!("fleet node line {NODE} 100"))?;
        admin.ok(&as_person("alice", &format!("fleet cancel {job}")))?;
    }
    let brake = Figure::new("reaction.brake_ms", "ms", Better::Lower, &millis);
    bench.add(brake.map(|figure| figure.goal(Goal::Value(GOAL_BRAKE_MS))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_sample_and_the_worst_of_few() {
        let samples: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&samples, 99), Some(198.0));
        assert_eq!(percentile(&[3.0, 1.0, 2.0], 99), Some(3.0));
        assert_eq!(percentile(&[], 99), None);
    }

    #[test]
    fn an_onset_that_nothing_was_done_about_misses_the_goal() {
        let seen = Onsets {
            reaction_ms: vec![90.0, 2000.0],
            unanswered: 1,
            ..Onsets::default()
        };
        let mut bench = Bench::start("reaction").unwrap();
        add(&mut bench, &QUIET, &seen).unwrap();
        let figures = bench.finish().unwrap().figures;
        assert_eq!(figures[0].id, "reaction.p99_ms");
        assert_eq!(figures[0].met(), Some(false));
        let mut bench = Bench::start("x").unwrap();
        add(&mut bench, &QUIET, &Onsets::default()).unwrap();
        let figures = bench.finish().unwrap().figures;
        assert_eq!(figures[0].id, "reaction.onsets");
        assert_eq!(figures[0].met(), Some(false), "none at all is a miss, not a hole");
    }
}
