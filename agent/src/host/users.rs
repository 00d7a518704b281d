//! Unix accounts as the name service knows them: files, LDAP, sssd, whatever the node is set up for.

use std::ffi::CString;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

/// A directory server that does not answer must not hold the warden up.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// An account that a worker can run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its home.
    pub home: PathBuf,
    /// The names of all its groups; the number in words where a group has no name.
    pub groups: Vec<String>,
}

/// Why an account could not be looked up. That it does not exist is no error.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The name service failed.
    #[error("looking up the account `{name}` failed")]
    Failed {
        /// The account.
        name: String,
        /// What the C library said.
        #[source]
        source: Errno,
    },
    /// The name service did not answer.
    #[error("looking up the account `{name}` took longer than 5s")]
    TimedOut {
        /// The account.
        name: String,
    },
}

/// Who knows the accounts; a value that tests replace.
pub trait Accounts: Send + Sync + 'static {
    /// The account of that name, if there is one.
    ///
    /// # Errors
    /// When the name service fails or does not answer in time.
    fn lookup(&self, name: &str) -> impl Future<Output = Result<Option<Account>, LookupError>> + Send;
}

/// The node's own name service.
#[derive(Debug, Clone, Copy, Default)]
pub struct NameService;

impl Accounts for NameService {
    async fn lookup(&self, name: &str) -> Result<Option<Account>, LookupError> {
        let owned = name.to_owned();
        let work = tokio::task::spawn_blocking(move || lookup(&owned));
        match tokio::time::timeout(LOOKUP_TIMEOUT, work).await {
            Ok(Ok(answer)) => answer.map_err(|source| LookupError::Failed {
                name: name.to_owned(),
                source,
            }),
            // The blocking thread ended by a panic or the runtime shuts down: either way there is no answer.
            Ok(Err(_)) => Err(LookupError::Failed {
                name: name.to_owned(),
                source: Errno::EIO,
            }),
            Err(_) => Err(LookupError::TimedOut {
                name: name.to_owned(),
            }),
        }
    }
}

fn lookup(name: &str) -> Result<Option<Account>, Errno> {
    let Some(user) = User::from_name(name)? else {
        return Ok(None);
    };
    let c_name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    let groups = getgrouplist(&c_name, user.gid)?;
    Ok(Some(Account {
        name: user.name,
        uid: user.uid.as_raw(),
        home: user.dir,
        groups: groups.into_iter().map(group_name).collect(),
    }))
}

fn group_name(gid: Gid) -> String {
    match Group::from_gid(gid) {
        Ok(Some(group)) => group.name,
        _ => gid.to_string(),
    }
}

/// The number of a user of the system, for instance the agent's.
///
/// # Errors
/// When the name service fails.
pub fn uid_of(name: &str) -> Result<Option<u32>, Errno> {
    Ok(User::from_name(name)?.map(|user| user.uid.as_raw()))
}

/// The number of a group of the system.
///
/// # Errors
/// When the name service fails.
pub fn gid_of(name: &str) -> Result<Option<u32>, Errno> {
    Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
}

/// True for whoever may do everything here.
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// The name behind a user's number, if the node knows one.
pub fn name_of(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid))
        .ok()
        .flatten()
        .map(|user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn root_is_known_everywhere_and_strangers_are_not() {
        let root = NameService.lookup("root").await.unwrap().unwrap();
        assert_eq!(
            (root.uid, root.groups.first().map(String::as_str)),
            (0, Some("root"))
        );
        assert_eq!(NameService.lookup("nobody-of-that-name").await.unwrap(), None);
    }
}
