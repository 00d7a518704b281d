//! When an HTTP/1.1 answer is whole, and whether it is a good one. Only as much of the protocol as a probe of any
//! usual service needs: a length, chunks, or the end of the connection.

/// How an answer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// More has to come.
    Pending,
    /// All of it came.
    Whole {
        /// The status was 2xx.
        good: bool,
        /// The service closes the connection after it.
        last: bool,
    },
    /// This is no HTTP.
    Nonsense,
}

/// A head longer than this is no answer to a probe.
const HEAD_MAX: usize = 64 * 1024;

/// Judges what came; `closed`: nothing more will.
pub(super) fn judge(received: &[u8], closed: bool) -> Answer {
    let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
        let hopeless = closed || received.len() > HEAD_MAX;
        return if hopeless {
            Answer::Nonsense
        } else {
            Answer::Pending
        };
    };
    let (head, body) = (&received[..end], &received[end + 4..]);
    let Ok(head) = std::str::from_utf8(head) else {
        return Answer::Nonsense;
    };
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    let code = status.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
    let Some(code) = code.and_then(|code| code.parse::<u16>().ok()) else {
        return Answer::Nonsense;
    };
    let field = |wanted: &str| {
        let mut fields = lines.clone().filter_map(|line| line.split_once(':'));
        let found = fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.trim())
    };
    let says = |name: &str, word: &str| field(name).is_some_and(|value| value.eq_ignore_ascii_case(word));
    let length = field("content-length").and_then(|value| value.parse::<usize>().ok());
    let whole = match length {
        _ if code == 204 || code == 304 => true,
        Some(length) => body.len() >= length,
        None if says("transfer-encoding", "chunked") => {
            body == b"0\r\n\r\n" || body.ends_with(b"\r\n0\r\n\r\n")
        }
        None => closed,
    };
    match (whole, closed) {
        (true, _) => Answer::Whole {
            good: (200..300).contains(&code),
            last: closed || says("connection", "close") || status.starts_with("HTTP/1.0"),
        },
        (false, true) => Answer::Nonsense,
        (false, false) => Answer::Pending,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn whole(good: bool, last: bool) -> Answer {
        Answer::Whole { good, last }
    }

    #[test]
    fn a_table_of_answers() {
        let ok = "HTTP/1.1 200 OK\r\n";
        for (text, closed, expected) in [
            (
                format!("{ok}content-length: 2\r\n\r\nhi"),
                false,
                whole(true, false),
            ),
            (format!("{ok}Content-Length: 2\r\n\r\nh"), false, Answer::Pending),
            (format!("{ok}Content-Length: 2\r\n\r\nh"), true, Answer::Nonsense),
            (
                format!("{ok}Content-Length: 0\r\nConnection: close\r\n\r\n"),
                false,
                whole(true, true),
            ),
            (
                format!("{ok}Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
                false,
                whole(true, false),
            ),
            (
                format!("{ok}Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"),
                false,
                Answer::Pending,
            ),
            (format!("{ok}\r\nhi"), false, Answer::Pending),
            (format!("{ok}\r\nhi"), true, whole(true, true)),
            (
                "HTTP/1.1 204 No Content\r\n\r\n".into(),
                false,
                whole(true, false),
            ),
            (
                "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".into(),
                false,
                whole(false, false),
            ),
            (
                "HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n".into(),
                false,
                whole(false, false),
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n".into(),
                false,
                whole(true, true),
            ),
            ("SSH-2.0-OpenSSH\r\n\r\n".into(), false, Answer::Nonsense),
            ("HTTP/1.1 2".into(), false, Answer::Pending),
            ("HTTP/1.1 2".into(), true, Answer::Nonsense),
            (String::new(), true, Answer::Nonsense),
        ] {
            assert_eq!(judge(text.as_bytes(), closed), expected, "{text:?}");
        }
        assert_eq!(judge(&[b'x'; HEAD_MAX + 1], false), Answer::Nonsense);
    }
}
