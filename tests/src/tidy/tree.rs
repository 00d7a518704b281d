//! The files of the repository, and what a rule wants to know about one.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::tidy::lexer::{self, Literal};

/// Kinds of files that rules look at.
const KINDS: &[&str] = &[
    "rs", "toml", "sh", "py", "md", "proto", "sql", "service", "slice", "socket", "conf", "yml", "yaml",
];

/// All files that rules look at.
#[derive(Debug, Default)]
pub struct Tree {
    /// In order of their paths.
    pub sources: Vec<Source>,
}

/// One file.
#[derive(Debug)]
pub struct Source {
    /// From the repository's root, with `/`.
    pub path: String,
    /// All of it.
    pub text: String,
}

impl Tree {
    /// Reads the repository at `root`; leaves out what git never holds: hidden folders and build outputs.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.read_folder(root, root)?;
        tree.sources.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    fn read_folder(&mut self, root: &Path, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
            let path = entry
                .with_context(|| format!("read {}", folder.display()))?
                .path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" && name != "__pycache__" {
                    self.read_folder(root, &path)?;
                }
            } else if KINDS
                .iter()
                .any(|kind| path.extension().is_some_and(|extension| extension == *kind))
            {
                let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
                let path = path
                    .strip_prefix(root)
                    .unwrap_or(&path)
                    .to_string_lossy()
                    .into_owned();
                self.sources.push(Source { path, text });
            }
        }
        Ok(())
    }

    /// A tree for tests.
    #[must_use]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let source = |(path, text): &(&str, &str)| Source {
            path: (*path).into(),
            text: (*text).into(),
        };
        Self {
            sources: files.iter().map(source).collect(),
        }
    }

    /// The Rust files.
    pub fn rust(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|source| source.path.ends_with(".rs"))
    }

    /// A file by its path.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.path == path)
    }
}

impl Source {
    /// File name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Does the file hold tests and nothing else?
    #[must_use]
    pub fn is_test_file(&self) -> bool {
        self.path.contains("/tests/") || self.name() == "tests.rs"
    }

    /// Is it no part of what ships? Everything of the `tests` package, every example and every benchmark is not.
    #[must_use]
    pub fn is_test(&self) -> bool {
        let aside = ["/examples/", "/benches/"];
        self.path.starts_with("tests/")
            || aside.iter().any(|folder| self.path.contains(folder))
            || self.is_test_file()
    }

    /// Index of the line with the first top-level `#[cfg(test)]` before an inline module, or the number of lines.
    #[must_use]
    pub fn production_lines(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        (0..lines.len())
            .find(|&at| {
                lines[at].starts_with("#[cfg(test)]")
                    && lines[at + 1..]
                        .iter()
                        .find(|line| !line.starts_with("#["))
                        .is_some_and(|line| line.starts_with("mod ") && line.trim_end().ends_with('{'))
            })
            .unwrap_or(lines.len())
    }

    /// Lines of the inline test module: from its `#[cfg(test)]` to the closing brace.
    #[must_use]
    pub fn inline_test_lines(&self) -> usize {
        let tail = self.text.lines().skip(self.production_lines());
        let length = tail.clone().take_while(|line| *line != "}").count();
        if tail.clone().nth(length).is_some() {
            length + 1
        } else {
            length
        }
    }

    /// Text before the inline test module; nothing for a test file.
    #[must_use]
    pub fn production(&self) -> String {
        if self.is_test() {
            return String::new();
        }
        self.text
            .lines()
            .take(self.production_lines())
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Code of the production part: comments and the contents of literals blanked out, line by line.
    #[must_use]
    pub fn production_code(&self) -> Vec<String> {
        lexer::code(&self.production()).lines().map(Into::into).collect()
    }

    /// String literals of the production part.
    #[must_use]
    pub fn production_literals(&self) -> Vec<Literal> {
        lexer::literals(&self.production())
    }
}
