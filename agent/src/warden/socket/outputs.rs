//! Waits until journald has read what ended workers wrote: only then is a log whole.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::host::journal_unread::{Drain, unread};

/// From one look at the kernel's list to the next: it is short, as only workers' streams are in the warden's network.
const LOOK: Duration = Duration::from_millis(20);

/// Returns once journald has read to their ends all streams to this socket that nobody can write to now.
///
/// # Errors
/// When the kernel does not tell.
pub(super) async fn until_read(stdout: PathBuf) -> std::io::Result<()> {
    let stdout: Arc<std::path::Path> = stdout.into();
    // Whoever asks has made sure that no connection waits to be accepted, as the listener is not to be seen from here.
    let mut drain = Drain::Accepted;
    loop {
        let path = Arc::clone(&stdout);
        let now = tokio::task::spawn_blocking(move || unread(&path))
            .await
            .map_err(std::io::Error::other)??;
        if drain.is_over(&now) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[tokio::test]
    async fn it_waits_for_the_end_of_what_has_ended_and_for_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("stdout");
        let journald = UnixListener::bind(&path).unwrap();
        let _alive = UnixStream::connect(&path).unwrap();
        let _kept = journald.accept().unwrap();
        until_read(path.clone()).await.unwrap();
        drop(UnixStream::connect(&path).unwrap());
        let ended = journald.accept().unwrap();
        let waits = tokio::spawn(until_read(path.clone()));
        assert!(
            tokio::time::timeout(LOOK * 5, until_read(path)).await.is_err(),
            "not read, and said to be"
        );
        assert!(!waits.is_finished());
        drop(ended);
        waits.await.unwrap().unwrap();
    }
}
