//! What is said of nodes, and what jobs require of it: labels, taints, requirements.
//!
//! The written form is the only form: files, flags, the wire and the store carry it, and [`core::str::FromStr`] reads
//! it. Set-based as in Kubernetes' label selectors.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::shown;

/// Keys that the fleet fills in itself: the node's name, its pool, the model of its GPUs.
pub const OWN_KEYS: [&str; 3] = ["node", "pool", "gpu-model"];
/// The key whose values are names of GPU models, which are matched by their words.
const GPU_MODEL: &str = "gpu-model";
/// They stand in tables.
const KEY_LEN_MAX: usize = 63;
/// The length of a host name.
const VALUE_LEN_MAX: usize = 253;
/// More values in one list are a mistake.
const VALUES_MAX: usize = 64;

/// Labels by key.
pub type Labels = BTreeMap<String, String>;

/// What one key must be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Is {
    /// There, with one of these values.
    In(BTreeSet<String>),
    /// Not there, or with another value than these.
    NotIn(BTreeSet<String>),
    /// There.
    Present,
    /// Not there.
    Absent,
}

/// What a node's labels must be: `key`, `!key`, `key=a`, `key!=a`, `key in (a,b)`, `key notin (a,b)`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Requirement {
    /// Of which label.
    pub key: String,
    /// What.
    pub is: Is,
}

/// What keeps work away that does not tolerate it, and work that does: `key` or `key=value`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value; as a toleration none is any.
    pub value: Option<String>,
}

/// What is no label, requirement or taint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelProblem {
    /// Not a key.
    #[error(
        "`{0}` cannot be a label's key: 1 to {KEY_LEN_MAX} letters, digits, `-`, `_`, `.` or `/`, a letter or digit first"
    )]
    Key(String),
    /// Not a value.
    #[error(
        "`{0}` cannot be a label's value: at most {VALUE_LEN_MAX} letters, digits, `-`, `_`, `.`, `/`, `:` or `+`"
    )]
    Value(String),
    /// Not understood.
    #[error(
        "`{0}` is no requirement: write `key=value`, `key!=value`, `key in (a,b)`, `key notin (a,b)`, `key` or `!key`"
    )]
    Requirement(String),
    /// Too many values.
    #[error("more than {VALUES_MAX} values for `{0}`: label the nodes that are meant instead")]
    Values(String),
}

const fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/')
}

/// Checks the key of a label or taint.
///
/// # Errors
/// When it is none.
pub fn label_key(text: &str) -> Result<String, LabelProblem> {
    let first = text
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    if first && text.len() <= KEY_LEN_MAX && text.bytes().all(is_key_byte) {
        Ok(text.into())
    } else {
        Err(LabelProblem::Key(shown(text)))
    }
}

/// Checks the value of a label or taint; it may be empty.
///
/// # Errors
/// When it is none.
pub fn label_value(text: &str) -> Result<String, LabelProblem> {
    let right = |byte: u8| is_key_byte(byte) || matches!(byte, b':' | b'+');
    if text.len() <= VALUE_LEN_MAX && text.bytes().all(right) {
        Ok(text.into())
    } else {
        Err(LabelProblem::Value(shown(text)))
    }
}

/// A text as a label's value: what cannot stand in one becomes `-`.
pub fn as_label_value(text: &str) -> String {
    let clean = |c: char| {
        let stays = u8::try_from(c).is_ok_and(|byte| is_key_byte(byte) || matches!(byte, b':' | b'+'));
        if stays { c } else { '-' }
    };
    text.chars().take(VALUE_LEN_MAX).map(clean).collect()
}

impl Requirement {
    /// True if a node with these labels will do.
    pub fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        let among = |values: &BTreeSet<String>| {
            value.is_some_and(|value| {
                values.contains(value)
                    || self.key == GPU_MODEL && values.iter().any(|asked| is_model(value, asked))
            })
        };
        match &self.is {
            Is::In(values) => among(values),
            Is::NotIn(values) => !among(values),
            Is::Present => value.is_some(),
            Is::Absent => value.is_none(),
        }
    }
}

/// True if a GPU's model is the one asked for, or one of the words of its name is: `A100` of `NVIDIA-A100-SXM4-40GB`.
fn is_model(model: &str, asked: &str) -> bool {
    let words = |c: char| !c.is_ascii_alphanumeric();
    model.eq_ignore_ascii_case(asked) || model.split(words).any(|word| word.eq_ignore_ascii_case(asked))
}

impl Taint {
    /// True if work that tolerates this may go where the taint is.
    pub fn tolerates(&self, taint: &Self) -> bool {
        self.key == taint.key && (self.value.is_none() || self.value == taint.value)
    }
}

