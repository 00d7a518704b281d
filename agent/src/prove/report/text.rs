//! The report on a screen.

use std::fmt::Write;

use loadline_model::{Bytes, Span};

use super::{Report, ResourceReport, cpus, millis, sentence};

/// A screen of text.
pub fn screen(report: &Report) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = fill(&mut text, report);
    text
}

fn fill(out: &mut String, report: &Report) -> std::fmt::Result {
    let (node, line, asked) = (&report.node, &report.line, &report.asked);
    writeln!(
        out,
        "Does lent work cost production anything on {}?  {}",
        node.name, report.begun
    )?;
    writeln!(
        out,
        "{} CPUs, {}, {}, kernel {}, systemd {}, mode {}",
        node.cpus,
        Bytes(node.memory_bytes),
        node.os,
        node.kernel,
        node.systemd,
        node.mode
    )?;
    writeln!(
        out,
        "line: {} and {}, held by {}",
        cpus(line.cpu_millicpu),
        Bytes(line.memory_bytes),
        line.held_by
    )?;
    writeln!(
        out,
        "probe: {} at {}/s; {} pairs of rounds of {}; took {}",
        asked.probe,
        asked.rate_per_s,
        asked.rounds,
        Span(asked.round_us),
        Span(report.took_us)
    )?;
    if asked.workers > 0 {
        writeln!(
            out,
            "{} workers ran meanwhile and blur what production does alone",
            asked.workers
        )?;
    }
    if let Some(why) = &report.aborted {
        writeln!(out, "\nABORTED: {why}")?;
    }
    for left in &report.left_behind {
        writeln!(out, "\nLEFT BEHIND: {left}")?;
    }
    writeln!(
        out,
        "\n{:<9} {:<13} {:>11} {:>11} {:>7} {:>13}  {:>8}",
        "RESOURCE", "VERDICT", "P99 ALONE", "P99 LENT", "RATIO", "95 %", "LENT CPU"
    )?;
    for resource in &report.resources {
        writeln!(out, "{}", row(resource))?;
    }
    writeln!(out)?;
    for resource in &report.resources {
        writeln!(out, "{}: {}", resource.resource, sentence(resource))?;
    }
    discards(out, report)
}

/// One line for each resource: the rest stands in the page and in the JSON.
fn discards(out: &mut String, report: &Report) -> std::fmt::Result {
    for resource in &report.resources {
        let mut discarded = resource
            .rounds
            .iter()
            .filter_map(|round| Some((round, round.discarded.as_ref()?)));
        if let Some((round, why)) = discarded.next() {
            let (count, all) = (discarded.count() + 1, resource.rounds.len());
            writeln!(
                out,
                "{}: {count} of {all} rounds discarded, first in pair {}: {why}",
                resource.resource,
                round.pair + 1
            )?;
        }
    }
    Ok(())
}

fn row(resource: &ResourceReport) -> String {
    let none = || "-".to_owned();
    let latency = |side: &Option<super::Latency>| side.as_ref().map_or_else(none, |side| millis(side.p99_us));
    let (ratio, interval) = resource.p99.as_ref().map_or_else(
        || (none(), none()),
        |p99| {
            let ends = format!("{} - {}", p99.interval.lower, p99.interval.upper);
            (p99.median.to_string(), ends)
        },
    );
    let lent = resource.work_cpu_us.map_or_else(none, |us| Span(us).to_string());
    format!(
        "{:<9} {:<13} {:>11} {:>11} {:>7} {:>13}  {:>8}",
        resource.resource.word(),
        resource.verdict.word(),
        latency(&resource.alone),
        latency(&resource.lent),
        ratio,
        interval,
        lent
    )
}
