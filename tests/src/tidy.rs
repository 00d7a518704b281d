//! The repository's own rules, as code: style is a test.
//!
//! Each rule names its remedy in its message. Exceptions stand in one table with their reasons, and one that is no
//! longer needed fails too, so that the table only shrinks.

mod borders;
mod exceptions;
mod lexer;
mod manifests;
mod size;
mod text;
mod tree;

use std::fmt;

pub use exceptions::{EXCEPTIONS, Exception};
pub use tree::{Source, Tree};

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Name of the rule.
    pub rule: &'static str,
    /// File, from the repository's root.
    pub path: String,
    /// Line, from 1; 0 when the whole file is meant.
    pub line: usize,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{}:{}: [{}] {}",
            self.path, self.line, self.rule, self.message
        )
    }
}

/// A rule: its name, and how it looks at the tree.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Stable; exceptions refer to it.
    pub name: &'static str,
    check: fn(&Tree, &mut Report),
}

/// Collects the findings of one rule.
#[derive(Debug)]
pub struct Report {
    rule: &'static str,
    findings: Vec<Finding>,
}

impl Report {
    fn add(&mut self, source: &Source, line: usize, message: impl Into<String>) {
        self.findings.push(Finding {
            rule: self.rule,
            path: source.path.clone(),
            line,
            message: message.into(),
        });
    }
}

/// Every rule.
pub const RULES: &[Rule] = &[
    Rule {
        name: "production-size",
        check: size::production,
    },
    Rule {
        name: "inline-test-size",
        check: size::inline_tests,
    },
    Rule {
        name: "test-file-size",
        check: size::test_files,
    },
    Rule {
        name: "main-size",
        check: size::main_files,
    },
    Rule {
        name: "module-doc",
        check: text::module_docs,
    },
    Rule {
        name: "banned-name",
        check: text::names,
    },
    Rule {
        name: "unfinished",
        check: text::unfinished,
    },
    Rule {
        name: "catch-all-error",
        check: text::catch_all_errors,
    },
    Rule {
        name: "proto-border",
        check: borders::proto,
    },
    Rule {
        name: "sql-border",
        check: borders::sql,
    },
    Rule {
        name: "kernel-path-border",
        check: borders::kernel_paths,
    },
    Rule {
        name: "os-crate-border",
        check: borders::os_crates,
    },
    Rule {
        name: "module-direction",
        check: borders::module_direction,
    },
    Rule {
        name: "crate-direction",
        check: manifests::direction,
    },
    Rule {
        name: "pure-crate",
        check: manifests::pure,
    },
    Rule {
        name: "one-clippy-toml",
        check: manifests::one_clippy_toml,
    },
];

/// Everything wrong with a tree, exceptions taken into account.
#[must_use]
pub fn check(tree: &Tree, exceptions: &[Exception]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = RULES.iter().flat_map(|rule| run(rule, tree)).collect();
    let covers = |exception: &Exception, finding: &Finding| {
        exception.rule == finding.rule && exception.path == finding.path
    };
    let stale: Vec<Finding> = exceptions
        .iter()
        .filter(|exception| !findings.iter().any(|finding| covers(exception, finding)))
        .map(|exception| Finding {
            rule: "stale-exception",
            path: exception.path.into(),
            line: 0,
            message: format!(
                "needs no exception from {} any more: take it off the table",
                exception.rule
            ),
        })
        .collect();
    findings.retain(|finding| !exceptions.iter().any(|exception| covers(exception, finding)));
    findings.extend(stale);
    findings
}

fn run(rule: &Rule, tree: &Tree) -> Vec<Finding> {
    let mut report = Report {
        rule: rule.name,
        findings: Vec::new(),
    };
    (rule.check)(tree, &mut report);
    report.findings
}

#[cfg(test)]
mod tests;
