//! Everything that can go wrong in a call, as the wire says it.

use std::error::Error;

use tonic::{Code, Status};

use crate::audit::AuditError;
use crate::ca::IssueError;
use crate::state::{self, Refused};
use crate::trust::{Denied, Refusal};
use crate::wire::{ErrorDetails, WireError, status};

/// A call that failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) next_step: String,
}

impl Failure {
    pub(crate) fn new(
        code: Code,
        reason: &'static str,
        message: impl Into<String>,
        next_step: impl Into<String>,
    ) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            next_step: next_step.into(),
        }
    }

    pub(crate) fn invalid(message: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, "INVALID_ARGUMENT", message, next_step)
    }

    /// The connection reached its age, or fleetd stops.
    pub(crate) fn draining() -> Self {
        Self::new(
            Code::Unavailable,
            "CONNECTION_ENDS",
            "this connection ends: it has reached its age, or fleetd is stopping",
            "connect again; nothing is lost",
        )
    }

    /// The writer answered something else than what was asked; a mistake in fleetd.
    pub(crate) fn internal(what: &str) -> Self {
        Self::new(
            Code::Internal,
            "INTERNAL",
            what,
            "report this with the request id and fleetd's journal",
        )
    }

    pub(crate) fn into_status(self, request_id: &str) -> Status {
        let details = ErrorDetails {
            reason: self.reason.to_owned(),
            next_step: self.next_step,
            request_id: request_id.to_owned(),
        };
        status(self.code, self.message, details)
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let code = match refused.code() {
            state::Code::InvalidArgument => Code::InvalidArgument,
            state::Code::NotFound => Code::NotFound,
            state::Code::AlreadyExists => Code::AlreadyExists,
            state::Code::FailedPrecondition => Code::FailedPrecondition,
            state::Code::PermissionDenied => Code::PermissionDenied,
            state::Code::ResourceExhausted => Code::ResourceExhausted,
            state::Code::Unavailable => Code::Unavailable,
        };
        Self::new(code, refused.reason(), chain(&refused), refused.next_step())
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        let next_step = match denied {
            Denied::Role { .. } => "ask an administrator for another role: `fleet user` shows yours",
            Denied::NotOwner { .. } => "ask its owner or an operator",
            Denied::Node { .. } | Denied::OtherNode => "use a person's login for this",
            Denied::NotANode => "this is for nodes: use `loadline-agent join`",
        };
        Self::new(Code::PermissionDenied, "DENIED", denied.to_string(), next_step)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let (code, reason) = match refusal {
            Refusal::Banned(_) => (Code::PermissionDenied, "BANNED"),
            Refusal::Unknown(_) => (Code::Unauthenticated, "UNKNOWN_PERSON"),
            Refusal::Server => (Code::PermissionDenied, "NOT_A_CLIENT"),
        };
        Self::new(code, reason, refusal.to_string(), "ask an administrator")
    }
}

impl From<WireError> for Failure {
    fn from(problem: WireError) -> Self {
        let (reason, next_step) = match problem {
            WireError::Spec(_) => ("SPEC_INVALID", "correct the job and submit it again"),
            WireError::Text { .. } => ("INVALID_ARGUMENT", "correct it and try again"),
            _ => ("MALFORMED", "use a client of the same minor version as fleetd"),
        };
        Self::new(Code::InvalidArgument, reason, chain(&problem), next_step)
    }
}

impl From<AuditError> for Failure {
    fn from(error: AuditError) -> Self {
        Self::new(
            Code::ResourceExhausted,
            "AUDIT_UNWRITABLE",
            format!("refused, because it cannot be recorded: {}", chain(&error)),
            "make room on the disk of fleetd's state directory, or see fleetd's journal",
        )
    }
}

impl From<IssueError> for Failure {
    fn from(error: IssueError) -> Self {
        let next_step = match error {
            IssueError::KeyKind => "make a P-256, P-384 or Ed25519 key",
            IssueError::Request(_) => "make a new key and certificate request",
            IssueError::Name { .. } | IssueError::Sign(_) => "see fleetd's journal",
        };
        let code = match error {
            IssueError::KeyKind | IssueError::Request(_) | IssueError::Name { .. } => Code::InvalidArgument,
            IssueError::Sign(_) => Code::Internal,
        };
        Self::new(code, "CERTIFICATE_REFUSED", chain(&error), next_step)
    }
}
