//! The join token: where the fleet is, which CA to believe, and a secret that works once (contract of port 7718).

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use serde::Deserialize;

/// A token for one node to join one fleet.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// `host:port` of the fleet's join port.
    pub address: String,
    /// SHA-256 of the fleet's CA certificate.
    pub fingerprint: [u8; 32],
    /// Works once.
    pub secret: String,
    /// The node name it is bound to.
    pub node: String,
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret must not reach a log.
        f.debug_struct("JoinToken")
            .field("address", &self.address)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// A text that is not a join token; every variant says what to do instead.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    /// It does not look like one.
    #[error("this is not a join token: one begins with `LLN1.`; `fleet token node NAME` prints one")]
    NotAToken,
    /// It is a login token.
    #[error("this token is for people (`fleet login`); a node needs one from `fleet token node NAME`")]
    ForPeople,
    /// A newer form.
    #[error(
        "this token is of form {0}, newer than this agent knows: install the fleet's version of loadline-node"
    )]
    Newer(String),
    /// Cut off or mistyped.
    #[error(
        "this token is damaged ({0}): copy it whole, on one line, or make a new one with `fleet token node NAME`"
    )]
    Damaged(&'static str),
}

#[derive(Deserialize)]
struct Body {
    a: String,
    f: String,
    s: String,
    n: String,
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (form, body) = text.trim().split_once('.').ok_or(TokenError::NotAToken)?;
        match form {
            "LLN1" => {}
            _ if form.starts_with("LLP") => return Err(TokenError::ForPeople),
            _ if is_newer(form) => return Err(TokenError::Newer(form.to_owned())),
            _ => return Err(TokenError::NotAToken),
        }
        let json = BASE64URL_NOPAD
            .decode(body.trim_end_matches('=').as_bytes())
            .map_err(|_| TokenError::Damaged("it is not base64url"))?;
        let Body { a, f, s, n } =
            serde_json::from_slice(&json).map_err(|_| TokenError::Damaged("its content is cut off"))?;
        let fingerprint = HEXLOWER_PERMISSIVE
            .decode(f.as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(TokenError::Damaged("its CA fingerprint is not a SHA-256"))?;
        if a.rsplit_once(':')
            .is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err())
        {
            return Err(TokenError::Damaged("its address is not host:port"));
        }
        if s.is_empty() || n.is_empty() {
            return Err(TokenError::Damaged("its secret or node name is empty"));
        }
        Ok(Self {
            address: a,
            fingerprint,
            secret: s,
            node: n,
        })
    }
}

fn is_newer(form: &str) -> bool {
    form.strip_prefix("LLN")
        .is_some_and(|digits| digits.parse::<u32>().is_ok_and(|n| n > 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(json: &str) -> String {
        format!("LLN1.{}", BASE64URL_NOPAD.encode(json.as_bytes()))
    }

    fn json(address: &str, fingerprint: &str) -> String {
        format!(r#"{{"a":"{address}","f":"{fingerprint}","s":"c2VjcmV0","n":"node-a"}}"#)
    }

    #[test]
    fn a_token_says_where_whom_and_what() {
        let token: JoinToken = encode(&json("fleet.example:7718", &"ab".repeat(32)))
            .parse()
            .unwrap();
        assert_eq!(
            (token.address.as_str(), token.node.as_str()),
            ("fleet.example:7718", "node-a")
        );
        assert_eq!(token.fingerprint, [0xab; 32]);
        assert!(
            !format!("{token:?}").contains("c2VjcmV0"),
            "the secret is never shown"
        );
        let padded = format!("{}==\n", encode(&json("h:1", &"AB".repeat(32))));
        assert!(padded.parse::<JoinToken>().is_ok());
    }

    #[test]
    fn wrong_tokens_say_what_they_are() {
        let hex = "ab".repeat(32);
        for (text, expected) in [
            ("hello".to_owned(), TokenError::NotAToken),
            (String::new(), TokenError::NotAToken),
            ("LLP1.e30".to_owned(), TokenError::ForPeople),
            ("LLN2.e30".to_owned(), TokenError::Newer("LLN2".into())),
            ("LLN1.!!".to_owned(), TokenError::Damaged("it is not base64url")),
            (
                "LLN1.e30".to_owned(),
                TokenError::Damaged("its content is cut off"),
            ),
            (
                encode(&json("h:1", "abcd")),
                TokenError::Damaged("its CA fingerprint is not a SHA-256"),
            ),
            (
                encode(&json("host", &hex)),
                TokenError::Damaged("its address is not host:port"),
            ),
            (
                encode(&json(":7718", &hex)),
                TokenError::Damaged("its address is not host:port"),
            ),
            (
                encode(&json("h:1", &hex).replace("node-a", "")),
                TokenError::Damaged("its secret or node name is empty"),
            ),
        ] {
            assert_eq!(text.parse::<JoinToken>(), Err(expected), "{text}");
        }
    }
}
