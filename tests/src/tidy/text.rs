//! Names and words that must not appear, and the one that must: each file says why it exists.

use crate::tidy::{Report, Tree};

/// Names that say nothing: what lies there belongs to nothing, so everything ends up there.
const NAMES: &[&str] = &["util", "utils", "common", "misc", "helper", "helpers", "core"];

pub(super) fn module_docs(tree: &Tree, report: &mut Report) {
    // A sibling `tests.rs` says by its place what it is for.
    for source in tree.rust().filter(|source| source.name() != "tests.rs") {
        if !source.text.trim_start().starts_with("//!") {
            report.add(
                source,
                1,
                "begin the file with a `//!` doc that says why it exists",
            );
        }
    }
}

pub(super) fn names(tree: &Tree, report: &mut Report) {
    for source in &tree.sources {
        let stem = |part: &str| part.split('.').next().unwrap_or_default().to_owned();
        if let Some(name) = source
            .path
            .split('/')
            .map(stem)
            .find(|part| NAMES.contains(&part.as_str()))
        {
            report.add(
                source,
                0,
                format!("{name:?} says nothing: name it after what it is for"),
            );
        }
        if source.name() == "mod.rs" {
            report.add(
                source,
                0,
                "use foo.rs beside foo/, so that editors show a telling name",
            );
        }
    }
}

pub(super) fn unfinished(tree: &Tree, report: &mut Report) {
    // Spelled in parts, so that this file passes.
    let mark = concat!("FIX", "ME");
    let calls = [
        concat!("to", "do!"),
        concat!("db", "g!"),
        concat!("unimple", "mented!"),
    ];
    for source in &tree.sources {
        for (line, text) in (1..).zip(source.text.lines()) {
            if text.contains(mark) {
                report.add(
                    source,
                    line,
                    format!("{mark}: do it, or open an issue and name what is missing"),
                );
            }
        }
    }
    for source in tree.rust() {
        for (line, code) in (1..).zip(super::lexer::code(&source.text).lines()) {
            if let Some(call) = calls.iter().find(|call| code.contains(*call)) {
                report.add(source, line, format!("{call} does not belong on the main branch"));
            }
        }
    }
}

pub(super) fn catch_all_errors(tree: &Tree, report: &mut Report) {
    for source in tree.rust() {
        for (line, code) in (1..).zip(source.production_code()) {
            let from_text = code.contains("impl From<String> for") || code.contains("impl From<&str> for");
            if (from_text && code.contains("Error")) || code.contains("GenericError") {
                report.add(
                    source,
                    line,
                    "callers cannot react to a catch-all: a variant per failed operation",
                );
            }
        }
    }
}
