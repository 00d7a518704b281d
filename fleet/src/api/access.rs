//! Join and login, each by a token that works once; renewal by the certificate that is still good.
//!
//! A request is checked before the token is used up, so a client with a broken request can try again.

use loadline_model::NodeId;

use super::Edge;
use super::call::{Author, Call, Change};
use super::failure::Failure;
use crate::ca::{CertificateRequest, Issued, Subject};
use crate::state::{Command, Refused, Reply, UserView};
use crate::tokens::hash_secret;
use crate::trust::Action;

/// A machine that became a node.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) node: NodeId,
    pub(crate) pool: String,
    pub(crate) certificate: Issued,
    pub(crate) ca_pem: String,
}

/// A person who logged in.
#[derive(Debug)]
pub(crate) struct LoggedIn {
    pub(crate) user: UserView,
    pub(crate) certificate: Issued,
    pub(crate) ca_pem: String,
}

impl Edge {
    async fn redeem(&self, command: Command) -> Result<Reply, Failure> {
        self.fleet.submit(command).await.map_err(|refused| {
            if refused == Refused::TokenInvalid {
                self.metrics.auth_failure("token_invalid");
            }
            Failure::from(refused)
        })
    }

    pub(super) async fn join_node(
        &self,
        author: &Author,
        secret: &str,
        name: &str,
        csr_der: &[u8],
    ) -> Result<Joined, Failure> {
        let csr = CertificateRequest::read(csr_der)?;
        let command = Command::RedeemNodeToken {
            secret: hash_secret(secret),
            node: name.to_owned(),
        };
        let object = format!("node/{name}");
        let reply = self
            .recorded(author, "node.join", object, self.redeem(command))
            .await?;
        let Reply::Joined { node, pool } = reply else {
            return Err(Failure::internal("a join was answered with something else"));
        };
        let pki = self.pki.borrow().clone();
        let certificate =
            pki.authority
                .issue_for(Subject::Node { id: node, name }, &csr, self.clock.now())?;
        Ok(Joined {
            node,
            pool,
            certificate,
            ca_pem: pki.authority.pem().to_owned(),
        })
    }

    pub(super) async fn login(
        &self,
        author: &Author,
        secret: &str,
        csr_der: &[u8],
    ) -> Result<LoggedIn, Failure> {
        let csr = CertificateRequest::read(csr_der)?;
        let command = Command::RedeemLoginToken {
            secret: hash_secret(secret),
        };
        let object = author.actor.clone();
        let reply = self
            .recorded(author, "person.login", object, self.redeem(command))
            .await?;
        let Reply::User(user) = reply else {
            return Err(Failure::internal("a login was answered with something else"));
        };
        let pki = self.pki.borrow().clone();
        let subject = Subject::Person { name: &user.name };
        let certificate = pki.authority.issue_for(subject, &csr, self.clock.now())?;
        Ok(LoggedIn {
            user,
            certificate,
            ca_pem: pki.authority.pem().to_owned(),
        })
    }

    /// A new certificate for the node that asks.
    pub(crate) async fn renew(&self, call: &Call, csr_der: &[u8]) -> Result<Issued, Failure> {
        let csr = CertificateRequest::read(csr_der)?;
        let node = call.node()?;
        let name = self.fleet.read(move |state, _| state.node_name(node)).await??;
        let change = Change {
            action: Action::SpeakFor { node },
            word: "node.renew",
            object: format!("node/{name}"),
        };
        self.change_by(call, change, async {
            let pki = self.pki.borrow().clone();
            Ok(pki.authority.issue_for(
                Subject::Node {
                    id: node,
                    name: &name,
                },
                &csr,
                self.clock.now(),
            )?)
        })
        .await
    }
}
