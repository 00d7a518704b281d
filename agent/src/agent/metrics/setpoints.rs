//! What the headroom loop asks for beyond CPUs, and which of its levers work on this host.

use std::collections::BTreeMap;

use super::{Page, float};
use crate::agent::wire::Headroom;

/// Absent where the loop asks for nothing below the static line.
pub(super) fn setpoints(page: &Page, said: &Headroom) -> prometheus::Result<()> {
    let one = |value: Option<f64>| value.into_iter().map(|value| (vec![], value)).collect();
    page.gauges(
        "loadline_headroom_burst_cpu_limit_cores",
        "How much CPU work of the burst tier may use, where that is less than all lent work may.",
        &[],
        one(said.burst.map(|cpu| float(cpu.0) / 1e3)),
    )?;
    page.gauges(
        "loadline_headroom_lent_memory_limit_bytes",
        "How much memory lent work may hold before the kernel takes it back, where that is below the line.",
        &[],
        one(said.memory_high.map(|high| float(high.0))),
    )?;
    page.gauges(
        "loadline_headroom_lent_io_limit_bytes_per_second",
        "How much lent work may read, and how much it may write, of each disk.",
        &[],
        one(said.io_rate.map(float)),
    )?;
    page.gauges(
        "loadline_headroom_memory_reclaim_bytes",
        "Memory that was to be taken from lent work at the last look.",
        &[],
        one(Some(float(said.reclaim.0))),
    )?;
    page.gauges(
        "loadline_headroom_lent_tasks_limit",
        "How many processes and threads lent work may have, where that is below the static limit.",
        &[],
        one(said.tasks_max.map(float)),
    )?;
    page.gauges(
        "loadline_headroom_psi_window_seconds",
        "Window of the pressure triggers that wake the headroom loop; absent: only its ten looks a second see stalls.",
        &[],
        one(said.psi_window.map(|span| float(span.0) / 1e6)),
    )
}

/// One row for each, so that an alert can name what a node does without.
pub(super) fn capabilities(page: &Page, works: &BTreeMap<String, bool>) -> prometheus::Result<()> {
    page.flags(
        "loadline_capability",
        "1 if what the headroom loop uses works on this host, as tried when the warden started.",
        &["capability"],
        works
            .iter()
            .map(|(name, works)| (vec![name.as_str()], *works))
            .collect(),
    )
}
