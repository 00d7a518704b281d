//! The measurements. All begin with a fleet that is 85 % full and has turned over, so that what is measured is a steady
//! state.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use crate::load::Load;
use crate::random::Random;

/// Decisions before anything is measured: every shape has met every kind of rest.
const WARM_UP: usize = 200_000;

/// Placements a second, each with the release that makes room for it.
pub(crate) fn rate(nodes: u32, seed: u64) -> Result<serde_json::Value> {
    let mut load = Load::full(nodes, seed)?;
    load.turn(WARM_UP)?;
    let (begun, used) = (now(), on_cpu()?);
    let mut placed = 0;
    while begun.elapsed() < Duration::from_secs(1) {
        placed += load.turn(1000)?;
    }
    let per_s = placed as f64 / begun.elapsed().as_secs_f64();
    let per_cpu_s = placed as f64 / (on_cpu()? - used).as_secs_f64();
    Ok(json!({ "per_s": per_s, "per_cpu_s": per_cpu_s, "full": load.full_part() }))
}

/// How long one placement takes, the release not counted: the 99th of 100.
pub(crate) fn decision(nodes: u32, seed: u64) -> Result<serde_json::Value> {
    let mut load = Load::full(nodes, seed)?;
    load.turn(WARM_UP)?;
    let mut took = Vec::with_capacity(100_000);
    for _ in 0..100_000 {
        let shape = load.make_room()?;
        let begun = now();
        let grant = load.engine.place(shape, &[]);
        took.push(begun.elapsed());
        load.keep(grant, shape)?;
    }
    Ok(json!({ "p99_us": p99(&mut took).as_secs_f64() * 1e6, "max_us": longest(&took).as_secs_f64() * 1e6 }))
}

/// How long 64 workers that start together take to place: the 99th of 100.
pub(crate) fn gang(nodes: u32, seed: u64) -> Result<serde_json::Value> {
    let mut load = Load::full(nodes, seed)?;
    load.turn(WARM_UP)?;
    let mut random = Random(seed);
    let mut took = Vec::new();
    let mut placed = 0;
    for _ in 0..1000 {
        let shape = load.gang_shape(&mut random);
        let begun = now();
        let grants = load.engine.place_gang(shape, 64, &[]);
        took.push(begun.elapsed());
        placed += usize::from(grants.is_some());
        for grant in grants.unwrap_or_default() {
            load.engine.release(&grant)?;
        }
        load.turn(10)?;
    }
    Ok(json!({ "p99_ms": p99(&mut took).as_secs_f64() * 1e3, "placed": placed }))
}

/// How long one pass over 100,000 waiting jobs of 500 shapes takes, once a hundredth of the work has ended.
pub(crate) fn pass(nodes: u32, seed: u64) -> Result<serde_json::Value> {
    let mut load = Load::full(nodes, seed)?;
    load.turn(WARM_UP)?;
    let queue = load.queue(100_000, 500)?;
    // Nothing that waits fits: that is why it waits.
    while !load.engine.pass(&queue, usize::MAX).passed.is_empty() {}
    let (mut took, mut placed) = (Vec::new(), 0);
    for _ in 0..20 {
        load.end_some(100)?;
        let begun = now();
        let pass = load.engine.pass(&queue, 256);
        took.push(begun.elapsed());
        for passed in pass.passed {
            placed += passed.grants.len();
            load.grants.extend(passed.grants);
        }
    }
    took.sort_unstable();
    let median = took[took.len() / 2];
    Ok(
        json!({ "ms": median.as_secs_f64() * 1e3, "max_ms": longest(&took).as_secs_f64() * 1e3, "placed": placed }),
    )
}

/// How long this thread has had a CPU: on a host that is busy with other things, less than the time that passed.
pub(crate) fn on_cpu() -> Result<Duration> {
    let path = "/proc/thread-self/schedstat";
    let text = std::fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    nanos
        .map(Duration::from_nanos)
        .with_context(|| format!("{path} says {text}"))
}

pub(crate) fn p99(took: &mut [Duration]) -> Duration {
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

pub(crate) fn longest(took: &[Duration]) -> Duration {
    took.iter().max().copied().unwrap_or_default()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures real time; nothing is decided by it"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
