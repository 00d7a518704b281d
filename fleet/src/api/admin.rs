//! Who I am, the fleet in one line, people and tokens.

use loadline_model::{Span, WallTime, shown};

use super::Edge;
use super::call::{Call, Change};
use super::failure::Failure;
use super::sharing::{role_of, team_checked};
use crate::state::{Command, FleetStatus, Reply, TokenId, TokenView, UserView};
use crate::tokens::{LOGIN_LIFE, NewSecret, TokenKind, TokenText};
use crate::trust::{Action, Actor, Role, is_node_name, is_pool_name, is_unix_account, is_user_name};

/// A fresh token. The text is shown once and never stored.
#[derive(Debug)]
pub(crate) struct NewToken {
    pub(crate) id: TokenId,
    pub(crate) text: String,
    pub(crate) expires: WallTime,
    /// What to type where.
    pub(crate) command: String,
}

/// What the fleet knows of whoever asks.
#[derive(Debug)]
pub(crate) struct Myself {
    pub(crate) user: String,
    pub(crate) role: Role,
    pub(crate) unix_account: String,
    pub(crate) team: String,
    pub(crate) certificate_expires: WallTime,
}

/// Someone to be added, as asked for.
#[derive(Debug)]
pub(crate) struct NewPerson {
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) unix_account: String,
    pub(crate) team: String,
}

impl Edge {
    fn new_token(&self, kind: TokenKind, secret: &NewSecret, reply: Reply) -> Result<NewToken, Failure> {
        let Reply::Token(TokenView {
            id,
            bound_to,
            expires,
            ..
        }) = reply
        else {
            return Err(Failure::internal("a token was answered with something else"));
        };
        let text = TokenText {
            address: self.access_address.to_string(),
            fingerprint: self.pki.borrow().authority.fingerprint(),
            secret: secret.text.clone(),
            name: bound_to,
        };
        let text = text
            .encode(kind)
            .map_err(|error| Failure::internal(&format!("the token could not be encoded: {error}")))?;
        Ok(NewToken {
            id,
            command: kind.command(&text),
            text,
            expires,
        })
    }

    pub(super) fn who_am_i(&self, call: &Call) -> Result<Myself, Failure> {
        call.may(Action::WhoAmI)?;
        let Actor::Person { name, role } = &call.actor else {
            return Err(Failure::internal("a node was taken for a person"));
        };
        let directory = self.directory.borrow();
        let person = directory.people.get(name);
        Ok(Myself {
            user: name.clone(),
            role: *role,
            unix_account: person
                .map(|person| person.unix_account.clone())
                .unwrap_or_default(),
            team: person.map(|person| person.team.clone()).unwrap_or_default(),
            certificate_expires: call.certificate.expires,
        })
    }

    pub(super) async fn fleet_status(&self, call: &Call) -> Result<FleetStatus, Failure> {
        call.may(Action::SeeFleet)?;
        Ok(self.fleet.read(|state, now| state.status(now)).await?)
    }

    pub(super) async fn create_node_token(
        &self,
        call: &Call,
        node: String,
        pool: String,
        life: Span,
    ) -> Result<NewToken, Failure> {
        if !is_node_name(&node) {
            return Err(Failure::invalid(
                format!(
                    "`{}` cannot name a node: 1 to 63 lower-case letters, digits, `-` or `.`",
                    shown(&node)
                ),
                "use the machine's host name",
            ));
        }
        if !pool.is_empty() && !is_pool_name(&pool) {
            return Err(Failure::invalid(
                format!(
                    "`{}` cannot name a pool: 1 to 63 letters, digits, `-`, `_` or `.`",
                    shown(&pool)
                ),
                "choose another name; without one the node is in the pool `default`",
            ));
        }
        let secret = NewSecret::generate();
        let change = Change {
            action: Action::ManageNodeTokens,
            word: "token.create_node",
            object: format!("token/{} for node/{node}", secret.id.0),
        };
        let (token, sha256) = (secret.id.clone(), secret.sha256);
        let by = call.person()?;
        let command = Command::CreateNodeToken {
            by,
            token,
            secret: sha256,
            node,
            pool,
            life,
        };
        let reply = self.change(call, change, command).await?;
        self.new_token(TokenKind::Node, &secret, reply)
    }