fn values(key: &str, list: &str) -> Result<BTreeSet<String>, LabelProblem> {
    let values: BTreeSet<String> = list
        .split(',')
        .map(|value| label_value(value.trim()))
        .collect::<Result<_, _>>()?;
    if values.len() > VALUES_MAX {
        return Err(LabelProblem::Values(key.into()));
    }
    Ok(values)
}

impl FromStr for Requirement {
    type Err = LabelProblem;

    fn from_str(text: &str) -> Result<Self, LabelProblem> {
        let text = text.trim();
        let bad = || LabelProblem::Requirement(shown(text));
        let one = |value: &str| Ok([label_value(value.trim())?].into_iter().collect());
        let (key, is) = if let Some(key) = text.strip_prefix('!') {
            (key, Is::Absent)
        } else if let Some((key, value)) = text.split_once("!=") {
            (key, Is::NotIn(one(value)?))
        } else if let Some((key, value)) = text.split_once('=') {
            // `==` is what some are used to.
            (key, Is::In(one(value.strip_prefix('=').unwrap_or(value))?))
        } else if let Some((head, list)) = text.split_once('(') {
            let list = list.strip_suffix(')').ok_or_else(bad)?;
            let mut words = head.split_whitespace();
            let (key, word) = (words.next().ok_or_else(bad)?, words.next().ok_or_else(bad)?);
            let values = values(key, list)?;
            match (word, words.next()) {
                ("in", None) => (key, Is::In(values)),
                ("notin", None) => (key, Is::NotIn(values)),
                _ => return Err(bad()),
            }
        } else if text.contains(char::is_whitespace) || text.is_empty() {
            return Err(bad());
        } else {
            (text, Is::Present)
        };
        let key = label_key(key.trim())?;
        Ok(Self { key, is })
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let list =
            |values: &BTreeSet<String>| values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        let only = |values: &BTreeSet<String>| values.iter().next().filter(|_| values.len() == 1).cloned();
        match &self.is {
            Is::In(values) => match only(values) {
                Some(value) => write!(f, "{key}={value}"),
                None => write!(f, "{key} in ({})", list(values)),
            },
            Is::NotIn(values) => match only(values) {
                Some(value) => write!(f, "{key}!={value}"),
                None => write!(f, "{key} notin ({})", list(values)),
            },
            Is::Present => f.write_str(key),
            Is::Absent => write!(f, "!{key}"),
        }
    }
}

impl FromStr for Taint {
    type Err = LabelProblem;

    fn from_str(text: &str) -> Result<Self, LabelProblem> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(label_value(value)?)),
            None => (text, None),
        };
        let key = label_key(key)?;
        Ok(Self { key, value })
    }
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}", self.key),
            None => f.write_str(&self.key),
        }
    }
}

/// One change of a node's labels or taints: `key=value` sets, `key` sets without a value, `key-` takes away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Of which key.
    pub key: String,
    /// The new value; none: it goes.
    pub value: Option<String>,
}

impl FromStr for Mark {
    type Err = LabelProblem;

    fn from_str(text: &str) -> Result<Self, LabelProblem> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(label_value(value)?)),
            None => match text.strip_suffix('-') {
                Some(key) => (key, None),
                None => (text, Some(String::new())),
            },
        };
        let key = label_key(key)?;
        Ok(Self { key, value })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}", self.key),
            None => write!(f, "{}-", self.key),
        }
    }
}

/// Labels or taints in one line, `a=1,b=`; neither keys nor values hold a comma.
pub fn labels_text(labels: &Labels) -> String {
    let one = |(key, value): (&String, &String)| alloc::format!("{key}={value}");
    labels.iter().map(one).collect::<Vec<_>>().join(",")
}

/// Reads what [`labels_text`] wrote.
///
/// # Errors
/// At the first part that is no label.
pub fn labels_from_text(text: &str) -> Result<Labels, LabelProblem> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    let one = |part: &str| {
        let (key, value) = part
            .split_once('=')
            .ok_or_else(|| LabelProblem::Key(shown(part)))?;
        Ok((label_key(key)?, label_value(value)?))
    };
    parts.map(one).collect()
}

