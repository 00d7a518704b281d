//! One call: who makes it, under which id, and how a change is recorded.

use std::net::SocketAddr;

use loadline_model::NodeId;
use tokio::sync::watch;
use tonic::{Code, Request, Status};

use super::Edge;
use super::failure::Failure;
use crate::audit::{Decision, Entry, Written};
use crate::state::{Command, Reply};
use crate::tls::Peer;
use crate::tokens::token_id;
use crate::trust::{Action, Actor, Denied, PeerCertificate, authorize};
use crate::writer::Pending;

/// Ids and names of ours are far shorter.
const AUDIT_TEXT_MAX: usize = 500;

/// Names a call in answers, log and audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(pub(crate) String);

impl RequestId {
    pub(crate) fn generate() -> Self {
        Self(format!("{:016x}", rand::random::<u64>()))
    }
}

/// A call on port 7717, its caller known and not banned.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) id: RequestId,
    pub(crate) actor: Actor,
    pub(crate) certificate: PeerCertificate,
    pub(crate) address: SocketAddr,
    pub(crate) drain: watch::Receiver<bool>,
}

/// A change as the audit log names it.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    /// What the table decides about.
    pub(crate) action: Action<'a>,
    /// The word in the log.
    pub(crate) word: &'static str,
    /// Of what; never secret.
    pub(crate) object: String,
}

/// A change that is recorded and on its way.
#[derive(Debug)]
pub(crate) struct Begun {
    author: Author,
    word: &'static str,
    object: String,
    written: Written,
    pending: Pending,
}

/// Who does it, for the audit log.
#[derive(Debug)]
pub(crate) struct Author {
    pub(crate) actor: String,
    pub(crate) peer: String,
    pub(crate) id: RequestId,
}

/// What callers wrote may be of any length; a line of the audit log may not.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(AUDIT_TEXT_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

pub(crate) fn request_id<T>(request: &Request<T>) -> RequestId {
    request
        .extensions()
        .get()
        .cloned()
        .unwrap_or_else(RequestId::generate)
}

/// The address a call came from, and the rest of what is known of its connection.
pub(crate) fn peer<T>(request: &Request<T>) -> Result<Peer, Failure> {
    let unknown = || {
        Failure::new(
            Code::Unauthenticated,
            "NO_PEER",
            "the caller is not known",
            "connect by TLS",
        )
    };
    request.extensions().get::<Peer>().cloned().ok_or_else(unknown)
}

/// Whoever holds a token, named by the token's public id.
pub(crate) fn newcomer<T>(request: &Request<T>, secret: &str) -> Result<Author, Failure> {
    let actor = format!("token/{}", token_id(secret).0);
    Ok(Author {
        actor,
        peer: peer(request)?.address.to_string(),
        id: request_id(request),
    })
}

impl Call {
    /// The caller's name, for commands.
    pub(crate) fn person(&self) -> Result<String, Failure> {
        match &self.actor {
            Actor::Person { name, .. } => Ok(name.clone()),
            Actor::Node(_) => Err(Failure::new(
                Code::PermissionDenied,
                "DENIED",
                "this is for people",
                "use a person's login",
            )),
        }
    }

    /// The calling node.
    pub(crate) fn node(&self) -> Result<NodeId, Failure> {
        match &self.actor {
            Actor::Node(node) => Ok(*node),
            Actor::Person { .. } => Err(Failure::from(Denied::NotANode)),
        }
    }

    pub(crate) fn may(&self, action: Action<'_>) -> Result<(), Failure> {
        Ok(authorize(&self.actor, action)?)
    }

    fn author(&self) -> Author {
        let actor = match &self.actor {
            Actor::Person { name, .. } => format!("person/{name}"),
            Actor::Node(node) => format!("node/{node}"),
        };
        Author {
            actor,
            peer: self.address.to_string(),
            id: self.id.clone(),
        }
    }
}

impl Edge {
    /// Who calls. The ban list is looked at in every call, not only at the handshake.
    pub(crate) fn call<T>(&self, request: &Request<T>) -> Result<Call, Status> {
        self.call_of(request)
            .map_err(|failure| failure.into_status(&request_id(request).0))
    }

    /// The same, with a failure that is not yet a status.
    pub(crate) fn call_of<T>(&self, request: &Request<T>) -> Result<Call, Failure> {
        self.known(request).inspect_err(|failure| {
            self.metrics
                .auth_failure(failure.reason.to_ascii_lowercase().as_str());
        })
    }

