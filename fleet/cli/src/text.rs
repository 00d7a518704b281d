//! Small pieces of wording that tables, messages and JSON share.

use loadline_model::{MilliCpu, Span, WallTime};

/// RFC 3339 in UTC, the form of every time in JSON.
pub fn rfc3339(time: WallTime) -> String {
    jiff::Timestamp::from_microsecond(time.0).map_or_else(|_| time.0.to_string(), |time| time.to_string())
}

/// `3m ago`; a moment in the future (clocks differ) is `now`.
pub fn ago(time: WallTime, now: WallTime) -> String {
    match now.since(time) {
        span if span < Span::from_secs(1) => "now".into(),
        span => format!("{} ago", short(span)),
    }
}

/// Whole seconds at least: `0s`, `12s`, `1h30m`.
pub fn short(span: Span) -> String {
    let whole = Span::from_secs(span.as_secs());
    if whole.is_zero() {
        "0s".into()
    } else {
        whole.to_string()
    }
}

/// `1 node`, `3 nodes`.
pub fn count(number: impl Into<u64>, what: &str) -> String {
    match number.into() {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    }
}

/// CPUs as a decimal number: `2`, `1.5`, `0.35`.
pub fn cpus(amount: MilliCpu) -> String {
    let (whole, rest) = (amount.0 / 1000, amount.0 % 1000);
    match rest {
        0 => whole.to_string(),
        rest => format!("{whole}.{}", format!("{rest:03}").trim_end_matches('0')),
    }
}

/// A command as it could be typed into a shell (bash, zsh: what has control characters becomes `$'…'`).
pub fn shell(words: &[String]) -> String {
    words
        .iter()
        .map(|word| quoted(word))
        .collect::<Vec<_>>()
        .join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    if !word.chars().any(char::is_control) {
        return format!("'{}'", word.replace('\'', r"'\''"));
    }
    let escaped = word.chars().map(|c| match c {
        '\n' => r"\n".into(),
        '\t' => r"\t".into(),
        '\'' => r"\'".into(),
        '\\' => r"\\".into(),
        c if c.is_control() => format!(r"\u{:04x}", u32::from(c)),
        c => c.to_string(),
    });
    format!("$'{}'", escaped.collect::<String>())
}

/// At most so many characters; what was cut off is shown by an ellipsis.
pub fn clipped(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}\u{2026}", &text[..end]),
        None => text.to_owned(),
    }
}

/// A name for people to read on a terminal: control characters, which could move the cursor or recolour what
/// follows, are shown and not obeyed.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// The same for a text of several lines.
pub fn lines_printable(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_lengths_read_well() {
        let now = WallTime(1_700_000_000_000_000);
        assert_eq!(ago(WallTime(now.0 - 90_000_000), now), "1m30s ago");
        assert_eq!(ago(WallTime(now.0 + 5_000_000), now), "now");
        assert_eq!(rfc3339(now), "2023-11-14T22:13:20Z");
        assert_eq!(
            (count(1u32, "node"), count(0u32, "node")),
            ("1 node".into(), "0 nodes".into())
        );
    }

    #[test]
    fn cpus_are_decimal_numbers() {
        for (millis, text) in [(2000, "2"), (1500, "1.5"), (350, "0.35"), (5, "0.005"), (0, "0")] {
            assert_eq!(cpus(MilliCpu(millis)), text);
        }
    }

    #[test]
    fn commands_can_be_copied_back_into_a_shell() {
        let words = ["sh", "-c", "echo 'a b'"].map(String::from);
        assert_eq!(shell(&words), r"sh -c 'echo '\''a b'\'''");
        let script = ["sh", "-c", "cd \\x\nsay 'it'\u{1b}"].map(String::from);
        assert_eq!(shell(&script), r"sh -c $'cd \\x\nsay \'it\'\u001b'");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(
            (clipped("äöü", 3), clipped("äöü", 2)),
            ("äöü".into(), "äö…".into())
        );
    }

    #[test]
    fn a_hostile_name_cannot_drive_the_terminal() {
        assert_eq!(printable("a\x1b[31mb"), "a\u{fffd}[31mb");
    }
}
