//! Loads of parallel machines, put through our queue and the three it is held against; printed as JSON, one line a
//! load.
//!
//! Called with `generated SEEDS FIRST`, a month of Lublin–Feitelson load at several levels for so many seeds from the
//! first on; with a path, the log there. A file that is no log is an error. With `order CLAIMS SEED` it is measured how
//! long a long queue takes to order. Ours is the real planner with its default rules.

mod crowd;
mod gamma;
mod lublin;
#[path = "../seeded/random.rs"]
mod random;

use std::path::Path;

use anyhow::{Context, Result, bail};
use loadline_model::Span;
use loadline_placement::Policy;
use loadline_placement::sim::{Conservative, Easy, Fcfs, Load, Outcome, read_swf, simulate};
use serde_json::{Value, json};

/// Processors of the machine that the model's own parameters describe.
const PROCESSORS: u32 = 128;
/// How much of the machine is asked for, in per cent: a quiet month, a busy one, and one that is nearly too much.
const LEVELS: [u32; 3] = [60, 75, 90];

/// What was had is forgiven as fast: everybody is alike.
const AT_ONCE: Span = Span::from_secs(1);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    match arguments.as_slice() {
        [word, seeds, first] if word == "generated" => {
            let seeds: u64 = seeds
                .parse()
                .with_context(|| format!("{seeds} is no number of seeds"))?;
            let first: u64 = first.parse().with_context(|| format!("{first} is no seed"))?;
            for level in LEVELS {
                for seed in first..first + seeds {
                    let load = lublin::month(PROCESSORS, level, seed);
                    println!("{}", measured(&format!("lublin{level}"), &load)?);
                }
            }
        }
        [word, claims, seed] if word == "order" => {
            let claims = claims
                .parse()
                .with_context(|| format!("{claims} is no number of claims"))?;
            let seed = seed.parse().with_context(|| format!("{seed} is no seed"))?;
            println!("{}", json!({ "ms": crowd::order_ms(claims, seed)? }));
        }
        [path] => {
            let path = Path::new(path);
            let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
            let load = read_swf(&text).with_context(|| format!("read {}", path.display()))?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            println!("{}", measured(&name, &load)?);
        }
        _ => bail!("usage: queue generated SEEDS FIRST, queue order CLAIMS SEED, or queue LOG.swf"),
    }
    Ok(())
}

fn measured(name: &str, load: &Load) -> Result<Value> {
    // The others know of no teams and users.
    let alike = Policy {
        half_life: AT_ONCE,
        ..Policy::default()
    };
    let outcomes = [
        ("ours", load.in_fleet(Policy::default(), &[])?),
        ("shareless", load.in_fleet(alike, &[])?),
        ("fcfs", simulate(load, &mut Fcfs)),
        ("easy", simulate(load, &mut Easy)),
        ("conservative", simulate(load, &mut Conservative)),
    ];
    let mut result = json!({ "load": name, "jobs": load.jobs.len() });
    for (policy, outcome) in outcomes {
        let (slowdown, utilisation, wait) =
            figures(load, &outcome).with_context(|| format!("{policy} let a job of {name} wait for ever"))?;
        result[policy] = json!({ "slowdown": slowdown, "utilisation": utilisation, "wait_max_h": wait, "decisions": outcome.decisions });
    }
    Ok(result)
}

/// Mean bounded slowdown, per cent used, and the longest wait in hours.
fn figures(load: &Load, outcome: &Outcome) -> Option<(f64, f64, f64)> {
    let slowdown = outcome.slowdown(load)? as f64 / 1000.0;
    let utilisation = outcome.utilisation(load)? as f64 / 10_000.0;
    let wait = outcome.wait_max(load)?.as_secs() as f64 / 3600.0;
    Some((slowdown, utilisation, wait))
}