/// The taints among labels-like pairs: an empty value is a taint without one.
pub fn taints_of(pairs: &Labels) -> BTreeSet<Taint> {
    let one = |(key, value): (&String, &String)| Taint {
        key: key.clone(),
        value: (!value.is_empty()).then(|| value.to_string()),
    };
    pairs.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let own = |(key, value): &(&str, &str)| ((*key).to_string(), (*value).to_string());
        pairs.iter().map(own).collect()
    }

    fn holds(requirement: &str, pairs: &[(&str, &str)]) -> bool {
        requirement.parse::<Requirement>().unwrap().holds(&labels(pairs))
    }

    #[test]
    fn each_form_says_what_it_says() {
        let eu = [("zone", "eu")];
        for (requirement, with, without) in [
            ("zone=eu", true, false),
            ("zone == eu", true, false),
            ("zone!=eu", false, true),
            ("zone in (us, eu)", true, false),
            ("zone notin (us,eu)", false, true),
            ("zone", true, false),
            ("!zone", false, true),
        ] {
            assert_eq!(holds(requirement, &eu), with, "{requirement}");
            assert_eq!(holds(requirement, &[]), without, "{requirement}");
        }
        assert!(!holds("zone=eu", &[("zone", "us")]) && holds("zone!=eu", &[("zone", "us")]));
    }

    #[test]
    fn a_gpu_model_is_found_by_a_word_of_its_name() {
        let model = [("gpu-model", "NVIDIA-A100-SXM4-40GB")];
        assert!(holds("gpu-model=A100", &model) && holds("gpu-model in (h100,a100)", &model));
        assert!(!holds("gpu-model=A10", &model) && !holds("gpu-model!=A100", &model));
        assert!(!holds("other=A100", &[("other", "NVIDIA-A100")]));
        assert_eq!(as_label_value("NVIDIA A100 (40GB)"), "NVIDIA-A100--40GB-");
    }

    #[test]
    fn what_is_none_is_refused_in_one_short_sentence() {
        let long = "x".repeat(10_000);
        for wrong in [
            "",
            "a b",
            "in (a)",
            "a in b",
            "a in (b",
            "a is (b)",
            "a in in (b)",
            "!",
            "=b",
            "ä=b",
            "a=b c",
            "a in (b;c)",
            &long,
            &alloc::format!("a={long}"),
            &alloc::format!("{long}=a"),
            &alloc::format!("a in ({long})"),
        ] {
            let problem = wrong.parse::<Requirement>().unwrap_err().to_string();
            assert!(problem.len() < 300, "{problem}");
            assert!(problem.contains(": "), "it says what would be right: {problem}");
        }
        let many: Vec<String> = (0..65).map(|n| n.to_string()).collect();
        let many = alloc::format!("a in ({})", many.join(","));
        assert!(matches!(
            many.parse::<Requirement>(),
            Err(LabelProblem::Values(_))
        ));
        assert!(
            "a b".parse::<Taint>().is_err()
                && "a=b,c".parse::<Mark>().is_err()
                && "-".parse::<Mark>().is_err()
        );
    }

    #[test]
    fn taints_are_tolerated_by_key_or_by_key_and_value() {
        let taint = |text: &str| text.parse::<Taint>().unwrap();
        let tolerates = |a: &str, b: &str| taint(a).tolerates(&taint(b));
        assert!(tolerates("gpu", "gpu=only") && tolerates("gpu=only", "gpu=only") && tolerates("gpu", "gpu"));
        assert!(!tolerates("gpu=only", "gpu") && !tolerates("gpu=a", "gpu=b") && !tolerates("a", "b"));
    }

    #[test]
    fn marks_set_and_take_away() {
        let mark = |text: &str| text.parse::<Mark>().map(|mark| (mark.key, mark.value)).unwrap();
        assert_eq!(mark("a=b"), ("a".into(), Some("b".into())));
        assert_eq!(mark("a"), ("a".into(), Some(String::new())));
        assert_eq!(mark("a-"), ("a".into(), None));
        assert_eq!(mark("a-b-"), ("a-b".into(), None));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(key in "[a-z][a-z0-9./_-]{0,8}", values in prop::collection::btree_set("[a-z0-9.:+-]{0,5}", 1..4), which in 0..4) {
            let is = match which {
                0 => Is::In(values),
                1 => Is::NotIn(values),
                2 => Is::Present,
                _ => Is::Absent,
            };
            let requirement = Requirement { key, is };
            prop_assert_eq!(requirement.to_string().parse::<Requirement>().unwrap(), requirement);
        }

        #[test]
        fn nothing_that_is_typed_panics(text in ".{0,40}") {
            let _ = text.parse::<Requirement>();
            let _ = text.parse::<Taint>();
            let _ = text.parse::<Mark>();
            let _ = labels_from_text(&text);
        }

        #[test]
        fn labels_survive_their_text(labels in prop::collection::btree_map("[a-z][a-z0-9-]{0,8}", "[a-z0-9.:+-]{0,5}", 0..4)) {
            prop_assert_eq!(labels_from_text(&labels_text(&labels)).unwrap(), labels);
        }
    }
}