    fn known<T>(&self, request: &Request<T>) -> Result<Call, Failure> {
        let Peer {
            address,
            certificate,
            drain,
        } = peer(request)?;
        let certificate = certificate.ok_or_else(|| {
            Failure::new(
                Code::Unauthenticated,
                "NO_CERTIFICATE",
                "this call needs a certificate",
                "log in with `fleet login`",
            )
        })?;
        // TLS looked when the connection began; since then the certificate may have ended.
        if certificate.expires <= self.clock.now() {
            return Err(Failure::new(
                Code::Unauthenticated,
                "EXPIRED",
                "the certificate of this connection has ended",
                "log in again with `fleet login`; a node renews by itself and connects again",
            ));
        }
        let actor = self.directory.borrow().actor(&certificate.identity)?;
        Ok(Call {
            id: request_id(request),
            actor,
            certificate,
            address,
            drain,
        })
    }

    /// A command to the fleet: decided by the table, recorded, done, and answered only once both the record and
    /// the change are durable. The two disk writes overlap.
    pub(crate) async fn change(
        &self,
        call: &Call,
        change: Change<'_>,
        command: Command,
    ) -> Result<Reply, Failure> {
        self.change_by(call, change, async { Ok(self.fleet.submit(command).await?) })
            .await
    }

    /// The same for a change that is not one of the fleet's state.
    pub(crate) async fn change_by<T>(
        &self,
        call: &Call,
        change: Change<'_>,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.permit(call, &change).await?;
        self.recorded(&call.author(), change.word, change.object, work)
            .await
    }

    /// Asks the table; what it denies is recorded.
    async fn permit(&self, call: &Call, change: &Change<'_>) -> Result<(), Failure> {
        let Err(denied) = authorize(&call.actor, change.action) else {
            return Ok(());
        };
        self.metrics.auth_failure("denied");
        let failure = Failure::from(denied);
        let (word, object) = (change.word, &change.object);
        self.note(&call.author(), word, object, Decision::Denied, &failure)
            .await;
        Err(failure)
    }

    /// The same as [`Self::change`] in two steps: changes that are begun one after the other are done in that order,
    /// and share commits.
    pub(crate) async fn begin(
        &self,
        call: &Call,
        change: Change<'_>,
        command: Command,
    ) -> Result<Begun, Failure> {
        self.permit(call, &change).await?;
        let Change { word, object, .. } = change;
        let author = call.author();
        let entry = self.entry(&author, word, &object, Decision::Allowed, String::new());
        Ok(Begun {
            written: self.audit.write(entry).await?,
            pending: self.fleet.enqueue(command).await?,
            author,
            word,
            object,
        })
    }

    /// Waits until both the record and the change are durable.
    pub(crate) async fn finish(&self, begun: Begun) -> Result<Reply, Failure> {
        let Begun {
            author,
            word,
            object,
            written,
            pending,
        } = begun;
        let (result, durable) = tokio::join!(pending.answer(), written.durable());
        let result = result.map_err(Failure::from);
        if let Err(failure) = &result {
            self.note(&author, word, &object, Decision::Failed, failure).await;
        }
        durable?;
        result
    }

    /// The same for callers whom a token lets in rather than the table.
    pub(crate) async fn recorded<T>(
        &self,
        author: &Author,
        word: &'static str,
        object: String,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let entry = self.entry(author, word, &object, Decision::Allowed, String::new());
        let written = self.audit.write(entry).await?;
        let (result, durable) = tokio::join!(work, written.durable());
        if let Err(failure) = &result {
            self.note(author, word, &object, Decision::Failed, failure).await;
        }
        durable?;
        result
    }

    /// Records what did not happen. Nothing is acknowledged, so nothing waits for the disk; a line that cannot be
    /// written is counted, and the caller gets the refusal it gets anyway.
    async fn note(&self, by: &Author, word: &'static str, object: &str, decision: Decision, why: &Failure) {
        let entry = self.entry(by, word, object, decision, why.message.clone());
        if let Ok(written) = self.audit.write(entry).await {
            drop(written);
        }
    }

    fn entry(
        &self,
        author: &Author,
        action: &'static str,
        object: &str,
        decision: Decision,
        reason: String,
    ) -> Entry {
        Entry {
            time: self.clock.now(),
            actor: author.actor.clone(),
            peer: author.peer.clone(),
            action,
            object: shortened(object),
            decision,
            reason: shortened(&reason),
            request_id: author.id.0.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shortened("node/n1"), "node/n1");
        let long = shortened(&"ä".repeat(10_000));
        assert_eq!(long.chars().count(), AUDIT_TEXT_MAX + 1);
        assert!(long.ends_with("ä…"));
    }
}
