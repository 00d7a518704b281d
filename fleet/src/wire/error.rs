//! Errors on the wire: a gRPC status whose details are an `ErrorInfo`.

use loadline_model::{ParseIdError, SpecProblems};
use loadline_proto::types::v1::ErrorInfo;
use prost::Message;
use tonic::{Code, Status};

/// A message that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A field without which the rest means nothing.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// Not 16 bytes where an id belongs.
    #[error("`{field}` is not an id")]
    Id {
        /// Which field.
        field: &'static str,
        /// Why.
        #[source]
        source: ParseIdError,
    },
    /// A value that does not exist in this version.
    #[error("`{field}` cannot be `{value}`")]
    Value {
        /// Which field.
        field: &'static str,
        /// What it was.
        value: String,
    },
    /// What a person wrote, and is not what belongs there: a label, a job to wait for, a time of the week.
    #[error("{field}: {problem}")]
    Text {
        /// Which field.
        field: &'static str,
        /// Why, and what would be right.
        problem: String,
    },
    /// The job's specification is not valid; the message names every mistake.
    #[error("{0}")]
    Spec(SpecProblems),
}

/// What goes into a status beside its code and message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorDetails {
    /// UPPER_SNAKE, stable.
    pub reason: String,
    /// What to do.
    pub next_step: String,
    /// Names the call in fleetd's log and audit.
    pub request_id: String,
}

/// A status with its details.
pub fn status(code: Code, message: impl Into<String>, details: ErrorDetails) -> Status {
    let ErrorDetails {
        reason,
        next_step,
        request_id,
    } = details;
    let info = ErrorInfo {
        reason,
        next_step,
        request_id,
    };
    Status::with_details(code, message, info.encode_to_vec().into())
}

impl ErrorDetails {
    /// Reads them back, for clients and tests.
    pub fn of(status: &Status) -> Option<Self> {
        let ErrorInfo {
            reason,
            next_step,
            request_id,
        } = ErrorInfo::decode(status.details()).ok()?;
        Some(Self {
            reason,
            next_step,
            request_id,
        })
    }
}
