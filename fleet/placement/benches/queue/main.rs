//! Loads of parallel machines, put through our queue and the three it is held against; printed as JSON, one line a
//! load.
//!
//! Called with `generated SEEDS`, a month of Lublin–Feitelson load at several levels for so many seeds; with a path,
//! the log there. A file that is no log is an error. With `order CLAIMS SEED` it is measured how long a long queue
//! takes to order.

mod crowd;
mod gamma;
mod lublin;
#[path = "../seeded/random.rs"]
mod random;

use std::path::Path;

use anyhow::{Context, Result, bail};
use loadline_placement::sim::{
    Conservative, Easy, Fcfs, Load, Ours, OursRules, Outcome, Scheduler, read_swf, simulate,
};
use serde_json::{Value, json};

/// Processors of the machine that the model's own parameters describe.
const PROCESSORS: u32 = 128;
/// How much of the machine is asked for, in per cent: a quiet month, a busy one, and one that is nearly too much.
const LEVELS: [u32; 3] = [60, 75, 90];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    match arguments.as_slice() {
        [word, seeds] if word == "generated" => {
            let seeds: u64 = seeds
                .parse()
                .with_context(|| format!("{seeds} is no number of seeds"))?;
            for level in LEVELS {
                for seed in 1..=seeds {
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
        _ => bail!("usage: queue generated SEEDS, queue order CLAIMS SEED, or queue LOG.swf"),
    }
    Ok(())
}

fn measured(name: &str, load: &Load) -> Result<Value> {
    // The others know of no teams: against them ours goes without shares; what shares cost is a figure of its own.
    let alike = OursRules {
        shares: false,
        ..OursRules::default()
    };
    let mut ours = Ours::new(load.processors, alike);
    let mut shared = Ours::new(load.processors, OursRules::default());
    let policies: [(&str, &mut dyn Scheduler); 5] = [
        ("ours", &mut ours),
        ("shared", &mut shared),
        ("fcfs", &mut Fcfs),
        ("easy", &mut Easy),
        ("conservative", &mut Conservative),
    ];
    let mut result = json!({ "load": name, "jobs": load.jobs.len() });
    for (policy, scheduler) in policies {
        let outcome = simulate(load, scheduler);
        let (slowdown, utilisation, wait) =
            figures(load, &outcome).with_context(|| format!("{policy} let a job of {name} wait for ever"))?;
        result[policy] = json!({ "slowdown": slowdown, "utilisation": utilisation, "wait_max_h": wait });
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
