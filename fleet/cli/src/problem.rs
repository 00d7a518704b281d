//! Every way in which a command fails: one sentence, a next step, an exit code. Never a stack trace.

use std::error::Error;
use std::io;

use serde::Serialize;

use crate::args::Format;
use crate::exit::Exit;
use crate::identity::IdentityError;
use crate::job::JobError;
use crate::tls::ConnectError;
use crate::token::TokenError;
use crate::view::ProveRun;
use crate::wire::{CallError, Kind, ParseJobRefError};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// No event loop.
    #[error("cannot start")]
    Runtime {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no job in what was written.
    #[error(transparent)]
    Job(#[from] JobError),
    /// There is no usable identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The token is none.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The job's name is none.
    #[error(transparent)]
    JobRef(#[from] ParseJobRefError),
    /// A word on the command line is wrong.
    #[error("{flag}: {problem}")]
    Word {
        /// Which.
        flag: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The key or the request for a certificate cannot be made.
    #[error("cannot make a key and a request for a certificate")]
    Key {
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// Output went nowhere.
    #[error("cannot print")]
    Print {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Standard input, a folder or a file for packages.
    #[error("cannot {what}")]
    File {
        /// What was tried.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The time given with `--timeout` is over.
    #[error("job {job} is not done after {time}")]
    NotDone {
        /// Which.
        job: String,
        /// The time, as written.
        time: String,
    },
    /// A test came to nothing, or was ended.
    #[error("the test on {node} {}{}", how(stage), because(sentence))]
    NotProved {
        /// Where.
        node: String,
        /// How it ended.
        stage: String,
        /// Why.
        sentence: String,
    },
    /// Nothing is known of a test there.
    #[error("no report of a test of {node} is kept")]
    NoReport {
        /// Where.
        node: String,
    },
    /// The node left it out.
    #[error("the report came without its page, which would have been too large")]
    NoPage,
    /// The fleet did not come back.
    #[error("the fleet has been out of reach for too long")]
    Gone {
        /// How the job is named, if it is known.
        job: Option<u64>,
        /// What happened last.
        #[source]
        source: Box<Problem>,
    },
}

/// How a test ended, after its name.
fn how(stage: &str) -> &str {
    match stage {
        "refused" => "did not begin",
        "stopped" => "was ended",
        "lost" => "is given up",
        _ => "came to nothing",
    }
}

fn because(sentence: &str) -> String {
    match sentence {
        "" => String::new(),
        why => format!(": {why}"),
    }
}

#[derive(Serialize)]
struct Told<'a> {
    error: Object<'a>,
}

#[derive(Serialize)]
struct Object<'a> {
    reason: &'a str,
    sentence: &'a str,
    next_step: &'a str,
    request_id: &'a str,
    exit_code: u8,
}

impl Problem {
    /// What became of a test without a report.
    pub fn not_proved(node: &str, run: &ProveRun) -> Self {
        Self::NotProved {
            node: node.into(),
            stage: run.stage.clone(),
            sentence: run.sentence.clone(),
        }
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Job(_) | Self::Token(_) | Self::JobRef(_) | Self::Word { .. } => Exit::Usage,
            Self::Identity(IdentityError::Missing { .. }) | Self::Connect(ConnectError::Expired { .. }) => {
                Exit::Denied
            }
            Self::Connect(ConnectError::Identity { .. }) => Exit::Denied,
            Self::Connect(_) | Self::Gone { .. } => Exit::Unreachable,
            Self::Call(call) => match call.kind {
                Kind::Failed => Exit::Failed,
                Kind::Invalid => Exit::Usage,
                Kind::NotFound => Exit::NotFound,
                Kind::Denied => Exit::Denied,
                Kind::Unreachable => Exit::Unreachable,
            },
            Self::Runtime { .. }
            | Self::Identity(_)
            | Self::Key { .. }
            | Self::Print { .. }
            | Self::File { .. }
            | Self::NotProved { .. }
            | Self::NoPage
            | Self::NotDone { .. } => Exit::Failed,
            Self::NoReport { .. } => Exit::NotFound,
        }
    }

    /// What to do; empty: the sentence says all.
    pub fn next_step(&self) -> String {
        match self {
            Self::Job(error) => error.next_step(),
            Self::Connect(error) => error.next_step(),
            Self::Call(error) => error.next_step.clone(),
            Self::Identity(IdentityError::Missing { .. }) => {
                "ask an operator for a token (`fleet token login YOUR-NAME`), then type `fleet login TOKEN`"
                    .into()
            }
            Self::Identity(IdentityError::Damaged { .. }) => "log in again: `fleet login TOKEN`".into(),
            Self::Identity(IdentityError::NoHome) => "say where: --config DIR".into(),
            Self::Identity(IdentityError::Read { .. } | IdentityError::Write { .. }) => {
                "check its permissions and the space on the disk".into()
            }
            Self::Token(TokenError::ForNode) => {
                "on the node, as root, type `loadline-agent join TOKEN`".into()
            }
            Self::Token(_) => "copy the whole token, or ask for a new one".into(),
            Self::JobRef(_) => "`fleet jobs --all` lists them".into(),
            Self::Gone { job: Some(job), .. } => format!("the job goes on; later: `fleet wait {job}`"),
            Self::Gone { job: None, .. } => "whether the fleet has the job, `fleet jobs` will say".into(),
            Self::NotDone { job, .. } => format!("`fleet job {job}` says where it stands"),
            Self::NotProved { stage, .. } if stage == "refused" => {
                "see that this is otherwise, and test again".into()
            }
            Self::NotProved { node, .. } => format!("`fleet node show {node}` says how the node is"),
            Self::NoReport { node } => format!("`fleet prove {node}` makes one"),
            Self::NoPage => "the text and the JSON are whole; fewer rounds make a smaller page".into(),
            Self::Word { .. } => "`--help` shows how it is written".into(),
            Self::Runtime { .. } | Self::Key { .. } | Self::Print { .. } | Self::File { .. } => String::new(),
        }
    }

    /// The chain of causes, joined once.
    pub fn sentence(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let more = error.to_string();
            // Layers below sometimes print their cause themselves.
            if !text.ends_with(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            cause = error.source();
        }
        text
    }

    /// What the person reads, or the program that asked for JSON.
    pub fn told(&self, format: Format) -> String {
        let (sentence, next_step) = (self.sentence(), self.next_step());
        let (reason, request_id) = match self {
            Self::Call(call) => (call.reason.as_str(), call.request_id.as_str()),
            _ => (self.reason(), ""),
        };
        if format == Format::Json {
            let error = Object {
                reason,
                sentence: &sentence,
                next_step: &next_step,
                request_id,
                exit_code: self.exit().code(),
            };
            // Texts and a number always have a JSON form.
            return serde_json::to_string(&Told { error }).unwrap_or(sentence);
        }
        let mut text = format!("fleet: {}", crate::text::lines_printable(&sentence));
        if !next_step.is_empty() {
            text.push_str(&format!("\n  next: {next_step}"));
        }
        // It finds the call in fleetd's records, where one has to look when the sentence does not help.
        if !request_id.is_empty() && matches!(self.exit(), Exit::Failed | Exit::Unreachable) {
            text.push_str(&format!("\n  request {request_id}"));
        }
        text
    }

    const fn reason(&self) -> &'static str {
        match self {
            Self::Job(_) | Self::Word { .. } | Self::JobRef(_) => "USAGE",
            Self::Token(_) => "TOKEN",
            Self::Identity(IdentityError::Missing { .. }) => "NOT_LOGGED_IN",
            Self::Identity(_) | Self::Key { .. } => "IDENTITY",
            Self::Connect(ConnectError::Expired { .. }) => "CERTIFICATE_EXPIRED",
            Self::Connect(_) | Self::Gone { .. } => "UNREACHABLE",
            Self::NotDone { .. } => "NOT_DONE",
            Self::NotProved { .. } => "NOT_PROVED",
            Self::NoReport { .. } | Self::NoPage => "NO_REPORT",
            Self::Call(_) | Self::Runtime { .. } | Self::Print { .. } | Self::File { .. } => "FAILED",
        }
    }
}

impl From<io::Error> for Problem {
    /// Only output is written without a word about what was tried.
    fn from(source: io::Error) -> Self {
        Self::Print { source }
    }
}
