//! The planner as fleetd keeps it: shares, quotas, room that is kept, and a long queue of several teams.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use loadline_model::{JobId, Tier, WallTime};
use loadline_placement::{Policy, QueueEntry};
use serde_json::json;

use crate::fleet::Fleet;
use crate::measure::{now, on_cpu};

const WAITING: usize = 100_000;

/// How long a plan takes with 100,000 jobs of 500 shapes waiting, of so many users and time limits, once a hundredth of
/// the work has ended, and how long one that finds nothing to do.
pub(crate) fn turns(nodes: u32, seed: u64, kinds: (usize, usize)) -> Result<serde_json::Value> {
    let mut fleet = Fleet::new(nodes, seed, kinds)?;
    let mut jobs = BTreeMap::new();
    let top_up = |fleet: &mut Fleet, jobs: &mut BTreeMap<JobId, QueueEntry>| -> Result<()> {
        while jobs.len() < WAITING {
            let entry = fleet.entry(Tier::Standard)?;
            fleet.planner.put_job(&entry);
            jobs.insert(entry.job, entry);
        }
        Ok(())
    };
    while {
        top_up(&mut fleet, &mut jobs)?;
        fleet.settle(&mut jobs)? > 0
    } {}
    ensure!(jobs.len() == WAITING, "{} wait", jobs.len());
    let (mut took, mut idle, mut placed) = (Vec::new(), Vec::new(), 0);
    let mut cpu = std::time::Duration::ZERO;
    for _ in 0..20 {
        fleet.clock += 2_000_000;
        fleet.end_some(100)?;
        let (begun, used) = (now(), on_cpu()?);
        let plan = fleet.planner.plan(&Policy::default(), WallTime(fleet.clock));
        took.push(begun.elapsed());
        cpu += on_cpu()? - used;
        placed += plan.assignments.len();
        for given in &plan.assignments {
            let entry = jobs.remove(&given.job).context("a job that was not queued")?;
            fleet.start(&entry, given.node)?;
        }
        fleet.settle(&mut jobs)?;
        let begun = now();
        fleet.planner.plan(&Policy::default(), WallTime(fleet.clock));
        idle.push(begun.elapsed());
        top_up(&mut fleet, &mut jobs)?;
    }
    took.sort_unstable();
    idle.sort_unstable();
    let ms = |took: &[std::time::Duration], at: usize| took.get(at).map_or(0.0, |it| it.as_secs_f64() * 1e3);
    Ok(json!({
        "ms": ms(&took, took.len() / 2),
        "max_ms": ms(&took, took.len() - 1),
        "cpu_ms": cpu.as_secs_f64() * 1e3 / took.len() as f64,
        "idle_ms": ms(&idle, idle.len() / 2),
        "placed": placed,
        "running": fleet.running.len(),
    }))
}
