//! Failed calls: what fleetd said, or why it said nothing.

use std::error::Error;

use loadline_proto::types::v1::ErrorInfo;
use prost::Message;
use rustls::AlertDescription;
use tonic::{Code, Status};

/// What kind of failure a call met; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The fleet cannot do it as things are.
    Failed,
    /// The request is wrong.
    Invalid,
    /// What it names does not exist.
    NotFound,
    /// Not allowed.
    Denied,
    /// The connection or the fleet is gone.
    Unreachable,
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct CallError {
    /// Its kind.
    pub kind: Kind,
    /// Stable, in UPPER_SNAKE.
    pub reason: String,
    /// What is wrong.
    pub sentence: String,
    /// What to do.
    pub next_step: String,
    /// Finds the call in fleetd's records; empty if it never got there.
    pub request_id: String,
}

impl CallError {
    /// The fleet stopped telling about a job that is not over, as when fleetd is stopped.
    pub fn ended_early() -> Self {
        Self {
            kind: Kind::Unreachable,
            reason: "STREAM_ENDED".into(),
            sentence: "the fleet closed the connection".into(),
            next_step: "try again; `fleet doctor` says more".into(),
            request_id: String::new(),
        }
    }

    /// An answer that this program cannot read.
    pub(super) fn strange(what: &str) -> Self {
        Self {
            kind: Kind::Failed,
            reason: "STRANGE_ANSWER".into(),
            sentence: format!("the fleet's answer cannot be read: {what}"),
            next_step: "compare `fleet --version` with the fleet's version in `fleet doctor`".into(),
            request_id: String::new(),
        }
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        let info = ErrorInfo::decode(status.details()).unwrap_or_default();
        let kind = kind(status.code(), !info.reason.is_empty());
        let (sentence, next_step) = match kind {
            Kind::Unreachable if info.reason.is_empty() => (
                format!("the connection to the fleet broke: {}", innermost(&status)),
                "try again; `fleet doctor` says more".to_string(),
            ),
            _ => (status.message().to_string(), info.next_step),
        };
        let reason = if info.reason.is_empty() {
            format!("{:?}", status.code())
        } else {
            info.reason
        };
        Self {
            kind,
            reason,
            sentence,
            next_step,
            request_id: info.request_id,
        }
    }
}

fn kind(code: Code, from_fleet: bool) -> Kind {
    match code {
        Code::InvalidArgument => Kind::Invalid,
        Code::NotFound => Kind::NotFound,
        Code::PermissionDenied | Code::Unauthenticated => Kind::Denied,
        Code::Unavailable => Kind::Unreachable,
        // Broken connections come without a word of fleetd, under several codes.
        Code::Unknown | Code::Cancelled | Code::Internal | Code::DeadlineExceeded if !from_fleet => {
            Kind::Unreachable
        }
        _ => Kind::Failed,
    }
}

fn chain<'a>(status: &'a Status) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(status.source(), |error| (*error).source())
}

fn innermost(status: &Status) -> String {
    chain(status)
        .last()
        .map_or_else(|| status.message().to_string(), ToString::to_string)
}

impl CallError {
    /// What a fatal alert means: with TLS 1.3 the fleet judges a certificate only after the handshake.
    pub fn refused(alert: AlertDescription) -> Option<Self> {
        use AlertDescription as A;
        let (reason, sentence) = match alert {
            A::CertificateExpired => (
                "CERTIFICATE_EXPIRED",
                "the fleet says your certificate has expired",
            ),
            A::CertificateRevoked | A::AccessDenied => ("BANNED", "the fleet has shut you out"),
            A::UnknownCA | A::BadCertificate | A::CertificateUnknown | A::DecryptError => (
                "CERTIFICATE_REFUSED",
                "the fleet does not accept your certificate",
            ),
            A::CertificateRequired => ("CERTIFICATE_MISSING", "the fleet got no certificate"),
            _ => return None,
        };
        let next =
            "ask an operator for a new token (`fleet token login NAME`), then type `fleet login TOKEN`";
        Some(Self {
            kind: Kind::Denied,
            reason: reason.into(),
            sentence: sentence.into(),
            next_step: next.into(),
            request_id: String::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_fleet_says_is_passed_on() {
        let info = ErrorInfo {
            reason: "JOB_UNKNOWN".into(),
            next_step: "look at `fleet jobs`".into(),
            request_id: "r1".into(),
        };
        let status = Status::with_details(Code::NotFound, "there is no job 412", info.encode_to_vec().into());
        let error = CallError::from(status);
        assert_eq!(
            (error.kind, error.to_string()),
            (Kind::NotFound, "there is no job 412".into())
        );
        assert_eq!(
            (error.next_step.as_str(), error.request_id.as_str()),
            ("look at `fleet jobs`", "r1")
        );
    }

    #[test]
    fn a_broken_connection_is_unreachable_and_a_refused_certificate_is_not() {
        let io = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert_eq!(
            CallError::from(Status::from_error(Box::new(io))).kind,
            Kind::Unreachable
        );
        let refused = CallError::refused(AlertDescription::CertificateRevoked).unwrap();
        assert_eq!((refused.kind, refused.reason.as_str()), (Kind::Denied, "BANNED"));
        assert_eq!(CallError::refused(AlertDescription::CloseNotify), None);
    }
}
