//! Every test, scenario and figure that PROMISES.md names exists, and a row that names none says so.

use loadline_tests::scenarios::SUITES;
use loadline_tests::tidy::{Source, Tree};

use super::{has_scenario, spans, tree};

const KINDS: [&str; 3] = ["guest:", "test:", "bench:"];
const NONE: &str = "no test yet";

/// What a row's last cell names: the kind and the name.
fn named(cell: &str) -> Vec<(&'static str, &str)> {
    spans(cell)
        .filter_map(|span| {
            let before = &cell[..cell.find(&format!("`{span}`"))?];
            let kind = KINDS
                .iter()
                .max_by_key(|kind| before.rfind(*kind).map_or(0, |at| at + 1))?;
            before.contains(kind).then_some((*kind, span))
        })
        .collect()
}

/// The function of a test, marked as one.
fn has_test(source: &Source, function: &str) -> bool {
    let lines: Vec<&str> = source.text.lines().collect();
    let declared = [format!("fn {function}("), format!("async fn {function}(")];
    lines.iter().enumerate().any(|(at, line)| {
        let declares = declared.iter().any(|start| line.trim_start().starts_with(start));
        let attributes = lines[..at]
            .iter()
            .rev()
            .take_while(|line| line.trim_start().starts_with("#["));
        declares && attributes.into_iter().any(|line| line.contains("test"))
    })
}

/// What is wrong with a name.
fn wrong(tree: &Tree, kind: &str, name: &str) -> Option<String> {
    match kind {
        "guest:" => (!has_scenario(SUITES, name)).then(|| format!("`make test` runs no scenario {name}")),
        "test:" => {
            let Some((program, function)) = name.split_once(' ') else {
                return Some(format!("`{name}`: say the test program and the test"));
            };
            let (file, folder) = (format!("/tests/{program}.rs"), format!("/tests/{program}/"));
            let program_is = tree
                .rust()
                .any(|source| source.path.ends_with(&file) || source.path.contains(&folder));
            let test_is = tree
                .rust()
                .any(|source| source.path.contains("/tests/") && has_test(source, function));
            (!program_is || !test_is).then(|| format!("there is no test {name}"))
        }
        _ => {
            let figures = |source: &Source| source.path.starts_with("tests/src/bench/");
            let id = format!("\"{name}\"");
            let there = tree
                .rust()
                .any(|source| figures(source) && source.text.contains(&id));
            (!there).then(|| format!("no benchmark measures {name}"))
        }
    }
}

/// What is wrong with a row.
fn findings(tree: &Tree, line: &str) -> Vec<String> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [number, .., cell] = cells[..] else {
        return Vec::new();
    };
    let named = named(cell);
    let mut found: Vec<String> = named
        .iter()
        .filter_map(|(kind, name)| wrong(tree, kind, name))
        .collect();
    if named.is_empty() && !cell.contains(NONE) {
        found.push(format!("names no test and does not say {NONE:?}"));
    }
    found
        .into_iter()
        .map(|what| format!("{number}: {what}"))
        .collect()
}

#[test]
fn named_tests_exist() {
    let tree = tree();
    let promises = &tree.get("PROMISES.md").expect("PROMISES.md").text;
    let rows: Vec<&str> = promises.lines().filter(|line| line.starts_with("| P")).collect();
    assert!(rows.len() >= 12, "{} rows of the twelve promises", rows.len());
    let found: Vec<String> = rows.iter().flat_map(|row| findings(&tree, row)).collect();
    assert!(found.is_empty(), "PROMISES.md is not true:\n{}", found.join("\n"));
}

#[test]
fn a_wrong_name_is_found() {
    let tree = Tree::of(&[
        ("fleet/tests/edge.rs", "#[test]\nfn holds() {}\nfn no_test() {}\n"),
        ("tests/src/bench/a.rs", "(\"a.b_ms\")"),
    ]);
    let found = |cell: &str| findings(&tree, &format!("| P1 | a | b | {cell} |"));
    for good in [
        "test: `edge holds` (a crate)",
        "bench: `a.b_ms`",
        "no test yet; `make demo` shows it",
        "guest: `fleet::a_power_cut_of_fleetd_loses_no_job`, and test: `edge holds`",
    ] {
        assert_eq!(found(good), Vec::<String>::new(), "{good}");
    }
    for bad in [
        "test: `edge gone`",
        "test: `edge no_test`",
        "test: `other holds`",
        "guest: `open-fleet::an_empty_store_stops_no_worker`",
        "guest: `fleet::a_power_cut_of_fleetd_loses_no_job`, test: `edge gone`",
        "bench: `a.b_us`",
        "`make demo`",
    ] {
        assert_eq!(found(bad).len(), 1, "{bad}: {:?}", found(bad));
    }
}
