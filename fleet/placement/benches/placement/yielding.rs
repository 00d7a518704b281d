//! How long the planner takes to say who makes room, on a fleet that is full of burst work.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use loadline_model::{JobId, Tier, WallTime};
use loadline_placement::{Policy, QueueEntry};
use serde_json::json;

use crate::fleet::Fleet;
use crate::measure::{longest, now, p99};

/// Whoever has just begun is left alone for a while.
const LATER: i64 = 3_600_000_000;
const USERS: usize = 100;
const LIMITS: usize = 24;
const JOBS: usize = 200;

/// A job of the standard tier after the other finds no room; timed is the plan that asks others to go. They are gone at
/// once, it starts, and one like those that went takes what is left.
pub(crate) fn yielding(nodes: u32, seed: u64) -> Result<serde_json::Value> {
    let mut fleet = Fleet::new(nodes, seed, (USERS, LIMITS))?;
    let mut waiting = BTreeMap::new();
    fill(&mut fleet, &mut waiting)?;
    fleet.clock += LATER;
    let (mut took, mut asked, mut found_room) = (Vec::with_capacity(JOBS), 0, 0);
    for _ in 0..JOBS {
        fleet.clock += 1_000_000;
        submit(&mut fleet, &mut waiting, Tier::Standard)?;
        let begun = now();
        let plan = fleet.planner.plan(&Policy::default(), WallTime(fleet.clock));
        let elapsed = begun.elapsed();
        for given in &plan.assignments {
            let entry = waiting.remove(&given.job).context("a job that was not queued")?;
            fleet.start(&entry, given.node)?;
        }
        if plan.evictions.is_empty() {
            found_room += plan.assignments.len();
        } else {
            took.push(elapsed);
        }
        for eviction in &plan.evictions {
            let mut places = fleet.running.iter();
            let place = places.position(|running| running.attempt == eviction.attempt);
            fleet.end(place.context("who has to go does not run")?, false)?;
            asked += 1;
        }
        fleet.settle(&mut waiting)?;
    }
    ensure!(
        took.len() >= JOBS / 2,
        "others made room {} times only",
        took.len()
    );
    Ok(
        json!({ "p99_ms": p99(&mut took).as_secs_f64() * 1e3, "max_ms": longest(&took).as_secs_f64() * 1e3,
        "plans": took.len(), "asked": asked, "found_room": found_room, "running": fleet.running.len() }),
    )
}

/// Burst work comes until several jobs of it in a row find no room.
fn fill(fleet: &mut Fleet, waiting: &mut BTreeMap<JobId, QueueEntry>) -> Result<()> {
    const MANY: usize = 1000;
    while {
        for _ in 0..MANY {
            submit(fleet, waiting, Tier::Burst)?;
        }
        fleet.settle(waiting)? > 0
    } {}
    Ok(())
}

fn submit(fleet: &mut Fleet, waiting: &mut BTreeMap<JobId, QueueEntry>, tier: Tier) -> Result<()> {
    let entry = fleet.entry(tier)?;
    fleet.planner.put_job(&entry);
    waiting.insert(entry.job, entry);
    Ok(())
}
