//! Tokens and people. Secrets never come here: a token is known by the SHA-256 of its secret, opens one door for
//! one name, once, for a short time.

use std::sync::Arc;

use loadline_model::{Generation, Labels, Span};

use super::State;
use super::change::Change;
use super::command::{Now, Reply, Sha256, TokenId};
use super::refused::Refused;
use super::rows::{NodeRow, Progress, Standing, TokenFor, TokenRow, TokenStage, UserRow};
use super::tx::Tx;
use super::view::{TokenState, TokenView, UserView};
use crate::trust::Role;

/// The life of a token for a node, also its most (design §6).
const NODE_TOKEN_LIFE: Span = Span::from_secs(600);
/// The pool of nodes that were not given one.
const POOL_DEFAULT: &str = "default";

impl Tx<'_> {
    pub(crate) fn create_node_token(
        &mut self,
        by: &str,
        token: TokenId,
        secret: Sha256,
        (name, pool): (String, String),
        life: Span,
    ) -> Result<Reply, Refused> {
        if life > NODE_TOKEN_LIFE {
            return Err(Refused::TokenLife(NODE_TOKEN_LIFE.0 / 60_000_000));
        }
        let life = if life.is_zero() { NODE_TOKEN_LIFE } else { life };
        let pool = if pool.is_empty() {
            POOL_DEFAULT.to_owned()
        } else {
            pool
        };
        Ok(self.create_token(by, token, secret, TokenFor::Node { name, pool }, life))
    }

    pub(crate) fn create_login_token(
        &mut self,
        by: &str,
        token: TokenId,
        secret: Sha256,
        user: String,
        life: Span,
    ) -> Result<Reply, Refused> {
        let row = self
            .state
            .users
            .get(&user)
            .ok_or_else(|| Refused::UserUnknown(user.clone()))?;
        if row.banned {
            return Err(Refused::UserBanned(user));
        }
        Ok(self.create_token(by, token, secret, TokenFor::User(user), life))
    }

    fn create_token(&mut self, by: &str, id: TokenId, secret: Sha256, whom: TokenFor, life: Span) -> Reply {
        let row = TokenRow {
            id,
            secret,
            whom,
            created_by: by.to_owned(),
            created_at: self.now.wall,
            expires: self.now.wall.plus(life),
            stage: TokenStage::Open,
        };
        let view = token_view(&row, self.now);
        self.log("token_created", by, &row.id.0, &view.bound_to);
        self.put(Change::Token(row.id.clone(), Some(Arc::new(row))));
        Reply::Token(view)
    }

    pub(crate) fn revoke_token(&mut self, by: &str, id: TokenId) -> Result<Reply, Refused> {
        let row = self
            .state
            .tokens
            .get(&id)
            .ok_or_else(|| Refused::TokenUnknown(id.0.clone()))?;
        let row = Arc::clone(row);
        if row.stage == TokenStage::Open {
            self.log("token_revoked", by, &id.0, "");
            self.stage_token(&row, TokenStage::Revoked(self.now.wall));
        }
        let row = self.state.tokens.get(&id).unwrap_or(&row);
        Ok(Reply::Token(token_view(row, self.now)))
    }

    fn stage_token(&mut self, row: &TokenRow, stage: TokenStage) {
        let row = TokenRow { stage, ..row.clone() };
        self.put(Change::Token(row.id.clone(), Some(Arc::new(row))));
    }

    /// The token behind a secret, if it is still good.
    fn open_token(&self, secret: &Sha256) -> Result<Arc<TokenRow>, Refused> {
        let state = &*self.state;
        let row = state.secrets.get(secret).and_then(|id| state.tokens.get(id));
        row.filter(|row| token_state(row, self.now) == TokenState::Open)
            .map(Arc::clone)
            .ok_or(Refused::TokenInvalid)
    }

    pub(crate) fn redeem_node_token(&mut self, secret: &Sha256, node: &str) -> Result<Reply, Refused> {
        let token = self.open_token(secret)?;
        let TokenFor::Node { name, pool } = &token.whom else {
            return Err(Refused::TokenInvalid);
        };
        if name != node {
            return Err(Refused::TokenInvalid);
        }
        self.stage_token(&token, TokenStage::Used(self.now.wall));
        let known = self
            .state
            .node_names
            .get(name)
            .and_then(|id| self.state.nodes.get(id));
        let row = match known {
            Some(node) => NodeRow {
                pool: pool.clone(),
                ..(*node.row).clone()
            },
            None => NodeRow {
                id: self.ids.node(self.now),
                name: name.clone(),
                pool: pool.clone(),
                standing: Standing::Member,
                joined_at: self.now.wall,
                version: String::new(),
                boot_id: String::new(),
                inventory: None,
                labels: Labels::new(),
                taints: Labels::new(),
            },
        };
        let (id, fresh) = (row.id, known.is_none());
        self.log("node_joined", name, id, &token.id.0);
        self.put_node(row);
        if fresh {
            self.put_progress(
                id,
                Progress {
                    generation: Generation(0),
                    ..Progress::default()
                },
            );
        }
        Ok(Reply::Joined {
            node: id,
            pool: pool.clone(),
        })
    }

    pub(crate) fn redeem_login_token(&mut self, secret: &Sha256) -> Result<Reply, Refused> {
        let token = self.open_token(secret)?;
        let TokenFor::User(name) = &token.whom else {
            return Err(Refused::TokenInvalid);
        };
        let user = self
            .state
            .users
            .get(name)
            .filter(|user| !user.banned)
            .ok_or(Refused::TokenInvalid)?;
        let view = user_view(user);
        self.stage_token(&token, TokenStage::Used(self.now.wall));
        self.log("logged_in", name, name, &token.id.0);
        Ok(Reply::User(view))
    }

    pub(crate) fn add_user(
        &mut self,
        by: &str,
        name: String,
        role: Role,
        unix_account: String,
        team: String,
    ) -> Result<Reply, Refused> {
        if self.state.users.contains_key(&name) {
            return Err(Refused::UserExists(name));
        }
        let unix_account = if unix_account.is_empty() {
            name.clone()
        } else {
            unix_account
        };
        let created_at = self.now.wall;
        self.log("user_added", by, &name, role.word());
        let reply = self.put_user(UserRow {
            name: name.clone(),
            role,
            unix_account,
            team: team.clone(),
            banned: false,
            created_at,
        });
        self.join_team(by, &team, &name);
        Ok(reply)
    }

    pub(crate) fn ban_user(&mut self, by: &str, name: &str, banned: bool) -> Result<Reply, Refused> {
        let users = &self.state.users;
        let row = Arc::clone(
            users
                .get(name)
                .ok_or_else(|| Refused::UserUnknown(name.to_owned()))?,
        );
        if banned && self.is_last_admin(name) {
            return Err(Refused::LastAdmin(name.to_owned()));
        }
        if row.banned == banned {
            return Ok(Reply::User(user_view(&row)));
        }
        self.log(if banned { "user_banned" } else { "user_unbanned" }, by, name, "");
        Ok(self.put_user(UserRow {
            banned,
            ..(*row).clone()
        }))
    }

    /// True if nobody else could give the role back.
    pub(crate) fn is_last_admin(&self, name: &str) -> bool {
        let admin = |user: &&Arc<UserRow>| user.role == Role::Admin && !user.banned;
        let mut admins = self.state.users.values().filter(admin);
        admins.next().is_some_and(|first| first.name == name) && admins.next().is_none()
    }

    pub(crate) fn put_user(&mut self, row: UserRow) -> Reply {
        let view = user_view(&row);
        self.put(Change::User(row.name.clone(), Some(Arc::new(row))));
        Reply::User(view)
    }
}

