//! Every rule fires on a bad sample and stays silent on its mended twin.

use super::*;

/// Rule, path, bad text, good text.
fn samples() -> Vec<(&'static str, &'static str, String, String)> {
    let doc = "//! Why.\n";
    let lines = |count: usize| format!("{doc}{}", "let a = 1;\n".repeat(count - 1));
    let inline = |count: usize| {
        format!(
            "{doc}#[cfg(test)]\nmod tests {{\n{}}}\n",
            "    // a\n".repeat(count - 3)
        )
    };
    let both = |bad: &str, good: &str| (format!("{doc}{bad}\n"), format!("{doc}{good}\n"));
    let plain = |bad: &str, good: &str| (bad.to_owned(), good.to_owned());
    let pure = "//! Why.\n#![cfg_attr(not(test), no_std)]\n#![warn(missing_docs)]\n";
    let mark = concat!("// FIX", "ME later");
    let all: Vec<(&str, &str, (String, String))> = vec![
        ("production-size", "agent/src/a.rs", (lines(501), lines(500))),
        ("production-size", "python/a.py", (lines(501), lines(500))),
        (
            "production-size",
            "tests/src/testbed/a.rs",
            (lines(501), lines(500)),
        ),
        ("inline-test-size", "agent/src/a.rs", (inline(201), inline(200))),
        ("test-file-size", "agent/tests/a.rs", (lines(1001), lines(1000))),
        (
            "test-file-size",
            "fleet/src/store/tests.rs",
            (lines(1001), lines(501)),
        ),
        ("main-size", "fleet/src/main.rs", (lines(101), lines(100))),
        ("main-size", "agent/src/bin/warden.rs", (lines(101), lines(100))),
        (
            "module-doc",
            "agent/src/a.rs",
            plain("fn a() {}\n", "//! Why.\nfn a() {}\n"),
        ),
        ("unfinished", "README.md", plain(mark, "done")),
        (
            "unfinished",
            "agent/src/a.rs",
            both(concat!("fn a() { to", "do!() }"), "// to do: nothing"),
        ),
        (
            "unfinished",
            "agent/src/a.rs",
            both(concat!("fn a() { db", "g!(1) }"), "fn a() { debug(1) }"),
        ),
        (
            "catch-all-error",
            "fleet/src/a.rs",
            both("impl From<String> for AnError {", "impl From<Id> for AnError {"),
        ),
        (
            "proto-border",
            "agent/src/a.rs",
            both("use loadline_proto::node::v1::Hello;", "use crate::wire::Hello;"),
        ),
        (
            "proto-border",
            "fleet/cli/src/a.rs",
            both("fn a(x: loadline_proto::J) {}", "// loadline_proto::J"),
        ),
        (
            "sql-border",
            "fleet/src/tasks.rs",
            both(r#"f("SELECT a FROM b");"#, r#"f("SELECT one of them");"#),
        ),
        (
            "sql-border",
            "fleet/src/tasks.rs",
            both(r#"f("UPDATE job SET a = 1");"#, r#"f("UPDATE");"#),
        ),
        (
            "sql-border",
            "agent/src/agent.rs",
            both("use rusqlite::Connection;", "use crate::spool::Spool;"),
        ),
        (
            "kernel-path-border",
            "agent/src/warden.rs",
            both(r#"read("/proc/stat")"#, r#"read("/etc/loadline")"#),
        ),
        (
            "kernel-path-border",
            "agent/policy/src/a.rs",
            both(r#"f("cpu.max")"#, r#"f("cpu.max was lowered")"#),
        ),
        (
            "os-crate-border",
            "agent/src/warden.rs",
            both("use zbus::Connection;", "use crate::host::Systemd;"),
        ),
        (
            "module-direction",
            "agent/src/host/cpu.rs",
            both("use loadline_policy::Plan;", "use loadline_model::Id;"),
        ),
        (
            "module-direction",
            "fleet/src/store.rs",
            both("use loadline_placement::Plan;", "use loadline_model::Id;"),
        ),
        (
            "crate-direction",
            "agent/Cargo.toml",
            plain(
                "[dependencies]\nloadline-fleet.workspace = true\n",
                "[dependencies]\n",
            ),
        ),
        (
            "crate-direction",
            "fleet/Cargo.toml",
            plain(
                "[dev-dependencies]\nloadline-node = { path = \"../agent\" }\n",
                "[dependencies]\nloadline-proto.workspace = true\n",
            ),
        ),
        ("crate-direction", "extra/Cargo.toml", plain("[package]\n", "")),
        (
            "pure-crate",
            "proto/model/Cargo.toml",
            plain("[dependencies]\ntokio = \"1\"\n", "[dependencies]\n"),
        ),
        (
            "pure-crate",
            "agent/policy/Cargo.toml",
            plain(
                "[dependencies]\nserde = \"1\"\n",
                "[dependencies]\nserde = { version = \"1\", default-features = false }\n",
            ),
        ),
        (
            "pure-crate",
            "fleet/placement/src/lib.rs",
            plain("//! Why.\n", pure),
        ),
        ("one-clippy-toml", "agent/clippy.toml", plain("", "")),
    ];
    all.into_iter()
        .map(|(rule, path, (bad, good))| (rule, path, bad, good))
        .collect()
}

fn found(path: &str, text: &str) -> Vec<&'static str> {
    check(&Tree::of(&[(path, text)]), &[])
        .into_iter()
        .map(|finding| finding.rule)
        .collect()
}

#[test]
fn every_rule_fires_on_a_bad_sample_and_only_that_one() {
    for (rule, path, bad, good) in samples() {
        let rules = found(path, &bad);
        assert!(rules.contains(&rule), "{rule} is silent on {path}:\n{bad}");
        assert!(
            rules.iter().all(|other| *other == rule),
            "{path}: {rules:?} beside {rule}"
        );
        if !good.is_empty() {
            assert_eq!(found(path, &good), Vec::<&str>::new(), "{path}:\n{good}");
        }
    }
}

#[test]
fn no_rule_is_without_a_sample() {
    let sampled: Vec<&str> = samples()
        .iter()
        .map(|sample| sample.0)
        .chain(["banned-name"])
        .collect();
    for rule in RULES {
        assert!(sampled.contains(&rule.name), "{} has no sample", rule.name);
    }
}

#[test]
fn names_that_say_nothing_are_found_in_files_and_folders() {
    for path in [
        "agent/src/utils.rs",
        "fleet/common/src/a.rs",
        "python/helpers.py",
        "tests/src/bench/mod.rs",
    ] {
        assert_eq!(found(path, "//! Why.\n"), ["banned-name"], "{path}");
    }
    assert_eq!(found("agent/src/host/cores.rs", "//! Why.\n"), Vec::<&str>::new());
}

#[test]
fn borders_let_through_what_belongs_there() {
    let allowed = [
        ("agent/src/wire.rs", "use loadline_proto::node::v1::Hello;"),
        ("fleet/src/wire/job.rs", "use loadline_proto::fleet::v1::Job;"),
        ("fleet/src/store/jobs.rs", r#"f("SELECT a FROM b");"#),
        ("agent/src/ledger.rs", "use rusqlite::Connection;"),
        ("agent/src/host/proc.rs", r#"read("/proc/stat")"#),
        (
            "agent/src/a.rs",
            "#[cfg(test)]\nmod tests {\n    const P: &str = \"/proc/stat\";\n}",
        ),
    ];
    for (path, text) in allowed {
        assert_eq!(
            found(path, &format!("//! Why.\n{text}\n")),
            Vec::<&str>::new(),
            "{path}"
        );
    }
}

#[test]
fn an_exception_covers_its_file_and_rule_and_fails_when_stale() {
    let tree = Tree::of(&[("agent/src/api.rs", "//! Why.\nuse loadline_proto::v1::A;\n")]);
    let exception = |rule, path| Exception {
        rule,
        path,
        reason: "the service trait forces it",
    };
    assert_eq!(check(&tree, &[exception("proto-border", "agent/src/api.rs")]), []);
    let stale = check(&tree, &[exception("sql-border", "agent/src/api.rs")]);
    assert_eq!(
        stale.iter().map(|finding| finding.rule).collect::<Vec<_>>(),
        ["proto-border", "stale-exception"]
    );
}
