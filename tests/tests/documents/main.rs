//! The documents say what is true: their commands are run by tests and parse, the tests that they name exist.

mod commands;
mod promises;

use std::path::Path;

use loadline_tests::scenarios::Suite;
use loadline_tests::tidy::Tree;

fn tree() -> Tree {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    Tree::read(root.parent().expect("the workspace")).expect("a readable tree")
}

/// Is there a scenario of that full name?
fn has_scenario(suites: &[Suite], name: &str) -> bool {
    suites.iter().any(|suite| {
        name.strip_prefix(suite.name)
            .and_then(|rest| rest.strip_prefix("::"))
            .is_some_and(|name| suite.scenarios.iter().any(|(scenario, _)| *scenario == name))
    })
}

/// What stands between single backticks of a line.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}
