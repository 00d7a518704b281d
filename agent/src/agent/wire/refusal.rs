//! A failed call as people read it: what, and what to do next.

use loadline_proto::types::v1::ErrorInfo;
use prost::Message;
use tonic::{Code, Status};

/// What kind of failure, for exit codes and for patience.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The caller may not.
    Denied,
    /// Nobody answered, or the connection broke.
    Unreachable,
    /// The request cannot be carried out.
    Other,
}

/// The fleet said no, or nothing.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For exit codes and for patience.
    pub kind: RefusalKind,
    /// What the fleet said.
    pub message: String,
    /// Stable and upper-case; empty if it gave none.
    pub reason: String,
    /// What the fleet advises; empty if nothing.
    pub next_step: String,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let kind = match status.code() {
            Code::PermissionDenied | Code::Unauthenticated => RefusalKind::Denied,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
                RefusalKind::Unreachable
            }
            _ => RefusalKind::Other,
        };
        // Details of another form are an older or newer fleet's: the message still stands.
        let info = ErrorInfo::decode(status.details()).unwrap_or_default();
        let message = match status.message() {
            "" => format!("the fleet answered `{}` without a word", status.code()),
            said => said.to_owned(),
        };
        Self {
            kind,
            message,
            reason: info.reason,
            next_step: info.next_step,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fleets_words_and_advice_are_kept() {
        let info = ErrorInfo {
            reason: "TOKEN_USED".into(),
            next_step: "ask for a new one".into(),
            request_id: String::new(),
        };
        let refusal: Refusal =
            Status::with_details(Code::PermissionDenied, "used", info.encode_to_vec().into()).into();
        assert_eq!(refusal.kind, RefusalKind::Denied);
        assert_eq!(
            (refusal.to_string().as_str(), refusal.reason.as_str()),
            ("used", "TOKEN_USED")
        );
        assert_eq!(refusal.next_step, "ask for a new one");
        let silent: Refusal = Status::unavailable("").into();
        assert_eq!(silent.kind, RefusalKind::Unreachable);
        assert!(!silent.message.is_empty());
    }
}
