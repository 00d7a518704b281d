//! Every rule fires on a bad sample and stays silent on its mended twin.

use super::*;

/// A rule, a file that breaks it, and the same file mended.
struct Sample {
    rule: &'static str,
    path: &'static str,
    bad: String,
    good: String,
}

fn sample(rule: &'static str, path: &'static str, bad: &str, good: &str) -> Sample {
    Sample {
        rule,
        path,
        bad: bad.into(),
        good: good.into(),
    }
}

/// Rust code, with the doc that every file needs.
fn rust(rule: &'static str, path: &'static str, bad: &str, good: &str) -> Sample {
    let with_doc = |code: &str| format!("//! Why.\n{code}\n");
    sample(rule, path, &with_doc(bad), &with_doc(good))
}

fn lengths() -> Vec<Sample> {
    let lines = |count: usize| format!("//! Why.\n{}", "let a = 1;\n".repeat(count - 1));
    let inline = |count: usize| {
        format!(
            "//! Why.\n#[cfg(test)]\nmod tests {{\n{}}}\n",
            "    // a\n".repeat(count - 3)
        )
    };
    let by = |rule, path, bad, good| sample(rule, path, &lines(bad), &lines(good));
    vec![
        by("production-size", "agent/src/a.rs", 501, 500),
        by("production-size", "python/a.py", 501, 500),
        by("production-size", "tests/src/testbed/a.rs", 501, 500),
        sample("inline-test-size", "agent/src/a.rs", &inline(201), &inline(200)),
        by("test-file-size", "agent/tests/a.rs", 1001, 1000),
        by("test-file-size", "fleet/src/store/tests.rs", 1001, 501),
        by("main-size", "fleet/src/main.rs", 101, 100),
        by("main-size", "agent/src/bin/warden.rs", 101, 100),
    ]
}

fn words() -> Vec<Sample> {
    let file = "agent/src/a.rs";
    vec![
        sample("module-doc", file, "fn a() {}\n", "//! Why.\nfn a() {}\n"),
        sample("unfinished", "README.md", concat!("FIX", "ME later"), "done"),
        rust(
            "unfinished",
            file,
            concat!("fn a() { to", "do!() }"),
            "// to do: nothing",
        ),
        rust(
            "unfinished",
            file,
            concat!("fn a() { db", "g!(1) }"),
            "fn a() { debug(1) }",
        ),
        rust(
            "catch-all-error",
            file,
            "impl From<String> for AnError {",
            "impl From<Id> for AnError {",
        ),
    ]
}

fn borders() -> Vec<Sample> {
    let plan = "use loadline_policy::allocation::allocate;";
    let settings = "use loadline_policy::settings::Limit;";
    let place = "use loadline_placement::Plan;";
    let id = "use loadline_model::Id;";
    vec![
        rust(
            "proto-border",
            "agent/src/a.rs",
            "use loadline_proto::v1::Hello;",
            "use crate::wire::Hello;",
        ),
        rust(
            "proto-border",
            "fleet/cli/src/a.rs",
            "fn a(x: loadline_proto::J) {}",
            "// loadline_proto::J",
        ),
        rust(
            "sql-border",
            "fleet/src/a.rs",
            r#"f("SELECT a FROM b");"#,
            r#"f("SELECT one of them");"#,
        ),
        rust(
            "sql-border",
            "fleet/src/a.rs",
            r#"f("UPDATE job SET a = 1");"#,
            r#"f("UPDATE");"#,
        ),
        rust(
            "sql-border",
            "agent/src/agent.rs",
            "use rusqlite::Connection;",
            "use crate::spool::Spool;",
        ),
        rust(
            "kernel-path-border",
            "agent/src/warden.rs",
            r#"f("/proc/stat")"#,
            r#"f("/etc/loadline")"#,
        ),
        rust(
            "kernel-path-border",
            "agent/policy/src/a.rs",
            r#"f("cpu.max")"#,
            r#"f("cpu.max is low")"#,
        ),
        rust(
            "os-crate-border",
            "agent/src/warden.rs",
            "use zbus::Connection;",
            "use crate::host::Systemd;",
        ),
        rust("module-direction", "agent/src/host/cpu.rs", plan, settings),
        rust("module-direction", "fleet/src/store.rs", place, id),
    ]
}

fn manifests() -> Vec<Sample> {
    let direction = |path, bad, good| sample("crate-direction", path, bad, good);
    let pure = |path, bad, good| sample("pure-crate", path, bad, good);
    vec![
        direction(
            "agent/Cargo.toml",
            "[dependencies]\nloadline-fleet.workspace = true\n",
            "[dependencies]\n",
        ),
        direction(
            "fleet/Cargo.toml",
            "[dev-dependencies]\nloadline-node = { path = \"../agent\" }\n",
            "[dependencies]\nloadline-proto.workspace = true\n",
        ),
        direction("extra/Cargo.toml", "[package]\n", ""),
        pure(
            "proto/model/Cargo.toml",
            "[dependencies]\ntokio = \"1\"\n",
            "[dependencies]\n",
        ),
        pure(
            "agent/policy/Cargo.toml",
            "[dependencies]\nserde = \"1\"\n",
            "[dependencies]\nserde = { version = \"1\", default-features = false }\n",
        ),
        pure(
            "fleet/placement/src/lib.rs",
            "//! Why.\n",
            "//! Why.\n#![cfg_attr(not(test), no_std)]\n#![warn(missing_docs)]\n",
        ),
        sample("one-clippy-toml", "agent/clippy.toml", "", ""),
    ]
}

fn samples() -> Vec<Sample> {
    [lengths(), words(), borders(), manifests()]
        .into_iter()
        .flatten()
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
    for Sample {
        rule,
        path,
        bad,
        good,
    } in samples()
    {
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
        .map(|sample| sample.rule)
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
