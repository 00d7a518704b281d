//! What a one-time token says: where to go and whom to trust there (ARCHITECTURE, trust).

use data_encoding::{BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use serde::Deserialize;

/// The text of a login token, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginToken {
    /// Host and port of the fleet's access service.
    pub address: String,
    /// SHA-256 of the certificate of the fleet's authority.
    pub fingerprint: [u8; 32],
    /// What the fleet knows the hash of.
    pub secret: String,
    /// Whom it is for.
    pub user: String,
}

/// Why a text is not a login token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It belongs to a node.
    #[error("this token lets a node join; a person's begins with `LLP1.`")]
    ForNode,
    /// It has no known beginning.
    #[error("this is not a login token: one begins with `LLP1.`")]
    Stranger,
    /// The rest cannot be read.
    #[error("the token is damaged; was all of it copied?")]
    Damaged,
}

#[derive(Deserialize)]
struct Body {
    a: String,
    f: String,
    s: String,
    n: String,
}

impl LoginToken {
    /// Reads a token as it was copied.
    ///
    /// # Errors
    /// When it is for a node, not a token, or damaged.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.starts_with("LLN1.") {
            return Err(TokenError::ForNode);
        }
        let body = text.strip_prefix("LLP1.").ok_or(TokenError::Stranger)?;
        let json = BASE64URL_NOPAD
            .decode(body.as_bytes())
            .map_err(|_| TokenError::Damaged)?;
        let Body { a, f, s, n } = serde_json::from_slice(&json).map_err(|_| TokenError::Damaged)?;
        let fingerprint = HEXLOWER_PERMISSIVE
            .decode(f.as_bytes())
            .map_err(|_| TokenError::Damaged)?;
        Ok(Self {
            address: a,
            fingerprint: fingerprint.try_into().map_err(|_| TokenError::Damaged)?,
            secret: s,
            user: n,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_and_strangers_are_told_apart() {
        let json = format!(
            r#"{{"a":"fleet:7718","f":"{}","s":"x","n":"ada"}}"#,
            "ab".repeat(32)
        );
        let text = format!(" LLP1.{}\n", BASE64URL_NOPAD.encode(json.as_bytes()));
        let token = LoginToken::parse(&text).unwrap();
        assert_eq!(
            (token.address.as_str(), token.user.as_str()),
            ("fleet:7718", "ada")
        );
        assert_eq!(
            LoginToken::parse(&text[..text.len() - 6]),
            Err(TokenError::Damaged)
        );
        assert_eq!(LoginToken::parse("LLN1.abc"), Err(TokenError::ForNode));
        assert_eq!(LoginToken::parse("hello"), Err(TokenError::Stranger));
    }
}