impl State {
    /// All people, by name.
    pub fn users(&self) -> Vec<UserView> {
        self.users.values().map(|row| user_view(row)).collect()
    }

    /// All tokens, newest first.
    pub fn tokens(&self, now: Now) -> Vec<TokenView> {
        let mut rows: Vec<_> = self.tokens.values().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.created_at));
        rows.into_iter().map(|row| token_view(row, now)).collect()
    }
}

fn token_state(row: &TokenRow, now: Now) -> TokenState {
    match row.stage {
        TokenStage::Used(_) => TokenState::Used,
        TokenStage::Revoked(_) => TokenState::Revoked,
        TokenStage::Open if now.wall > row.expires => TokenState::Expired,
        TokenStage::Open => TokenState::Open,
    }
}

fn token_view(row: &TokenRow, now: Now) -> TokenView {
    let (for_node, bound_to, pool) = match &row.whom {
        TokenFor::Node { name, pool } => (true, name.clone(), pool.clone()),
        TokenFor::User(name) => (false, name.clone(), String::new()),
    };
    TokenView {
        id: row.id.clone(),
        for_node,
        bound_to,
        pool,
        expires: row.expires,
        state: token_state(row, now),
    }
}

pub(crate) fn user_view(row: &UserRow) -> UserView {
    UserView {
        name: row.name.clone(),
        role: row.role,
        unix_account: row.unix_account.clone(),
        team: row.team.clone(),
        banned: row.banned,
    }
}
