//! The trace played again in virtual time by the real planner, on all nodes of the cluster: how long pods wait for
//! their first start, and how much of the GPUs is used meanwhile. Held against what the trace itself tells.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use loadline_model::{Span, WallTime};
use loadline_placement::Policy;
use loadline_placement::sim::{Fleet, OpenbPod, What, openb_work, play, read_openb_nodes};
use serde_json::{Value, json};

use crate::now;
use crate::trace;

const NODES: &str = "openb_node_list_all_node.csv";

/// Thousandths of GPUs, and how long they were held.
#[derive(Default)]
struct Used {
    held: u64,
    since: WallTime,
    sum: u128,
}

impl Used {
    fn pass(&mut self, at: WallTime) {
        self.sum += u128::from(self.held) * u128::from(at.since(self.since).0);
        self.since = at;
    }
}

/// These variants in virtual time, or all that have times.
pub(crate) fn play_again(folder: &Path, variants: &[String]) -> Result<()> {
    let all = trace::variants(folder)?;
    let wanted = |variant: &String| variants.is_empty() || variants.contains(variant);
    for variant in all.into_iter().filter(wanted) {
        if let Some(played) = again(folder, &variant)? {
            println!("{played}");
        }
    }
    Ok(())
}

/// Plays one variant; none: it has no times.
fn again(folder: &Path, variant: &str) -> Result<Option<Value>> {
    let pods = trace::pods(folder, variant)?;
    let work = openb_work(&pods);
    let (Some((first, _)), Some((last, _))) = (work.first(), work.last()) else {
        return Ok(None);
    };
    let (first, last) = (*first, *last);
    let nodes = read_openb_nodes(&trace::text(folder, NODES)?).with_context(|| NODES)?;
    let mut fleet = Fleet::new(Policy::default());
    for (number, node) in (1..).zip(&nodes) {
        fleet.put_node(node.lends(number))?;
    }
    let gpus: u64 = nodes.iter().map(|node| u64::from(node.gpus) * 1000).sum();
    let came: BTreeMap<u64, WallTime> = work.iter().map(|(at, work)| (work.number, *at)).collect();
    let mut waits: BTreeMap<u64, Span> = BTreeMap::new();
    let mut used = Used {
        since: first,
        ..Used::default()
    };
    let begun = now();
    play(&mut fleet, &work, &mut |_, happened| {
        let Some(it) = happened else { return };
        // What comes after the last submission is the end of the experiment.
        used.pass(it.at.min(last));
        let pod = usize::try_from(it.number - 1)
            .ok()
            .and_then(|place| pods.get(place));
        let share = pod.map_or(0, milli_gpus);
        match it.what {
            What::Started => {
                used.held += share;
                let waited = came.get(&it.number).map(|at| it.at.since(*at));
                waits.entry(it.number).or_insert(waited.unwrap_or_default());
            }
            What::Ended | What::Gone => used.held -= share,
            What::Asked { .. } => {}
        }
    });
    let span = u128::from(last.since(first).0.max(1)) * u128::from(gpus.max(1));
    let in_trace = pods.iter().filter_map(|pod| pod.life?.waited());
    Ok(Some(json!({
        "variant": variant,
        "pods": work.len(),
        "never_started": work.len() - waits.len(),
        "waits_s": parts(waits.into_values()),
        "waits_in_trace_s": parts(in_trace),
        "gpus_used": used.sum as f64 * 100.0 / span as f64,
        "plans": fleet.plans(),
        "took_s": begun.elapsed().as_secs_f64(),
    })))
}

fn milli_gpus(pod: &OpenbPod) -> u64 {
    u64::from(pod.gpus) * u64::from(pod.share.0)
}

/// The median and the 99th percentile, in seconds.
fn parts(waits: impl Iterator<Item = Span>) -> [u64; 2] {
    let mut waits: Vec<u64> = waits.map(|wait| wait.as_secs()).collect();
    waits.sort_unstable();
    [50, 99].map(|part| {
        let place = (waits.len() * part).div_ceil(100).saturating_sub(1);
        waits.get(place).copied().unwrap_or(0)
    })
}
