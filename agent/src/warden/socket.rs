//! The local socket: the agent's orders in, events and status out. The peer's uid is checked before a byte is
//! read, and orders only count with the fleet's signature: the agent carries, the warden decides.

mod outputs;
mod service;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tracing::warn;

pub use service::{WardenService, serve};

#[cfg(test)]
mod tests;

/// Who may connect.
#[derive(Debug, Clone)]
pub struct Access {
    /// The group that owns the socket; none: root's.
    pub gid: Option<u32>,
    /// Peers with these uids are heard, others are hung up on.
    pub uids: Vec<u32>,
}

/// Why the socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("opening the socket {} failed", path.display())]
pub struct SocketError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Opens the socket in place of whatever lies there; the ledger's lock has made sure that it is nobody's.
///
/// # Errors
/// When it cannot be made or handed to the agent's group.
pub fn open(path: &Path, access: &Access) -> Result<UnixListener, SocketError> {
    // Made beside and moved into place, so that nobody meets it with the wrong owner.
    let draft = path.with_extension("new");
    let bind = || -> io::Result<UnixListener> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&draft)?;
        std::os::unix::fs::chown(&draft, None, access.gid)?;
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o660))?;
        fs::rename(&draft, path)?;
        Ok(listener)
    };
    bind().map_err(|source| SocketError {
        path: path.to_owned(),
        source,
    })
}

/// Connections of peers that may connect.
pub fn incoming(
    listener: UnixListener,
    access: Access,
) -> impl tokio_stream::Stream<Item = io::Result<UnixStream>> {
    UnixListenerStream::new(listener).filter_map(move |stream| match stream {
        Ok(stream) => match stream.peer_cred() {
            Ok(peer) if access.uids.contains(&peer.uid()) => Some(Ok(stream)),
            Ok(peer) => {
                warn!(uid = peer.uid(), pid = ?peer.pid(), "hung up on a stranger");
                None
            }
            Err(error) => {
                warn!(%error, "a peer without credentials");
                None
            }
        },
        Err(error) => {
            // For instance no descriptors left: the next one may succeed.
            warn!(%error, "accept");
            None
        }
    })
}
