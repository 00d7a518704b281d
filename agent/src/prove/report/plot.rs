//! The plots of the page, as SVG: no script, no font, no picture from elsewhere. Colours come from the page's style
//! sheet, so that both plots are readable in light and dark.

use std::fmt::Write;

use super::{Latency, Ratios, millis};

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 26.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 38.0;
/// Shares of answers with a tick, in thousandths, and their names.
const SHARES: [(u16, &str); 5] = [
    (1, "0"),
    (500, "50 %"),
    (900, "90 %"),
    (990, "99 %"),
    (999, "99.9 %"),
];
/// The marks of the verdict.
const MARKS: [u64; 2] = [1100, 1250];

/// How a number becomes a place.
struct Axis {
    from: f64,
    to: f64,
    at: f64,
    length: f64,
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        let whole = self.to - self.from;
        let part = if whole.abs() < f64::EPSILON {
            0.5
        } else {
            (value - self.from) / whole
        };
        self.at + part.clamp(0.0, 1.0) * self.length
    }
}

fn across(from: f64, to: f64) -> Axis {
    let length = WIDTH - LEFT - RIGHT;
    Axis {
        from,
        to,
        at: LEFT,
        length,
    }
}

/// The larger the higher.
fn upwards(from: f64, to: f64) -> Axis {
    let length = HEIGHT - TOP - BOTTOM;
    Axis {
        from,
        to,
        at: HEIGHT - BOTTOM,
        length: -length,
    }
}

/// Every further nine takes as much room as the one before.
fn nines(share: u16) -> f64 {
    -(1.0 - f64::from(share) / 1000.0).ln()
}

#[expect(clippy::cast_precision_loss, reason = "a place on a page")]
fn number(value: u64) -> f64 {
    value as f64
}

fn open(label: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\">")
}

