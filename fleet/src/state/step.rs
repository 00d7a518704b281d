//! The one door into the state: a command enters, its reply or refusal comes out, its changes are in the batch.

use loadline_model::NodeId;

use super::State;
use super::command::{Command, NodeVerb, Now, Reply, SessionId, SharingCommand};
use super::refused::Refused;
use super::tx::{Batch, Ids, Tx};

impl State {
    /// Decides one command. What it changes is applied to memory and added to the batch; nothing of it may be
    /// answered or acted on before the batch is durable. A refused command changes nothing.
    ///
    /// # Errors
    /// Why nothing changed.
    pub fn step(
        &mut self,
        command: Command,
        now: Now,
        ids: &mut dyn Ids,
        batch: &mut Batch,
    ) -> Result<Reply, Refused> {
        Tx {
            state: self,
            now,
            ids,
            batch,
        }
        .attempt(|tx| tx.decide(command))
    }

    /// Places what waits, where anything changed since it was last tried. Call once for each batch, before its commit.
    pub fn settle(&mut self, now: Now, ids: &mut dyn Ids, batch: &mut Batch) {
        Tx {
            state: self,
            now,
            ids,
            batch,
        }
        .settle();
    }
}

impl Tx<'_> {
    fn settle(&mut self) {
        self.end_never_starting();
        self.place();
    }

    fn decide(&mut self, command: Command) -> Result<Reply, Refused> {
        match command {
            Command::Submit { by, job, spec } => self.submit(&by, job, spec),
            Command::Cancel { by, job } => self.cancel(&by, job),
            Command::Operate { by, node, verb } => self.operate(&by, &node, verb),
            Command::SetCeiling { by, node, mode, line } => self.set_ceiling(&by, &node, mode, line),
            Command::Mark { by, node, marks } => self.mark(&by, &node, &marks),
            Command::BeginProve { by, node, ask } => self.begin_prove(&by, &node, ask),
            Command::StopProve { by, node } => self.stop_prove(&by, &node),
            Command::CreateNodeToken {
                by,
                token,
                secret,
                node,
                pool,
                life,
            } => self.create_node_token(&by, token, secret, (node, pool), life),
            Command::CreateLoginToken {
                by,
                token,
                secret,
                user,
                life,
            } => self.create_login_token(&by, token, secret, user, life),
            Command::RevokeToken { by, token } => self.revoke_token(&by, token),
            Command::RedeemNodeToken { secret, node } => self.redeem_node_token(&secret, &node),
            Command::RedeemLoginToken { secret } => self.redeem_login_token(&secret),
            Command::AddUser {
                by,
                name,
                role,
                unix_account,
                team,
            } => self.add_user(&by, name, role, unix_account, team),
            Command::BanUser { by, name, banned } => self.ban_user(&by, &name, banned),
            Command::Sharing(command) => self.decide_sharing(command),
            Command::Hello(hello) => self.hello(*hello),
            Command::Bye { node, session } => self.bye(node, session),
            Command::Alive {
                node,
                session,
                sample,
                word,
                inventory,
            } => self.alive((node, session), sample, word, inventory),
            Command::Warden {
                node,
                session,
                problem,
            } => {
                self.in_session(node, session)?;
                self.warden_said(node, problem)
            }
            Command::Events {
                node,
                session,
                events,
            } => {
                self.in_session(node, session)?;
                self.events(node, events)
            }
            Command::Applied {
                node,
                session,
                generation,
            } => {
                self.in_session(node, session)?;
                self.applied(node, generation)
            }
            Command::Tick => Ok(self.tick()),
        }
    }

    fn decide_sharing(&mut self, command: SharingCommand) -> Result<Reply, Refused> {
        match command {
            SharingCommand::SetTeam { by, team, change } => self.set_team(&by, &team, change),
            SharingCommand::RemoveTeam { by, team } => self.remove_team(&by, &team),
            SharingCommand::SetQuota { by, team, change } => self.set_quota(&by, &team, &change),
            SharingCommand::SetUser { by, name, team, role } => self.set_user(&by, &name, team, role),
        }
    }

    fn operate(&mut self, by: &str, node: &str, verb: NodeVerb) -> Result<Reply, Refused> {
        let id = self.state.node_named(node)?;
        match verb {
            NodeVerb::Drain => self.drain(by, id),
            NodeVerb::Resume => self.resume(by, id),
            NodeVerb::Forget => self.forget(by, id),
            NodeVerb::Ban => self.ban(by, id),
        }
    }

    /// A node spoke on this connection: it is heard of, unless a newer connection has taken over.
    pub(crate) fn in_session(&mut self, id: NodeId, session: SessionId) -> Result<(), Refused> {
        let open = self.node(id)?.link.as_ref().and_then(|link| link.session);
        if open != Some(session) {
            return Err(Refused::SessionReplaced);
        }
        self.hear(id);
        Ok(())
    }

    pub(crate) fn hear(&mut self, id: NodeId) {
        let steady = self.state.steady.at(self.now.mono);
        if let Some(node) = self.state.nodes.get_mut(&id) {
            node.pulse.hear(steady, self.now);
            self.state.touched.node(id);
        }
    }
}
