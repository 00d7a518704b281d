//! How long files may be: what does not fit in a head gets split by behaviour.

use crate::tidy::{Report, Tree};

/// Median of well-kept codebases is 90 to 175; the tenth part lies above 340 to 440.
const PRODUCTION: usize = 500;
const INLINE_TESTS: usize = 200;
const TEST_FILE: usize = 1000;
const MAIN: usize = 100;

pub(super) fn production(tree: &Tree, report: &mut Report) {
    let kinds = [".rs", ".py", ".sh"];
    for source in tree
        .sources
        .iter()
        .filter(|source| kinds.iter().any(|kind| source.path.ends_with(kind)))
    {
        let lines = source.production_lines();
        if lines > PRODUCTION && !source.is_test_file() {
            let message = format!("{lines} lines, {PRODUCTION} allowed: split it by behaviour (aim at 250)");
            report.add(source, PRODUCTION + 1, message);
        }
    }
}

pub(super) fn inline_tests(tree: &Tree, report: &mut Report) {
    for source in tree.rust() {
        let lines = source.inline_test_lines();
        if lines > INLINE_TESTS {
            let place = source.production_lines() + 1;
            let sibling = source.path.trim_end_matches(".rs");
            let message = format!(
                "test module of {lines} lines, {INLINE_TESTS} allowed: move it to {sibling}/tests.rs"
            );
            report.add(source, place, message);
        }
    }
}

pub(super) fn test_files(tree: &Tree, report: &mut Report) {
    for source in tree.rust().filter(|source| source.is_test_file()) {
        let lines = source.text.lines().count();
        if lines > TEST_FILE {
            report.add(
                source,
                TEST_FILE + 1,
                format!("{lines} lines, {TEST_FILE} allowed: split it by behaviour"),
            );
        }
    }
}

pub(super) fn main_files(tree: &Tree, report: &mut Report) {
    for source in tree
        .rust()
        .filter(|source| source.name() == "main.rs" || source.path.contains("/src/bin/"))
    {
        let lines = source.text.lines().count();
        if lines > MAIN {
            let message = format!(
                "{lines} lines, {MAIN} allowed: parse, start, map to an exit code; the rest is library"
            );
            report.add(source, MAIN + 1, message);
        }
    }
}
