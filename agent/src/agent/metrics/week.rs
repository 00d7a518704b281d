//! Production's week, which the firm line goes by.

use super::{Page, float};
use crate::agent::wire::Week;

/// A percentile is absent until a day was watched.
pub(super) fn week(page: &Page, week: &Week) -> prometheus::Result<()> {
    let one = |value: Option<f64>| value.into_iter().map(|value| (vec![], value)).collect();
    page.gauges(
        "loadline_production_p99_cpu_cores",
        "What production used at most in 99 % of its last week.",
        &[],
        one(week.cpu.map(|cpu| float(cpu.0) / 1e3)),
    )?;
    page.gauges(
        "loadline_production_p99_memory_bytes",
        "The memory that production used at most in 99 % of its last week.",
        &[],
        one(week.memory.map(|memory| float(memory.0))),
    )?;
    page.gauges(
        "loadline_production_watched_seconds",
        "How much of production's last week was watched; percentiles begin with a day.",
        &[],
        one(Some(float(week.watched.0) / 1e6)),
    )?;
    page.flags(
        "loadline_production_history_saved",
        "1 if what was watched of production's last week is on the disk.",
        &[],
        vec![(vec![], week.saved)],
    )
}
