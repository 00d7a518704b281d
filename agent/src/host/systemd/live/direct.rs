//! systemd's own socket.
//!
//! On it systemd names itself in each message by its name on the bus, `org.freedesktop.systemd1`, where the
//! specification has only unique names, which begin with a colon; and zbus takes no other. So the first letter of that
//! name becomes a colon on its way in. Nobody asks for the name: there is no one else on the line.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;

use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use zbus::Connection;
use zbus::connection::Builder;
use zbus::connection::socket::{BoxedSplit, ReadHalf};

/// For root only.
const SOCKET: &str = "/run/systemd/private";
/// The sender of a message as its header has it: field 7, of type `s`, 24 letters (least significant byte first, as on
/// all that Loadline runs on) …
const SENDER: [u8; 8] = [7, 1, b's', 0, 24, 0, 0, 0];
/// … and these are they.
const NAME: &[u8; 24] = b"org.freedesktop.systemd1";

/// Connects.
pub(super) async fn connect() -> zbus::Result<Connection> {
    let (read, write) = UnixStream::connect(SOCKET).await?.into_split();
    let read = Unique { read, seen: 0 };
    let halves = BoxedSplit::new(Box::new(read), Box::new(write));
    Builder::socket(halves).p2p().build().await
}

/// What comes in, with senders that zbus takes.
#[derive(Debug)]
struct Unique {
    read: OwnedReadHalf,
    /// So many bytes of `SENDER` were the last to come in.
    seen: usize,
}

type Received<'f> = Pin<Box<dyn Future<Output = io::Result<(usize, Vec<OwnedFd>)>> + Send + 'f>>;

impl ReadHalf for Unique {
    fn recvmsg<'me, 'buffer, 'f>(&'me mut self, buffer: &'buffer mut [u8]) -> Received<'f>
    where
        'me: 'f,
        'buffer: 'f,
    {
        Box::pin(async move {
            let (length, fds) = self.read.recvmsg(buffer).await?;
            if let Some(bytes) = buffer.get_mut(..length) {
                self.seen = rename(bytes, self.seen);
            }
            Ok((length, fds))
        })
    }

    fn can_pass_unix_fd(&self) -> bool {
        self.read.can_pass_unix_fd()
    }
}

/// Makes the sender a unique name, wherever the bytes are cut; says how much of `SENDER` they end with.
fn rename(bytes: &mut [u8], mut seen: usize) -> usize {
    for at in 0..bytes.len() {
        if seen == SENDER.len() {
            let there = &bytes[at..(at + NAME.len()).min(bytes.len())];
            if NAME.starts_with(there) {
                bytes[at] = b':';
            }
            seen = 0;
        }
        // Nothing in it begins anew but its first byte.
        let next = bytes[at];
        seen = if next == SENDER[seen] {
            seen + 1
        } else {
            usize::from(next == SENDER[0])
        };
    }
    seen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(name: &[u8]) -> Vec<u8> {
        [&[b'l', 2, 1, 1][..], &SENDER, name, &[0, 0, 7, 1]].concat()
    }

    proptest! {
        #[test]
        fn the_sender_is_renamed_wherever_a_message_is_cut(cuts in prop::collection::vec(0usize..80, 0..6)) {
            let whole = [header(NAME), header(NAME)].concat();
            let wanted = [header(b":rg.freedesktop.systemd1"), header(b":rg.freedesktop.systemd1")].concat();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(whole.len())).collect();
            cuts.extend([0, whole.len()]);
            cuts.sort_unstable();
            let (mut got, mut seen) = (Vec::new(), 0);
            for pair in cuts.windows(2) {
                let mut part = whole[pair[0]..pair[1]].to_vec();
                seen = rename(&mut part, seen);
                got.extend(part);
            }
            prop_assert_eq!(got, wanted);
        }

        #[test]
        fn nothing_else_is_touched(bytes in prop::collection::vec(prop::sample::select(vec![7u8, 1, b's', 0, 24, b'o']), 0..200)) {
            let mut same = bytes.clone();
            rename(&mut same, 0);
            let touched = bytes.iter().zip(&same).enumerate().filter(|(_, (before, after))| before != after);
            for (at, _) in touched {
                // Only where the bytes end too soon to tell.
                prop_assert!(bytes.len() - at < NAME.len() && bytes[..at].ends_with(&SENDER));
            }
        }
    }

    #[test]
    fn another_name_stays() {
        for name in [b"org.freedesktop.systemd2", b":1.234567890123456789012"] {
            let mut bytes = header(name);
            rename(&mut bytes, 0);
            assert_eq!(bytes, header(name));
        }
    }
}
