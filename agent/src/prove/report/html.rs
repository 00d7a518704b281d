//! The report as a page: one file that holds all it shows, without script, readable on a phone, in light and dark, and
//! printable. The signed JSON stands in it, so that the page can be checked too.

use std::fmt::Write;

use loadline_model::{Bytes, Span};
use loadline_policy::prove::Side;
use loadline_policy::prove::estimate::Verdict;

use super::{Report, ResourceReport, Signed, cpus, millis, plot, sentence};

const STYLE: &str = include_str!("page.css");

/// The page.
pub fn page(signed: &Signed, json: &str) -> String {
    let report = &signed.report;
    let mut out = String::with_capacity(64 * 1024);
    // Writing into a String cannot fail.
    let _ = head(&mut out, report);
    for resource in &report.resources {
        let _ = section(&mut out, resource);
    }
    let _ = facts(&mut out, report);
    let _ = foot(&mut out, signed, json);
    out
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            plain => safe.push(plain),
        }
    }
    safe
}

/// The class of a verdict in the style sheet, and a sign that needs no colour.
const fn badge(verdict: &Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Protected => ("good", "✓"),
        Verdict::Cost => ("bad", "✗"),
        Verdict::Unclear { .. } => ("unsure", "?"),
        Verdict::NotMeasured { .. } => ("none", "–"),
    }
}

fn head(out: &mut String, report: &Report) -> std::fmt::Result {
    let name = escape(&report.node.name);
    writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>Interference test of {name}</title>\n<style>{STYLE}</style></head>\n<body><main>\n\
         <header><p class=\"over\">Loadline interference test</p>\
         <h1>Does lent work cost production anything on {name}?</h1>\
         <p class=\"when\">{}, {} long, probe {} at {} requests a second</p></header>",
        escape(&report.begun),
        Span(report.took_us),
        escape(&report.asked.probe),
        report.asked.rate_per_s
    )?;
    if let Some(why) = &report.aborted {
        writeln!(
            out,
            "<p class=\"alarm\"><b>Stopped before its end:</b> {}</p>",
            escape(why)
        )?;
    }
    for left in &report.left_behind {
        writeln!(out, "<p class=\"alarm\"><b>Left behind:</b> {}</p>", escape(left))?;
    }
    writeln!(out, "<div class=\"cards\">")?;
    for resource in &report.resources {
        let (class, sign) = badge(&resource.verdict);
        let ratio = resource
            .p99
            .as_ref()
            .map_or_else(|| "–".into(), |p99| format!("× {}", p99.median));
        writeln!(
            out,
            "<a class=\"card {class}\" href=\"#{0}\"><span>{0}</span><b>{ratio}</b><em>{sign} {1}</em></a>",
            resource.resource,
            resource.verdict.word()
        )?;
    }
    writeln!(
        out,
        "</div><p class=\"note\">The number is the p99 of production's latency with lent work, divided by its p99 alone: \
         the median of pairs of rounds that took turns. Protected: at most 1.10, and surely at most 1.25. \
         Cost: surely above 1.10.</p>"
    )
}

fn section(out: &mut String, resource: &ResourceReport) -> std::fmt::Result {
    let (class, sign) = badge(&resource.verdict);
    writeln!(
        out,
        "<section id=\"{0}\"><h2>{0} <em class=\"badge {class}\">{sign} {1}</em></h2><p>{2}</p>",
        resource.resource,
        resource.verdict.word(),
        escape(&sentence(resource))
    )?;
    if let (Some(alone), Some(lent)) = (&resource.alone, &resource.lent) {
        writeln!(out, "<h3>p99</h3>{}", plot::bars(alone, lent))?;
        writeln!(
            out,
            "<div class=\"plots\"><figure><figcaption>Latency</figcaption>{}",
            plot::distribution(alone, lent)
        )?;
        writeln!(
            out,
            "<p class=\"legend\"><i class=\"alone\"></i>alone ({} answers) <i class=\"lent\"></i>with lent work ({})</p></figure>",
            alone.answers, lent.answers
        )?;
        if let Some(p99) = &resource.p99 {
            writeln!(
                out,
                "<figure><figcaption>Ratio of the p99, pair by pair</figcaption>{}",
                plot::ratios(p99)
            )?;
            writeln!(
                out,
                "<p class=\"legend\"><i class=\"median\"></i>median <i class=\"sure\"></i>95 % sure <i class=\"mark\"></i>1.10 and 1.25</p></figure>"
            )?;
        }
        writeln!(out, "</div>")?;
    }
    if !resource.rounds.is_empty() {
        rounds(out, resource)?;
    }
    writeln!(out, "</section>")
}

fn rounds(out: &mut String, resource: &ResourceReport) -> std::fmt::Result {
    writeln!(
        out,
        "<details><summary>All {} rounds</summary><div class=\"wide\"><table><thead><tr><th>pair<th>side<th>p50<th>p99\
         <th>requests<th>failed<th>probe late by<th>lent CPU<th></tr></thead><tbody>",
        resource.rounds.len()
    )?;
    for round in &resource.rounds {
        let time = |us: Option<u64>| us.map_or_else(|| "–".into(), millis);
        let side = match round.side {
            Side::Alone => "alone",
            Side::Lent => "lent",
        };
        let (class, why) = match &round.discarded {
            Some(why) => ("dropped", format!("discarded: {why}")),
            None => ("", String::new()),
        };
        writeln!(
            out,
            "<tr class=\"{class}\"><td>{}<td>{side}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}</tr>",
            round.pair + 1,
            time(round.p50_us),
            time(round.p99_us),
            round.requests,
            round.errors,
            millis(round.lateness_p99_us),
            time(round.work_cpu_us),
            escape(&why)
        )?;
    }
    writeln!(out, "</tbody></table></div></details>")
}

fn facts(out: &mut String, report: &Report) -> std::fmt::Result {
    let (node, line, asked) = (&report.node, &report.line, &report.asked);
    writeln!(out, "<section><h2>Circumstances</h2><dl>")?;
    let workers = match asked.workers {
        0 => "none ran meanwhile".to_owned(),
        count => format!("{count} ran meanwhile and blur what production does alone"),
    };
    for (name, value) in [
        (
            "Machine",
            format!("{} CPUs, {}", node.cpus, Bytes(node.memory_bytes)),
        ),
        (
            "System",
            format!("{}, kernel {}, systemd {}", node.os, node.kernel, node.systemd),
        ),
        ("Mode", node.mode.clone()),
        (
            "Line",
            format!(
                "{} and {}, held by {}",
                cpus(line.cpu_millicpu),
                Bytes(line.memory_bytes),
                line.held_by
            ),
        ),
        (
            "Rounds",
            format!(
                "{} pairs of {} each, in turns A B B A, seed {}",
                asked.rounds,
                Span(asked.round_us),
                asked.seed
            ),
        ),
        ("Workers", workers),
        ("Program", report.program.clone()),
    ] {
        writeln!(out, "<dt>{name}</dt><dd>{}</dd>", escape(&value))?;
    }
    writeln!(out, "</dl></section>")
}

fn foot(out: &mut String, signed: &Signed, json: &str) -> std::fmt::Result {
    writeln!(
        out,
        "<section><h2>Signature</h2><p>Ed25519 by this node's key <code>{}</code>. Keep the JSON report, and check it \
         with <code>loadline-warden prove --verify FILE</code>.</p>\
         <details><summary>The signed report</summary><pre>{}</pre></details></section>\n</main></body></html>",
        escape(&signed.signature.public_key),
        escape(json)
    )
}
