//! The engine alone on a fleet that is 85 % full, and the planner with all its rules on a full one (`turns`, `teams` with
//! 60 times as many lines, `yield`); one measurement a call, printed as JSON.
//!
//! `make bench-placement` builds this once and calls it for each figure, so that measurements are interleaved.

mod fleet;
mod load;
mod measure;
#[path = "../seeded/random.rs"]
mod random;
mod turns;
mod yielding;

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let [what, nodes, seed] = arguments.as_slice() else {
        bail!("usage: placement rate|decision|gang|pass|turns|teams|yield NODES SEED");
    };
    let nodes: u32 = nodes
        .parse()
        .with_context(|| format!("{nodes} is no number of nodes"))?;
    let seed: u64 = seed.parse().with_context(|| format!("{seed} is no seed"))?;
    let measured = match what.as_str() {
        "rate" => measure::rate(nodes, seed)?,
        "decision" => measure::decision(nodes, seed)?,
        "gang" => measure::gang(nodes, seed)?,
        "pass" => measure::pass(nodes, seed)?,
        "turns" => turns::turns(nodes, seed, (1, 1))?,
        "teams" => turns::turns(nodes, seed, (20, 3))?,
        "yield" => yielding::yielding(nodes, seed)?,
        other => bail!("{other}: rate, decision, gang, pass, turns, teams or yield"),
    };
    println!("{measured}");
    Ok(())
}