fn line(out: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let _ = write!(
        out,
        "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(out: &mut String, anchor: &str, at: (f64, f64), words: &str) {
    let _ = write!(
        out,
        "<text text-anchor=\"{anchor}\" x=\"{:.1}\" y=\"{:.1}\">{words}</text>",
        at.0, at.1
    );
}

/// Ticks at 1, 2, 5, 10 … microseconds.
fn ticks(from: u64, to: u64) -> Vec<u64> {
    let powers = (0..10).map(|power| 10u64.pow(power));
    powers
        .flat_map(|power| [power, 2 * power, 5 * power])
        .filter(|tick| (from..=to).contains(tick))
        .collect()
}

/// Up to 1-2-5 below and above, so that the first and the last tick stand at the edges.
fn edges(least: u64, most: u64) -> (u64, u64) {
    let all = ticks(1, u64::MAX);
    let below = all.iter().rev().find(|tick| **tick <= least.max(1));
    let above = all.iter().find(|tick| **tick >= most.max(1));
    let from = below.copied().unwrap_or(1);
    (from, above.copied().unwrap_or(most).max(from * 2))
}

/// Within how much time which share of the answers came, on both sides.
pub(super) fn distribution(alone: &Latency, lent: &Latency) -> String {
    let all = || alone.curve.iter().chain(&lent.curve).map(|(_, us)| *us);
    let (from, to) = edges(all().min().unwrap_or(1), all().max().unwrap_or(1));
    let x = across(nines(SHARES[0].0), nines(SHARES[SHARES.len() - 1].0));
    let y = upwards(number(from).ln(), number(to).ln());
    let mut out = open("Latency by share of answers, alone and with lent work");
    let (bottom, top) = (HEIGHT - BOTTOM, TOP);
    let marks = ticks(from, to);
    // Over more than two decades only the tens.
    let sparse = marks.len() > 7;
    for tick in marks
        .into_iter()
        .filter(|tick| !sparse || tick.to_string().starts_with('1'))
    {
        let at = y.place(number(tick).ln());
        line(&mut out, "grid", (LEFT, at), (WIDTH - RIGHT, at));
        text(&mut out, "end", (LEFT - 6.0, at + 4.0), &tick_name(tick));
    }
    for (share, name) in SHARES {
        let at = x.place(nines(share));
        line(&mut out, "grid", (at, top), (at, bottom));
        text(&mut out, "middle", (at, bottom + 16.0), name);
    }
    text(
        &mut out,
        "middle",
        (LEFT + x.length / 2.0, HEIGHT - 5.0),
        "share of answers that came within",
    );
    for (class, side) in [("alone", alone), ("lent", lent)] {
        let points: Vec<String> = side
            .curve
            .iter()
            .map(|(share, us)| {
                let us = number((*us).max(1));
                format!("{:.1},{:.1}", x.place(nines(*share)), y.place(us.ln()))
            })
            .collect();
        let _ = write!(
            out,
            "<polyline class=\"{class}\" points=\"{}\"/>",
            points.join(" ")
        );
    }
    out.push_str("</svg>");
    out
}

fn tick_name(us: u64) -> String {
    match us {
        0..1000 => format!("{us} µs"),
        1000..1_000_000 => format!("{} ms", us / 1000),
        _ => format!("{} s", us / 1_000_000),
    }
}

/// The ratio of each pair, the marks, and the interval of the median.
pub(super) fn ratios(ratios: &Ratios) -> String {
    let most = ratios.each.iter().map(|ratio| ratio.0).max().unwrap_or(1000);
    let least = ratios.each.iter().map(|ratio| ratio.0).min().unwrap_or(1000);
    let y = upwards(number(least.min(900)), number(most.max(1300)));
    let x = across(0.5, f64::from(ratios.pairs) + 0.5);
    let mut out = open("Ratio of the p99 of each pair of rounds");
    let interval = (
        y.place(number(ratios.interval.upper.0)),
        y.place(number(ratios.interval.lower.0)),
    );
    let _ = write!(
        out,
        "<rect class=\"sure\" x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
        interval.0,
        x.length,
        (interval.1 - interval.0).max(1.0)
    );
    let scale = std::iter::once(1000)
        .chain(MARKS)
        .chain((most > 1400).then_some(most));
    for mark in scale {
        let at = y.place(number(mark));
        let class = if MARKS.contains(&mark) { "mark" } else { "grid" };
        line(&mut out, class, (LEFT, at), (WIDTH - RIGHT, at));
        let name = format!("× {}.{:02}", mark / 1000, mark % 1000 / 10);
        text(&mut out, "end", (LEFT - 6.0, at + 4.0), &name);
    }
    let median = y.place(number(ratios.median.0));
    line(&mut out, "median", (LEFT, median), (WIDTH - RIGHT, median));
    for (place, ratio) in (1u32..).zip(&ratios.each) {
        let at = (x.place(f64::from(place)), y.place(number(ratio.0)));
        let _ = write!(
            out,
            "<circle class=\"pair\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"5\"><title>pair {place}: {ratio}</title></circle>",
            at.0, at.1
        );
        let sparse = ratios.pairs > 12 && place % 5 != 0;
        if !sparse {
            text(
                &mut out,
                "middle",
                (at.0, HEIGHT - BOTTOM + 16.0),
                &place.to_string(),
            );
        }
    }
    text(
        &mut out,
        "middle",
        (LEFT + x.length / 2.0, HEIGHT - 5.0),
        "pair of rounds",
    );
    out.push_str("</svg>");
    out
}

/// A bar from fast to slow for each side, for the summary.
pub(super) fn bars(alone: &Latency, lent: &Latency) -> String {
    let most = number(alone.p99_us.max(lent.p99_us).max(1));
    let mut out = String::from("<div class=\"bars\">");
    for (class, name, side) in [("alone", "alone", alone), ("lent", "with lent work", lent)] {
        let width = number(side.p99_us) / most * 100.0;
        let _ = write!(
            out,
            "<span>{name}</span><i class=\"{class}\" style=\"width:{width:.0}%\"></i><b>{}</b>",
            millis(side.p99_us)
        );
    }
    out.push_str("</div>");
    out
}
