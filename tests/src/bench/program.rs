//! Measuring programs that are bench targets of other crates: built once, called once for each slice, so that the
//! testbed itself needs nothing of what they measure.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;

/// Builds a bench target, and says where its program is.
pub(super) fn build(root: &Path, package: &str, bench: &str) -> Result<PathBuf> {
    let output = Command::new("cargo")
        .args(["bench", "--locked", "--package", package, "--bench", bench])
        .args(["--no-run", "--message-format", "json-render-diagnostics"])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .context("start cargo")?;
    ensure!(output.status.success(), "cargo bench --no-run: {}", output.status);
    program_of(&String::from_utf8_lossy(&output.stdout)).context("cargo named no program")
}

/// The last executable in cargo's messages, one JSON document a line.
fn program_of(messages: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(Into::into))
        .next_back()
}

/// Runs the program; what it printed, one JSON document a line.
pub(super) fn run<T: DeserializeOwned>(program: &Path, arguments: &[&str]) -> Result<Vec<T>> {
    let output = Command::new(program)
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("start {}", program.display()))?;
    let name = arguments.join(" ");
    ensure!(output.status.success(), "{name}: {}", output.status);
    let printed = String::from_utf8_lossy(&output.stdout);
    let parse =
        |line: &str| serde_json::from_str(line).with_context(|| format!("{name} printed {line:.300}"));
    printed.lines().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_the_last_executable_that_cargo_names() {
        let messages = r#"{"reason":"compiler-artifact","executable":null}
{"reason":"compiler-artifact","executable":"/t/release/deps/store-1"}
{"reason":"build-finished","success":true}
"#;
        assert_eq!(program_of(messages), Some("/t/release/deps/store-1".into()));
        assert_eq!(program_of("{\"reason\":\"build-finished\"}\n"), None);
    }

    #[test]
    fn a_program_that_fails_or_prints_something_else_is_an_error() {
        let shell = Path::new("/bin/sh");
        let run = |script: &str| run::<u32>(shell, &["-c", script]);
        assert_eq!(run("echo 1; echo 2").ok(), Some(vec![1, 2]));
        assert!(run("exit 3").is_err());
        assert!(run("echo no number").is_err());
    }
}
