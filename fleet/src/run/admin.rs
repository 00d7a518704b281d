//! Lets an administrator in from the machine itself, with fleetd stopped: for `init`, and for `admin` when a store
//! was lost.

use std::path::Path;
use std::sync::Arc;

use super::account;
use super::arguments::{Admin, AdminName};
use super::init::{AUDIT, STORE};
use crate::audit::{AuditError, AuditLog, Decision, Entry};
use crate::ca::{KeysError, KeysLayout};
use crate::clock::Clock;
use crate::config::Config;
use crate::http::Metrics;
use crate::state::{Command, Refused, Reply};
use crate::store::{CommitError, Sqlite, StoreError};
use crate::tokens::{FIRST_LOGIN_LIFE, NewSecret, TokenKind, TokenText};
use crate::trust::{Role, is_unix_account, is_user_name};
use crate::writer::{self, Fleet, StartError};

/// Who changes things from the machine itself.
const LOCAL: &str = "local";

/// A way in.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) command: String,
    pub(super) token: String,
}

/// Why nobody was let in.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The name cannot be one.
    #[error(
        "`{0}` cannot name an administrator: 1 to 32 lower-case letters, digits, `-`, `_` or `.`, a letter first"
    )]
    Name(String),
    /// The account cannot be one.
    #[error("`{0}` cannot be the account of someone's jobs")]
    Account(String),
    /// There are no keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The store cannot be opened, for instance because fleetd runs.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state cannot be loaded.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The state does not take it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The store broke.
    #[error("writing the store")]
    Commit(#[from] CommitError),
    /// It could not be recorded.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The counters could not be made.
    #[error("making the counters")]
    Metrics(#[from] prometheus::Error),
    /// The token could not be encoded.
    #[error("encoding the token")]
    Token(#[from] serde_json::Error),
    /// The machine gives no runtime.
    #[error("starting the runtime")]
    Runtime(#[source] std::io::Error),
    /// fleetd made a mistake.
    #[error("the store answered with something else than a token")]
    Answer,
}

pub(super) fn command(config: &Path, options: &Admin) -> Result<(), super::Failure> {
    let config = Config::load(config)?;
    let state_dir = options.dir.clone().unwrap_or(config.state_dir);
    account::become_owner(&state_dir)?;
    let login = let_in(&state_dir, &options.admin, &Clock::system())?;
    println!("Start fleetd again, then log in within 24 hours:");
    println!();
    println!("  {}", login.command);
    Ok(())
}

/// Adds the administrator if the store does not know them, and makes a login token.
pub(super) fn let_in(state_dir: &Path, admin: &AdminName, clock: &Clock) -> Result<Login, AdminError> {
    if !is_user_name(&admin.name) {
        return Err(AdminError::Name(admin.name.clone()));
    }
    let account = admin.unix_account.clone().unwrap_or_default();
    if !account.is_empty() && !is_unix_account(&account) {
        return Err(AdminError::Account(account));
    }
    let keys = KeysLayout::of(state_dir).read()?;
    let store = Sqlite::open(&state_dir.join(STORE))?;
    let (fleet, writer) = writer::start(Box::new(store), clock.clone())?;
    let metrics = Arc::new(Metrics::new(crate::api::VERSION)?);
    let (audit, audit_thread) = AuditLog::open(&state_dir.join(AUDIT), metrics)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(AdminError::Runtime)?;
    let secret = NewSecret::generate();
    let made = runtime.block_on(async {
        record(&audit, admin, &secret, clock).await?;
        make(&fleet, admin, account, &secret).await
    });
    drop((fleet, audit));
    writer.join()?;
    // A panic there has been printed; everything that was acknowledged is durable.
    audit_thread.join().ok();
    let name = made?;
    let address = keys.names.first().cloned().unwrap_or_default();
    let fingerprint = keys.authority.fingerprint();
    let token = TokenText {
        address,
        fingerprint,
        secret: secret.text,
        name,
    }
    .encode(TokenKind::Login)?;
    Ok(Login {
        command: TokenKind::Login.command(&token),
        token,
    })
}

async fn record(
    audit: &AuditLog,
    admin: &AdminName,
    secret: &NewSecret,
    clock: &Clock,
) -> Result<(), AdminError> {
    let entry = Entry {
        time: clock.now(),
        actor: LOCAL.to_owned(),
        peer: String::new(),
        action: "token.create_login",
        object: format!("token/{} for user/{}", secret.id.0, admin.name),
        decision: Decision::Allowed,
        reason: String::new(),
        request_id: String::new(),
    };
    Ok(audit.write(entry).await?.durable().await?)
}

async fn make(
    fleet: &Fleet,
    admin: &AdminName,
    unix_account: String,
    secret: &NewSecret,
) -> Result<String, AdminError> {
    let add = Command::AddUser {
        by: LOCAL.to_owned(),
        name: admin.name.clone(),
        role: Role::Admin,
        unix_account,
        team: String::new(),
    };
    match fleet.submit(add).await {
        Ok(_) | Err(Refused::UserExists(_)) => {}
        Err(refused) => return Err(refused.into()),
    }
    let token = Command::CreateLoginToken {
        by: LOCAL.to_owned(),
        token: secret.id.clone(),
        secret: secret.sha256,
        user: admin.name.clone(),
        life: FIRST_LOGIN_LIFE,
    };
    match fleet.submit(token).await? {
        Reply::Token(token) => Ok(token.bound_to),
        _ => Err(AdminError::Answer),
    }
}
