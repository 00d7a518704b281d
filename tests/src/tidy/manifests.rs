//! Which crate may depend on which, and what a pure crate may see: read from the manifests.

use toml::Table;

use crate::tidy::{Report, Source, Tree};

/// Folder of each of our crates and the crates of ours that it may depend on. Agent and fleet never meet.
const DIRECTION: &[(&str, &[&str])] = &[
    ("proto/model", &[]),
    ("proto", &[]),
    ("agent/policy", &["loadline-model"]),
    ("fleet/placement", &["loadline-model"]),
    ("agent", &["loadline-model", "loadline-policy", "loadline-proto"]),
    (
        "fleet",
        &["loadline-model", "loadline-placement", "loadline-proto"],
    ),
    ("fleet/cli", &["loadline-model", "loadline-proto"]),
    ("tests", &["loadline-model", "loadline-proto"]),
];

/// Pure crates and everything they may depend on. A crate with `std` could smuggle a clock or a socket back in.
const PURE: &[(&str, &[&str])] = &[
    ("proto/model", &["thiserror", "serde", "uuid", "smallvec"]),
    ("agent/policy", &["loadline-model", "thiserror", "serde"]),
    ("fleet/placement", &["loadline-model", "thiserror", "serde"]),
];

/// Every section that names dependencies, for every target.
fn dependencies(manifest: &Table, sections: &[&str]) -> Vec<String> {
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let tables = targets
        .into_iter()
        .flat_map(Table::values)
        .filter_map(toml::Value::as_table);
    std::iter::once(manifest)
        .chain(tables)
        .flat_map(|table| {
            sections
                .iter()
                .filter_map(|section| table.get(*section)?.as_table())
        })
        .flat_map(|table| table.keys().cloned())
        .collect()
}

fn parse(source: &Source, report: &mut Report) -> Option<Table> {
    match source.text.parse() {
        Ok(table) => Some(table),
        Err(error) => {
            report.add(source, 0, format!("not TOML: {error}"));
            None
        }
    }
}

fn line_of(source: &Source, word: &str) -> usize {
    source
        .text
        .lines()
        .position(|line| line.starts_with(word))
        .map_or(0, |line| line + 1)
}

pub(super) fn direction(tree: &Tree, report: &mut Report) {
    for source in tree.sources.iter().filter(|source| source.name() == "Cargo.toml") {
        let Some(folder) = source.path.strip_suffix("/Cargo.toml") else {
            continue;
        };
        let Some((_, allowed)) = DIRECTION.iter().find(|(place, _)| *place == folder) else {
            report.add(
                source,
                0,
                "a crate of which tidy does not know what it may depend on: add it there",
            );
            continue;
        };
        let Some(manifest) = parse(source, report) else {
            continue;
        };
        let all = dependencies(
            &manifest,
            &["dependencies", "dev-dependencies", "build-dependencies"],
        );
        for name in all
            .iter()
            .filter(|name| name.starts_with("loadline") && !allowed.contains(&name.as_str()))
        {
            let message = format!(
                "{folder} must not depend on {name}; of ours it may: {}",
                allowed.join(", ")
            );
            report.add(source, line_of(source, name), message);
        }
    }
}

pub(super) fn pure(tree: &Tree, report: &mut Report) {
    let root = tree
        .get("Cargo.toml")
        .and_then(|source| source.text.parse::<Table>().ok());
    for (folder, allowed) in PURE {
        if let Some(source) = tree.get(&format!("{folder}/Cargo.toml"))
            && let Some(manifest) = parse(source, report)
        {
            for name in dependencies(&manifest, &["dependencies"]) {
                let line = line_of(source, &name);
                if !allowed.contains(&name.as_str()) {
                    let message = format!(
                        "a pure crate may depend on {} only, not on {name}",
                        allowed.join(", ")
                    );
                    report.add(source, line, message);
                } else if !name.starts_with("loadline")
                    && with_default_features(root.as_ref(), &manifest, &name)
                {
                    report.add(
                        source,
                        line,
                        format!("{name} needs default-features = false in a pure crate"),
                    );
                }
            }
        }
        if let Some(source) = tree.get(&format!("{folder}/src/lib.rs")) {
            for (word, line) in [
                ("cfg_attr(not(test), no_std)", "#![cfg_attr(not(test), no_std)]"),
                ("(missing_docs)", "#![warn(missing_docs)]"),
            ] {
                if !source.text.contains(word) {
                    report.add(source, 1, format!("a pure crate says {line}"));
                }
            }
        }
    }
}

/// The workspace decides for a dependency that says `workspace = true`.
fn with_default_features(root: Option<&Table>, manifest: &Table, name: &str) -> bool {
    let own = manifest.get("dependencies").and_then(|table| table.get(name));
    let inherited = own.and_then(|entry| entry.get("workspace")).is_some();
    let shared = root.and_then(|root| root.get("workspace")?.get("dependencies")?.get(name));
    let entry = if inherited { shared } else { own };
    entry.and_then(|entry| entry.get("default-features")) != Some(&toml::Value::Boolean(false))
}

pub(super) fn one_clippy_toml(tree: &Tree, report: &mut Report) {
    for source in &tree.sources {
        if source.path.ends_with("/clippy.toml") {
            report.add(
                source,
                0,
                "a nested clippy.toml replaces the root one and its bans: delete it",
            );
        }
    }
}
