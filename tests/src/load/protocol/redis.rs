//! redis's own protocol (RESP2), as far as `GET` and `SET` of one key use it.

use std::io;

use super::{Answer, bad};

/// As long as what a session or a counter takes.
const VALUE: &str = "0123456789abcdef0123456789abcdef";

pub(super) fn request(key: u32, writes: bool) -> Vec<u8> {
    let key = format!("key:{key}");
    let words: &[&str] = if writes {
        &["SET", &key, VALUE]
    } else {
        &["GET", &key]
    };
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    text.into_bytes()
}

/// Judges a status, an error, a number or a string; a key that is not there is an answer like any other.
pub(super) fn judge(received: &[u8]) -> io::Result<Answer> {
    let Some(line_len) = received.windows(2).position(|pair| pair == b"\r\n") else {
        return Ok(Answer::Pending);
    };
    let line = std::str::from_utf8(&received[..line_len]).map_err(|_| bad("a line that is not text"))?;
    let complete = |ok| Answer::Complete { ok, last: false };
    match line.split_at_checked(1) {
        Some(("+" | ":", _)) => Ok(complete(true)),
        Some(("-", _)) => Ok(complete(false)),
        Some(("$", "-1")) => Ok(complete(true)),
        Some(("$", length)) => {
            let length: usize = length.parse().map_err(|_| bad("a string without a length"))?;
            let whole = received.len() >= line_len + 2 + length + 2;
            Ok(if whole { complete(true) } else { Answer::Pending })
        }
        _ => Err(bad("neither status nor error nor string")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_arrays_of_counted_words() {
        assert_eq!(request(7, false), b"*2\r\n$3\r\nGET\r\n$5\r\nkey:7\r\n");
        let set = String::from_utf8(request(7, true)).unwrap();
        assert!(
            set.starts_with("*3\r\n$3\r\nSET\r\n$5\r\nkey:7\r\n$32\r\n"),
            "{set}"
        );
    }

    #[test]
    fn answers_are_judged_when_whole() {
        let complete = |ok| Answer::Complete { ok, last: false };
        assert_eq!(judge(b"+OK\r\n").unwrap(), complete(true));
        assert_eq!(judge(b"$-1\r\n").unwrap(), complete(true));
        assert_eq!(judge(b"$2\r\nhi\r\n").unwrap(), complete(true));
        assert_eq!(judge(b"$2\r\nhi\r").unwrap(), Answer::Pending);
        assert_eq!(judge(b"$2").unwrap(), Answer::Pending);
        assert_eq!(judge(b"-OOM command not allowed\r\n").unwrap(), complete(false));
        assert!(judge(b"HTTP/1.1 400\r\n").is_err() && judge(b"\r\n").is_err());
    }
}
