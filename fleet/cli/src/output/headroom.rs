//! What a node may do and why, and the table of what nodes keep, lend and have cost.

use loadline_model::{Bytes, MilliCpu, Span};

use super::table::columns;
use crate::text::{cpus, short};
use crate::view::{CeilingView, CostView, HeadroomView, NodeRow, ResourceView};

const ALL: u32 = 1000;

/// `enforce`, or what holds it down: `shadow (ada)`, `enforce, line 50 % (ada)`.
pub(super) fn mode(node: &NodeRow) -> String {
    let Some(mode) = &node.mode else {
        return String::new();
    };
    let lowest = node.ceilings.iter().min_by_key(|ceiling| ceiling.line_per_mille);
    let lowest = lowest.filter(|ceiling| ceiling.line_per_mille < ALL);
    let held = node.owner_mode.as_ref().is_some_and(|owners| owners != mode);
    let holder = node.ceilings.iter().find(|ceiling| held && ceiling.mode == *mode);
    let by = |ceiling: &CeilingView| format!(" ({})", ceiling.by);
    let mode = format!("{mode}{}", holder.map_or_else(String::new, by));
    let waits = node.ceilings.iter().any(|ceiling| !ceiling.applied);
    let line = lowest.map_or_else(String::new, |ceiling| {
        format!(", line {} %{}", ceiling.line_per_mille / 10, by(ceiling))
    });
    let waits = if waits { ", not told yet" } else { "" };
    format!("{mode}{line}{waits}")
}

/// One ceiling as a clause.
pub(super) fn sentence(ceiling: &CeilingView) -> String {
    let mode = match ceiling.mode.as_str() {
        "enforce" => String::new(),
        mode => format!("no more than `{mode}`, "),
    };
    let place = match ceiling.set {
        "node" => "on the node",
        _ => "fleet",
    };
    let waits = if ceiling.applied {
        ""
    } else {
        "; the node does not know it yet"
    };
    format!(
        "{mode}{} % of its line, set by {} ({place}){waits}",
        ceiling.line_per_mille / 10,
        ceiling.by
    )
}

/// How far the headroom loop has gone, and why.
pub(super) fn level(node: &NodeRow) -> String {
    match (&node.level, &node.reason) {
        (Some(level), Some(reason)) => format!("{level}: {reason}"),
        (Some(level), None) => level.clone(),
        (None, _) => String::new(),
    }
}

/// Whole seconds, or the thousandths of less than ten of them: a stall of production is short.
fn length(micros: u64) -> String {
    let span = Span(micros);
    if micros == 0 || micros >= 10_000_000 {
        return short(span);
    }
    format!("{}ms", micros.div_ceil(1000))
}

fn resource(node: &str, what: &str, view: Option<&ResourceView>, show: fn(u64) -> String) -> [String; 9] {
    let of = |pick: fn(&ResourceView) -> u64| view.map_or_else(|| "?".into(), |view| show(pick(view)));
    [
        node.into(),
        what.into(),
        of(|view| view.capacity),
        of(|view| view.reserve),
        of(|view| view.production),
        of(|view| view.headroom),
        of(|view| view.lent),
        of(|view| view.line_now),
        of(|view| view.line_firm),
    ]
}

/// Two tables: what is where at this moment, and what came of it.
pub(super) fn table(nodes: &[HeadroomView]) -> String {
    let cpu = |millis| cpus(MilliCpu(millis));
    let memory = |bytes| Bytes(bytes).to_string();
    let now = nodes.iter().flat_map(|node| {
        let (cpus, bytes) = (node.cpu_millicpu.as_ref(), node.memory_bytes.as_ref());
        [
            resource(&node.row.node, "CPUs", cpus, cpu),
            resource("", "memory", bytes, memory),
        ]
    });
    let header = [
        "NODE",
        "OF",
        "ALL",
        "RESERVE",
        "PRODUCTION",
        "HEADROOM",
        "LENT",
        "LINE NOW",
        "LINE FIRM",
    ];
    let measured = columns(header, now);
    let header = [
        "NODE",
        "MODE",
        "STALLED",
        "SQUEEZED",
        "EVICTED",
        "REAPING",
        "CPU LENT",
        "OF LAST 7 DAYS",
        "LEVEL NOW",
    ];
    let week = nodes.iter().map(|node| {
        let CostView {
            stalled_us,
            squeezed_us,
            evictions,
            reaping_us,
            lent_cpu_us,
            observed_us,
        } = node.week;
        [
            node.row.node.clone(),
            mode(&node.row),
            length(stalled_us),
            length(squeezed_us),
            evictions.to_string(),
            length(reaping_us),
            length(lent_cpu_us),
            short(Span(observed_us)),
            level(&node.row),
        ]
    });
    format!("{measured}\n\n{}", columns(header, week))
}
