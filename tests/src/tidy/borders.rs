//! What may appear only at one place: wire types, SQL, kernel paths, OS crates; and who may see whom inside a crate.

use crate::tidy::{Report, Source, Tree};

/// Is the path one of these places? A place that ends in `/` or `*` means everything below or beginning so.
fn within(source: &Source, places: &[&str]) -> bool {
    places.iter().any(|place| match place.strip_suffix('*') {
        Some(start) => source.path.starts_with(start),
        None if place.ends_with('/') => source.path.starts_with(place),
        None => source.path == *place,
    })
}

/// Does a line of code use a crate, as a path or an import?
fn uses(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + name.len()..];
        let own_word = before.is_none_or(|c| !c.is_alphanumeric() && c != '_');
        own_word
            && (after.starts_with("::")
                || code.trim_start().starts_with("use ") && after.starts_with([';', ' ']))
    })
}

fn forbid(tree: &Tree, report: &mut Report, crates: &[&str], places: &[&str], remedy: &str) {
    for source in tree.rust().filter(|source| !within(source, places)) {
        for (line, code) in (1..).zip(source.production_code()) {
            if let Some(name) = crates.iter().find(|name| uses(&code, name)) {
                report.add(source, line, format!("{name} here: {remedy}"));
            }
        }
    }
}

pub(super) fn proto(tree: &Tree, report: &mut Report) {
    for source in tree.rust() {
        let wire = source.name() == "wire.rs" || source.path.contains("/wire/");
        if wire || source.path.starts_with("proto/") {
            continue;
        }
        for (line, code) in (1..).zip(source.production_code()) {
            if uses(&code, "loadline_proto") {
                report.add(
                    source,
                    line,
                    "generated types stop at wire.rs: convert there (TryFrom, typed errors)",
                );
            }
        }
    }
}

/// Where SQL may stand: the fleet's store, the node's ledger and its spool.
const SQL: &[&str] = &[
    "fleet/src/store.rs",
    "fleet/src/store/",
    "agent/src/ledger*",
    "agent/src/spool*",
    "tests/",
];

pub(super) fn sql(tree: &Tree, report: &mut Report) {
    for source in tree.rust().filter(|source| !within(source, SQL)) {
        for literal in source.production_literals() {
            if is_sql(&literal.text) {
                report.add(
                    source,
                    literal.line,
                    "SQL belongs into fleet/src/store or the node's ledger and spool",
                );
            }
        }
    }
    forbid(
        tree,
        report,
        &["rusqlite"],
        SQL,
        "the database stays behind the store, ledger and spool",
    );
}

/// Statements begin with their verb in capitals; the second word keeps plain sentences out.
fn is_sql(text: &str) -> bool {
    let mut words = text
        .split(|c: char| c.is_whitespace() || c == '(')
        .filter(|word| !word.is_empty());
    let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    match first {
        "SELECT" => text.contains(" FROM ") || text.contains('('),
        "INSERT" => ["INTO", "OR"].contains(&second),
        "REPLACE" => second == "INTO",
        "UPDATE" => text.contains(" SET "),
        "DELETE" => second == "FROM",
        "CREATE" | "DROP" | "ALTER" => ["TABLE", "INDEX", "UNIQUE", "TRIGGER", "VIEW"].contains(&second),
        "PRAGMA" | "VACUUM" => true,
        "BEGIN" => ["IMMEDIATE", "EXCLUSIVE", "DEFERRED", "TRANSACTION"].contains(&second),
        _ => false,
    }
}

/// cgroup files that the warden reads or writes; as a whole literal they are a path.
const KNOBS: &[&str] = &[
    "cpu.max",
    "cpu.weight",
    "cpu.idle",
    "cpu.stat",
    "cpu.pressure",
    "cpuset.cpus",
    "cpuset.cpus.effective",
    "cpuset.mems",
    "memory.max",
    "memory.high",
    "memory.low",
    "memory.min",
    "memory.current",
    "memory.peak",
    "memory.events",
    "memory.reclaim",
    "memory.pressure",
    "memory.stat",
    "io.max",
    "io.weight",
    "io.pressure",
    "pids.max",
    "pids.current",
    "pids.peak",
    "cgroup.procs",
    "cgroup.kill",
    "cgroup.freeze",
    "cgroup.events",
    "cgroup.controllers",
    "cgroup.subtree_control",
];

pub(super) fn kernel_paths(tree: &Tree, report: &mut Report) {
    let places = ["agent/src/host.rs", "agent/src/host/", "tests/"];
    for source in tree.rust().filter(|source| !within(source, &places)) {
        for literal in source.production_literals() {
            let text = literal.text.as_str();
            if text.starts_with("/sys/") || text.starts_with("/proc/") || KNOBS.contains(&text) {
                let message =
                    format!("kernel path {text:?}: one file per kernel interface, in agent/src/host/");
                report.add(source, literal.line, message);
            }
        }
    }
}

pub(super) fn os_crates(tree: &Tree, report: &mut Report) {
    let places = ["agent/src/host.rs", "agent/src/host/", "tests/"];
    let crates = ["zbus", "cgroups_rs", "procfs", "nvml_wrapper"];
    forbid(
        tree,
        report,
        &crates,
        &places,
        "the operating system stays behind agent/src/host/",
    );
}

/// Who may see how much of whom, inside a crate.
struct Direction {
    folder: &'static str,
    of: &'static str,
    /// What may be named after all: values, no decisions.
    values: &'static [&'static str],
    why: &'static str,
}

const DIRECTIONS: &[Direction] = &[
    Direction {
        folder: "agent/src/host",
        of: "loadline_policy",
        values: &[
            "settings::",
            "attempt::",
            "reconcile::UnitActive",
            "headroom::sample::",
        ],
        why: "host observes and carries out, it never decides; it may name settings and observations only",
    },
    Direction {
        folder: "fleet/src/store",
        of: "loadline_placement",
        values: &[],
        why: "the store keeps, it never decides",
    },
];

pub(super) fn module_direction(tree: &Tree, report: &mut Report) {
    for Direction {
        folder,
        of,
        values,
        why,
    } in DIRECTIONS
    {
        let places = [format!("{folder}.rs"), format!("{folder}/")];
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        let is_value = |code: &str| {
            values
                .iter()
                .any(|value| code.contains(&format!("{of}::{value}")))
        };
        for source in tree.rust().filter(|source| within(source, &places)) {
            for (line, code) in (1..).zip(source.production_code()) {
                if uses(&code, of) && !is_value(&code) {
                    report.add(source, line, format!("{of} in {folder}: {why}"));
                }
            }
        }
    }
}
