//! What the file says, before it is checked: a tree in which nothing is lost, so that no mistake hides another.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;

use super::PolicyMistake;
use crate::slo::fixed::{Millionths, ParseMillionthsError};

/// A value as the file has it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum RawValue {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Whole(i64),
    /// A number with a point.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<RawValue>),
    /// A table.
    Table(BTreeMap<String, RawValue>),
}

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct RawNodePolicy(pub BTreeMap<String, RawValue>);

impl RawValue {
    fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "true or false",
            Self::Whole(_) => "a number",
            Self::Float(_) => "a number with a point",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Collects mistakes while the tree is read.
#[derive(Debug, Default)]
pub(super) struct Mistakes(pub(super) Vec<PolicyMistake>);

impl Mistakes {
    pub(super) fn add(&mut self, key: &str, problem: impl Into<String>) {
        self.0.push(PolicyMistake {
            key: key.into(),
            problem: problem.into(),
        });
    }

    fn wrong_kind(&mut self, key: &str, wanted: &str, got: &RawValue) {
        self.add(key, format!("must be {wanted}, not {}", got.kind()));
    }
}

/// One table of the file; every key that is read is taken out, what remains is unknown.
#[derive(Debug)]
pub(super) struct Section {
    path: String,
    table: BTreeMap<String, RawValue>,
    known: Vec<&'static str>,
    taken: Vec<&'static str>,
}

impl Section {
    pub(super) fn new(path: &str, table: BTreeMap<String, RawValue>) -> Self {
        Self {
            path: path.into(),
            table,
            known: Vec::new(),
            taken: Vec::new(),
        }
    }

    /// The full name of a key of this table.
    pub(super) fn key(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.into()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    pub(super) fn take(&mut self, name: &'static str) -> Option<RawValue> {
        self.known.push(name);
        let value = self.table.remove(name);
        if value.is_some() {
            self.taken.push(name);
        }
        value
    }

    pub(super) fn text(&mut self, name: &'static str, mistakes: &mut Mistakes) -> Option<String> {
        match self.take(name)? {
            RawValue::Text(text) => Some(text),
            other => {
                mistakes.wrong_kind(&self.key(name), "a text in quotes", &other);
                None
            }
        }
    }

    /// A text that is read by a rule; the rule's own words say what is wrong.
    pub(super) fn parsed<T: core::str::FromStr<Err: core::fmt::Display>>(
        &mut self,
        name: &'static str,
        mistakes: &mut Mistakes,
    ) -> Option<T> {
        let text = self.text(name, mistakes)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                mistakes.add(&self.key(name), format!("{error}"));
                None
            }
        }
    }

    pub(super) fn whole(
        &mut self,
        name: &'static str,
        rule: &str,
        range: core::ops::RangeInclusive<u32>,
        mistakes: &mut Mistakes,
    ) -> Option<u32> {
        let value = self.take(name)?;
        let whole = match &value {
            RawValue::Whole(whole) => u32::try_from(*whole).ok().filter(|whole| range.contains(whole)),
            other => {
                mistakes.wrong_kind(&self.key(name), "a whole number", other);
                return None;
            }
        };
        if whole.is_none() {
            mistakes.add(&self.key(name), rule);
        }
        whole
    }

    pub(super) fn flag(&mut self, name: &'static str, mistakes: &mut Mistakes) -> Option<bool> {
        match self.take(name)? {
            RawValue::Bool(flag) => Some(flag),
            other => {
                mistakes.wrong_kind(&self.key(name), "true or false", &other);
                None
            }
        }
    }

    /// A number with or without a point, exact to the millionth.
    pub(super) fn number(
        &mut self,
        name: &'static str,
        mistakes: &mut Mistakes,
    ) -> Option<Result<Millionths, ParseMillionthsError>> {
        match self.take(name)? {
            RawValue::Whole(whole) => Some(format!("{whole}").parse()),
            // Printed, a float is the shortest text that means it: the one in the file, or as good.
            RawValue::Float(float) => Some(format!("{float}").parse()),
            other => {
                mistakes.wrong_kind(&self.key(name), "a number", &other);
                None
            }
        }
    }

    /// True if the file has this key.
    pub(super) fn had(&self, name: &str) -> bool {
        self.taken.contains(&name)
    }

    pub(super) fn table(&mut self, name: &'static str, mistakes: &mut Mistakes) -> Option<Section> {
        let path = self.key(name);
        match self.take(name)? {
            RawValue::Table(table) => Some(Self::new(&path, table)),
            other => {
                mistakes.wrong_kind(&path, "a table", &other);
                None
            }
        }
    }

    /// A list of tables, each with its place in its path.
    pub(super) fn tables(&mut self, name: &'static str, mistakes: &mut Mistakes) -> Vec<Section> {
        let path = self.key(name);
        let mut sections = Vec::new();
        for (index, value) in self.list(name, mistakes).into_iter().flatten().enumerate() {
            let path = format!("{path}[{index}]");
            match value {
                RawValue::Table(table) => sections.push(Self::new(&path, table)),
                other => mistakes.wrong_kind(&path, "a table like `{ … }`", &other),
            }
        }
        sections
    }

    /// A list of texts, none empty.
    pub(super) fn texts(&mut self, name: &'static str, mistakes: &mut Mistakes) -> Option<Vec<String>> {
        let path = self.key(name);
        let mut texts = Vec::new();
        for (index, value) in self.list(name, mistakes)?.into_iter().enumerate() {
            let path = format!("{path}[{index}]");
            match value {
                RawValue::Text(text) if text.trim().is_empty() => mistakes.add(&path, "must not be empty"),
                RawValue::Text(text) => texts.push(text),
                other => mistakes.wrong_kind(&path, "a text in quotes", &other),
            }
        }
        Some(texts)
    }

    fn list(&mut self, name: &'static str, mistakes: &mut Mistakes) -> Option<Vec<RawValue>> {
        match self.take(name)? {
            RawValue::List(list) => Some(list),
            other => {
                mistakes.wrong_kind(&self.key(name), "a list like `[ … ]`", &other);
                None
            }
        }
    }

    /// Reports what nobody asked for. Tables named `x-…` belong to newer versions and are left alone.
    pub(super) fn finish(self, mistakes: &mut Mistakes) {
        for (name, value) in &self.table {
            if name.starts_with("x-") && matches!(value, RawValue::Table(_)) {
                continue;
            }
            let known: Vec<String> = self.known.iter().map(|known| format!("`{known}`")).collect();
            let near = self.known.iter().find(|known| is_near(known, name));
            let hint = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", known.join(", ")),
            };
            mistakes.add(&self.key(name), format!("unknown key; {hint}"));
        }
    }
}

/// True if two keys differ by one slip: a letter more, less or other, or `-` for `_`.
fn is_near(a: &str, b: &str) -> bool {
    let clean = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let (a, b) = (clean(a), clean(b));
    let prefix = a.chars().zip(b.chars()).take_while(|(x, y)| x == y).count();
    let rest = |text: &str, skip: usize| text.chars().skip(prefix + skip).collect::<String>();
    a == b || rest(&a, 1) == rest(&b, 1) || rest(&a, 0) == rest(&b, 1) || rest(&a, 1) == rest(&b, 0)
}
