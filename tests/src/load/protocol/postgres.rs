//! PostgreSQL's protocol, version 3: the start, trusted by the server, and simple queries.

use std::io::{self, Read, Write};

use super::{Answer, bad};

/// Version 3.0.
const VERSION: i32 = 196_608;
/// The server is ready for the next query.
const READY: u8 = b'Z';
const ERROR: u8 = b'E';
const AUTHENTICATION: u8 = b'R';
/// A server that says more than this before it is ready is none.
const GREETING_LEN_MAX: usize = 64 * 1024;

pub(super) fn request(row: u32, writes: bool) -> Vec<u8> {
    let query = if writes {
        format!("UPDATE accounts SET balance = balance + 1 WHERE aid = {row}")
    } else {
        format!("SELECT balance FROM accounts WHERE aid = {row}")
    };
    let mut message = vec![b'Q'];
    message.extend(counted(&[query.as_bytes(), b"\0"]));
    message
}

/// A body behind its length, which counts itself.
fn counted(parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = i32::try_from(body.len() + 4).unwrap_or(i32::MAX);
    [length.to_be_bytes().as_slice(), &body].concat()
}

/// Says who we are and waits until the server is ready.
pub(super) fn greet(stream: &mut (impl Read + Write), user: &str) -> io::Result<()> {
    let words = format!("user\0{user}\0database\0{user}\0\0");
    stream.write_all(&counted(&[&VERSION.to_be_bytes(), words.as_bytes()]))?;
    let (mut received, mut chunk) = (Vec::new(), [0u8; 4096]);
    loop {
        let count = stream.read(&mut chunk)?;
        received.extend_from_slice(&chunk[..count]);
        if count == 0 || received.len() > GREETING_LEN_MAX {
            return Err(bad("the server did not get ready"));
        }
        for (kind, body) in messages(&received) {
            match kind {
                ERROR => return Err(bad(&String::from_utf8_lossy(body))),
                AUTHENTICATION if body != [0; 4] => {
                    return Err(bad("the server does not trust this account"));
                }
                READY => return Ok(()),
                _ => {}
            }
        }
    }
}

/// The whole messages at the beginning of what was received.
fn messages(received: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = received;
    std::iter::from_fn(move || {
        let (head, after) = rest.split_at_checked(5)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let body_len = usize::try_from(length).ok()?.checked_sub(4)?;
        let (body, after) = after.split_at_checked(body_len)?;
        rest = after;
        Some((head[0], body))
    })
}

/// Whole once the server is ready again; good without an error before that.
pub(super) fn judge(received: &[u8]) -> io::Result<Answer> {
    let lengths_hold = |head: &[u8]| u32::from_be_bytes([head[1], head[2], head[3], head[4]]) >= 4;
    if received.len() >= 5 && !lengths_hold(received) {
        return Err(bad("a message shorter than its own length"));
    }
    let mut ok = true;
    for (kind, _) in messages(received) {
        ok &= kind != ERROR;
        if kind == READY {
            return Ok(Answer::Complete { ok, last: false });
        }
    }
    Ok(Answer::Pending)
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY_NOW: &[u8] = b"Z\0\0\0\x05I";

    /// Answers with what it is given, and keeps what it was told.
    struct Server {
        says: Vec<u8>,
        told: Vec<u8>,
    }

    impl Read for Server {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            // In pieces, as a network may.
            let count = self.says.len().min(3).min(to.len());
            to[..count].copy_from_slice(&self.says[..count]);
            self.says.drain(..count);
            Ok(count)
        }
    }

    impl Write for Server {
        fn write(&mut self, from: &[u8]) -> io::Result<usize> {
            self.told.extend_from_slice(from);
            Ok(from.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn greeted(says: &[&[u8]]) -> (io::Result<()>, Vec<u8>) {
        let mut server = Server {
            says: says.concat(),
            told: Vec::new(),
        };
        (greet(&mut server, "load"), server.told)
    }

    #[test]
    fn the_start_names_the_account_and_waits_until_the_server_is_ready() {
        let (outcome, told) = greeted(&[b"R\0\0\0\x08\0\0\0\0", b"S\0\0\0\x08a\0b\0", READY_NOW]);
        outcome.unwrap();
        let want = [
            33i32.to_be_bytes().as_slice(),
            &VERSION.to_be_bytes(),
            b"user\0load\0database\0load\0\0",
        ]
        .concat();
        assert_eq!(told[..4], 33i32.to_be_bytes());
        assert_eq!(told, want);
    }

    #[test]
    fn a_server_that_wants_a_password_refuses_or_hangs_up_is_an_error() {
        let (outcome, _) = greeted(&[b"R\0\0\0\x08\0\0\0\x03"]);
        assert!(outcome.unwrap_err().to_string().contains("does not trust"));
        let (outcome, _) = greeted(&[b"E\0\0\0\x0bno one\0"]);
        assert!(outcome.unwrap_err().to_string().contains("no one"));
        assert!(greeted(&[b"R\0\0\0\x08\0\0\0\0"]).0.is_err());
    }

    #[test]
    fn answers_are_judged_when_the_server_is_ready_again() {
        let row: &[u8] = b"T\0\0\0\x06\0\x01D\0\0\0\x07abcC\0\0\0\x06a\0";
        let whole = [row, READY_NOW].concat();
        let complete = |ok| Answer::Complete { ok, last: false };
        assert_eq!(judge(&whole).unwrap(), complete(true));
        assert_eq!(judge(&whole[..whole.len() - 1]).unwrap(), Answer::Pending);
        assert_eq!(judge(row).unwrap(), Answer::Pending);
        let failed = [b"E\0\0\0\x06x\0".as_slice(), READY_NOW].concat();
        assert_eq!(judge(&failed).unwrap(), complete(false));
        assert!(judge(b"E\0\0\0\x01x").is_err());
    }

    #[test]
    fn a_query_carries_its_length() {
        let message = request(7, false);
        assert_eq!(message[0], b'Q');
        assert_eq!(usize::from(message[4]), message.len() - 1);
        assert!(message.ends_with(b"WHERE aid = 7\0"));
        assert!(request(7, true).starts_with(b"Q\0\0\0"));
    }
}
