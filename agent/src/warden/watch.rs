//! Wakes the reconciler when an end record appears.

use std::fs;
use std::io;
use std::path::Path;

use inotify::{Inotify, WatchMask};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tracing::warn;

/// Room for the names in one reading of the kernel's queue.
const BUFFER: usize = 4096;

/// Watches a folder; the receiver gets one word for whatever happened since the last.
///
/// # Errors
/// When the folder cannot be made or watched.
pub(super) fn folder(path: &Path) -> io::Result<mpsc::Receiver<()>> {
    fs::create_dir_all(path)?;
    let inotify = Inotify::init()?;
    inotify.watches().add(path, WatchMask::MOVED_TO)?;
    let mut events = inotify.into_event_stream(vec![0; BUFFER])?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let Err(error) = event {
                warn!(%error, "watching end records");
            }
            // A full channel has a word in it already; a closed one has nobody to tell.
            if let Err(mpsc::error::TrySendError::Closed(())) = sender.try_send(()) {
                return;
            }
        }
    });
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_record_that_appears_wakes_and_none_is_missed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ended");
        let mut woken = folder(&path).unwrap();
        for name in ["a", "b"] {
            fs::write(dir.path().join(name), "{}").unwrap();
            fs::rename(dir.path().join(name), path.join(name)).unwrap();
            let word = tokio::time::timeout(Duration::from_secs(10), woken.recv()).await;
            assert_eq!(word, Ok(Some(())), "{name}");
        }
    }
}
