//! The openb traces, placed by the engine and by the two policies it is held against; printed as JSON.
//!
//! The protocol is the published one (Weng et al., *Beware of Fragmentation*, USENIX ATC 2023): tasks shuffled with a
//! seed, repeated until they ask for 130 % of all GPUs, placed one by one, never moved, skipped only if no node
//! has room. The result is the part of all GPUs that is allocated once so much has been *asked for*.
//!
//! The engine knows nothing of the tasks beforehand; it learns what is asked for as they come. The two others are
//! given the whole trace's mix, as in the published runs.

mod again;
mod peers;
#[path = "../seeded/random.rs"]
mod random;
mod trace;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use loadline_model::{NodeId, Tier};
use loadline_placement::engine::Engine;
use serde_json::json;

use peers::{BestFit, Fgd, Policy, replay};
use trace::{Allocated, Marks, Task, Trace, workload};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    if let [folder, word, variants @ ..] = arguments.as_slice()
        && word == "replay"
    {
        return again::play_again(Path::new(folder), variants);
    }
    let [folder, seeds] = arguments.as_slice() else {
        bail!("usage: openb FOLDER SEEDS, or openb FOLDER replay [VARIANT]...");
    };
    let seeds: u64 = seeds
        .parse()
        .with_context(|| format!("{seeds} is no number of seeds"))?;
    let folder = Path::new(folder);
    for variant in trace::variants(folder)? {
        let trace = Trace::read(folder, &variant)?;
        let mut result = json!({ "variant": variant, "ours": [], "bestfit": [], "fgd": [], "per_s": [] });
        for seed in 42..42 + seeds {
            let tasks = workload(&trace, seed);
            let (ours, took) = with_the_engine(&trace, &tasks)?;
            let per_s = tasks.len() as f64 / took.as_secs_f64();
            let mut fgd = Fgd::new(&trace.tasks);
            let others: [(&str, &mut dyn Policy); 2] = [("bestfit", &mut BestFit), ("fgd", &mut fgd)];
            push(&mut result, "ours", json!(ours));
            push(&mut result, "per_s", json!(per_s));
            for (name, policy) in others {
                push(&mut result, name, json!(replay(&trace, &tasks, policy)));
            }
        }
        println!("{result}");
    }
    Ok(())
}

fn push(result: &mut serde_json::Value, key: &str, value: serde_json::Value) {
    if let Some(list) = result[key].as_array_mut() {
        list.push(value);
    }
}

/// Places the tasks; how much was allocated, and how long the engine took.
fn with_the_engine(trace: &Trace, tasks: &[Task]) -> Result<(Allocated, Duration)> {
    let mut engine = Engine::new();
    for (number, node) in (0u128..).zip(&trace.nodes) {
        let id = NodeId::from_slice(&number.to_be_bytes()).context("sixteen bytes")?;
        engine.add_node(&node.spec(id))?;
    }
    let mut marks = Marks::new(trace);
    let begun = now();
    for task in tasks {
        let shape = engine.shape(&task.demand(), Tier::Standard)?;
        engine.learn(shape, 1);
        marks.note(task, engine.place(shape, &[]).is_some());
    }
    Ok((marks.finish(), begun.elapsed()))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures real time; nothing is decided by it"
)]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
