//! HTTP/1.1 with kept-alive connections.

use std::io;

use super::{Answer, bad};

pub(super) fn request(host: &str, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
}

/// Judges an answer with a `Content-Length`, which is what static pages have.
pub(super) fn judge(received: &[u8]) -> io::Result<Answer> {
    let Some(head_len) = received.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Ok(Answer::Pending);
    };
    let head = std::str::from_utf8(&received[..head_len]).map_err(|_| bad("head is not text"))?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .ok_or_else(|| bad("no status"))?;
    let field = |wanted: &str| {
        let mut fields = lines.clone().filter_map(|line| line.split_once(':'));
        let found = fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.trim())
    };
    let length: usize = field("content-length")
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| bad("no Content-Length"))?;
    if received.len() < head_len + 4 + length {
        return Ok(Answer::Pending);
    }
    Ok(Answer::Complete {
        ok: status == "200",
        last: field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged_when_whole() {
        let page = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
        let complete = |ok, last| Answer::Complete { ok, last };
        assert_eq!(judge(page).unwrap(), complete(true, false));
        assert_eq!(judge(&page[..page.len() - 1]).unwrap(), Answer::Pending);
        assert_eq!(judge(b"HTTP/1.1 200").unwrap(), Answer::Pending);
        let missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(judge(missing).unwrap(), complete(false, false));
        let last = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        assert_eq!(judge(last).unwrap(), complete(true, true));
        assert!(judge(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
