//! An interference test of a node, and what the last one came to.

use loadline_model::Span;
use serde::Serialize;

use super::Moment;

/// Silence that is worth a word; nodes speak every 5 s.
const SILENT: Span = Span::from_secs(15);

/// The newest test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProveRun {
    /// Its id.
    pub run_id: String,
    /// Who asked for it.
    pub by: String,
    /// When.
    pub begun_at: Moment,
    /// `ordered`, `running`, `stopping`, then one of `reported`, `refused`, `stopped`, `failed`, `lost`.
    pub stage: String,
    /// What it does just now, or why it came to nothing.
    pub sentence: String,
    /// For how long the node had been silent when this was asked.
    #[serde(skip)]
    pub silence: Span,
}

impl ProveRun {
    /// True once nothing more is expected.
    pub fn is_over(&self) -> bool {
        !matches!(self.stage.as_str(), "ordered" | "running" | "stopping")
    }

    /// True if the node has been silent for so long that it is worth a word.
    pub fn is_silent(&self) -> bool {
        self.silence > SILENT
    }
}

/// What a test came to. The texts are the node's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProveLast {
    /// Of which test.
    pub run_id: String,
    /// Who asked for it.
    pub by: String,
    /// When it came.
    pub at: Moment,
    /// For a screen.
    pub text: String,
    /// Signed.
    pub json: String,
    /// A page; empty: it was too large.
    pub html: String,
    /// It came to its end and left nothing behind.
    pub whole: bool,
    /// Lent work cost production something.
    pub cost: bool,
}

/// Both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProveView {
    /// The newest test; none: none was ever begun.
    pub run: Option<ProveRun>,
    /// The newest report; none: none is kept.
    pub last: Option<ProveLast>,
}