    pub(super) async fn create_login_token(&self, call: &Call, user: String) -> Result<NewToken, Failure> {
        let secret = NewSecret::generate();
        let change = Change {
            action: Action::ManagePeople,
            word: "token.create_login",
            object: format!("token/{} for user/{user}", secret.id.0),
        };
        let (token, sha256) = (secret.id.clone(), secret.sha256);
        let by = call.person()?;
        let command = Command::CreateLoginToken {
            by,
            token,
            secret: sha256,
            user,
            life: LOGIN_LIFE,
        };
        let reply = self.change(call, change, command).await?;
        self.new_token(TokenKind::Login, &secret, reply)
    }

    pub(super) async fn revoke_token(&self, call: &Call, token: TokenId) -> Result<(), Failure> {
        let wanted = token.clone();
        let tokens = self.fleet.read(|state, now| state.tokens(now)).await?;
        let for_node = tokens.iter().any(|token| token.id == wanted && token.for_node);
        let change = Change {
            action: if for_node {
                Action::ManageNodeTokens
            } else {
                Action::ManagePeople
            },
            word: "token.revoke",
            object: format!("token/{}", token.0),
        };
        let by = call.person()?;
        self.change(call, change, Command::RevokeToken { by, token })
            .await?;
        Ok(())
    }

    /// Operators see the tokens of nodes, administrators also those of people.
    pub(super) async fn list_tokens(&self, call: &Call) -> Result<Vec<TokenView>, Failure> {
        call.may(Action::ManageNodeTokens)?;
        let people_too = call.may(Action::ManagePeople).is_ok();
        let mut tokens = self.fleet.read(|state, now| state.tokens(now)).await?;
        tokens.retain(|token| token.for_node || people_too);
        Ok(tokens)
    }

    pub(super) async fn add_user(&self, call: &Call, person: NewPerson) -> Result<UserView, Failure> {
        let NewPerson {
            name,
            role,
            unix_account,
            team,
        } = person;
        if !team.is_empty() {
            team_checked(&team)?;
        }
        if !is_user_name(&name) {
            return Err(Failure::invalid(
                format!(
                    "`{}` cannot name a person: 1 to 32 lower-case letters, digits, `-`, `_` or `.`, a letter first",
                    shown(&name)
                ),
                "choose another name; the Unix account may be given apart",
            ));
        }
        let role = role_of(&role)?;
        let account = if unix_account.is_empty() {
            &name
        } else {
            &unix_account
        };
        if !is_unix_account(account) {
            return Err(Failure::invalid(
                format!("`{}` cannot be the account of someone's jobs", shown(account)),
                "name an ordinary account, never root",
            ));
        }
        let change = Change {
            action: Action::ManagePeople,
            word: "user.add",
            object: format!("user/{name}"),
        };
        let command = Command::AddUser {
            by: call.person()?,
            name,
            role,
            unix_account,
            team,
        };
        user_of(self.change(call, change, command).await?)
    }

    pub(super) async fn ban_user(
        &self,
        call: &Call,
        name: String,
        banned: bool,
    ) -> Result<UserView, Failure> {
        let change = Change {
            action: Action::ManagePeople,
            word: if banned { "user.ban" } else { "user.unban" },
            object: format!("user/{name}"),
        };
        let by = call.person()?;
        user_of(
            self.change(call, change, Command::BanUser { by, name, banned })
                .await?,
        )
    }

    pub(super) async fn list_users(&self, call: &Call) -> Result<Vec<UserView>, Failure> {
        call.may(Action::ManagePeople)?;
        Ok(self.fleet.read(|state, _| state.users()).await?)
    }
}

fn user_of(reply: Reply) -> Result<UserView, Failure> {
    match reply {
        Reply::User(user) => Ok(user),
        _ => Err(Failure::internal("a person was answered with something else")),
    }
}
