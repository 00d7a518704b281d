//! Man pages and completions, written from the same definition that parses the command line.

use std::fs;
use std::io;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;

/// One page for `fleet` and one for each of its commands, like `fleet-run.1`.
///
/// # Errors
/// When a file cannot be written.
pub fn man(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    pages(&root, "fleet", dir)
}

fn pages(command: &Command, name: &str, dir: &Path) -> io::Result<()> {
    let page = command
        .clone()
        .display_name(name)
        .bin_name(name.replace('-', " "));
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    fs::write(dir.join(format!("{name}.1")), text)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        pages(sub, &format!("{name}-{}", sub.get_name()), dir)?;
    }
    Ok(())
}

/// One script for each of the shells that Debian and Fedora ship completions for.
///
/// # Errors
/// When a file cannot be written.
pub fn completions(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for (shell, file) in [
        (Shell::Bash, "fleet"),
        (Shell::Zsh, "_fleet"),
        (Shell::Fish, "fleet.fish"),
    ] {
        let mut script = Vec::new();
        print_completions(shell, &mut script);
        fs::write(dir.join(file), script)?;
    }
    Ok(())
}

/// The script of one shell.
pub fn print_completions(shell: Shell, out: &mut impl io::Write) {
    clap_complete::generate(shell, &mut Cli::command(), "fleet", out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_every_shell_a_script() {
        Cli::command().debug_assert();
        let dir = tempfile::tempdir().unwrap();
        man(dir.path()).unwrap();
        completions(dir.path()).unwrap();
        let text = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(
            text("fleet-run.1").contains("on-node-lost") || text("fleet-run.1").contains("on\\-node\\-lost")
        );
        assert!(text("fleet-node-drain.1").contains("Place nothing new there"));
        assert!(text("fleet.1").contains("Exit codes"));
        assert!(!dir.path().join("fleet-generate.1").exists());
        for (script, word) in [
            ("fleet", "complete"),
            ("_fleet", "#compdef fleet"),
            ("fleet.fish", "complete -c fleet"),
        ] {
            assert!(text(script).contains(word), "{script}");
        }
    }
}
