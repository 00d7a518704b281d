//! Telling the service manager that we are ready, alive, or stopping (`sd_notify(3)`).
//!
//! Touches the socket named by `NOTIFY_SOCKET`. Absent (not started by systemd): nothing is told.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// A line to the service manager.
#[derive(Debug, Clone)]
pub struct Notifier {
    address: SocketAddr,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// From what systemd put into the environment; none if it did not.
    pub fn from_environment() -> Option<Self> {
        Self::new(
            std::env::var_os("NOTIFY_SOCKET")?,
            std::env::var("WATCHDOG_USEC").ok().as_deref(),
        )
    }

    fn new(socket: OsString, watchdog_usec: Option<&str>) -> Option<Self> {
        let name = socket.as_bytes();
        let address = match name.strip_prefix(b"@") {
            Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name),
            None => SocketAddr::from_pathname(&socket),
        };
        let micros = watchdog_usec.and_then(|text| text.parse().ok());
        Some(Self {
            address: address.ok()?,
            watchdog: micros.map(Duration::from_micros),
        })
    }

    /// How often to call [`alive`](Self::alive): half the time after which systemd would lose patience.
    pub fn alive_every(&self) -> Option<Duration> {
        self.watchdog.map(|patience| patience / 2)
    }

    /// Start-up is over.
    ///
    /// # Errors
    /// When the service manager cannot be reached.
    pub fn ready(&self) -> io::Result<()> {
        self.send("READY=1")
    }

    /// The watchdog is fed.
    ///
    /// # Errors
    /// When the service manager cannot be reached.
    pub fn alive(&self) -> io::Result<()> {
        self.send("WATCHDOG=1")
    }

    /// The end begins.
    ///
    /// # Errors
    /// When the service manager cannot be reached.
    pub fn stopping(&self) -> io::Result<()> {
        self.send("STOPPING=1")
    }

    fn send(&self, state: &str) -> io::Result<()> {
        UnixDatagram::unbound()?
            .send_to_addr(state.as_bytes(), &self.address)
            .map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_manager_hears_each_state() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(path.into(), Some("30000000")).unwrap();
        assert_eq!(notifier.alive_every(), Some(Duration::from_secs(15)));
        let mut buffer = [0; 32];
        for (send, expected) in [
            (Notifier::ready as fn(&Notifier) -> io::Result<()>, "READY=1"),
            (Notifier::alive, "WATCHDOG=1"),
            (Notifier::stopping, "STOPPING=1"),
        ] {
            send(&notifier).unwrap();
            let length = manager.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], expected.as_bytes());
        }
    }

    #[test]
    fn abstract_names_are_understood() {
        let notifier = Notifier::new("@loadline-test".into(), None).unwrap();
        assert_eq!(
            notifier.address.as_abstract_name(),
            Some(b"loadline-test".as_slice())
        );
        assert_eq!(notifier.alive_every(), None);
    }
}
