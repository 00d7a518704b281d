//! The one-time tokens that let a machine join or a person log in.
//!
//! A token's text carries where to go, whom to trust there (the authority's fingerprint) and a secret. The fleet
//! keeps the secret's SHA-256 only: who reads the store cannot join.

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use loadline_model::Span;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::state::TokenId;

/// Whom a token lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A node.
    Node,
    /// A person.
    Login,
}

/// An ordinary login token lives as long as a node's.
pub const LOGIN_LIFE: Span = Span::from_secs(10 * 60);
/// The first administrator's: `fleetd init` may run the day before someone logs in.
pub const FIRST_LOGIN_LIFE: Span = Span::from_secs(24 * 3600);

/// What a token's text says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenText {
    /// Host and port of the access service.
    #[serde(rename = "a")]
    pub address: String,
    /// SHA-256 of the authority's certificate, hexadecimal.
    #[serde(rename = "f")]
    pub fingerprint: String,
    /// The secret, base64url.
    #[serde(rename = "s")]
    pub secret: String,
    /// The node or person it is bound to.
    #[serde(rename = "n")]
    pub name: String,
}

/// A new secret with its public name.
#[derive(Debug)]
pub struct NewSecret {
    /// Names the token in lists.
    pub id: TokenId,
    /// What the fleet keeps.
    pub sha256: [u8; 32],
    /// What goes into the text.
    pub text: String,
}

/// Why a text is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenProblem {
    /// It does not start as it should, or was cut.
    #[error("this is not a token: expected LLN1.… or LLP1.…")]
    Shape,
    /// The part after the dot is damaged.
    #[error("the token is damaged: copy it again, whole")]
    Damaged,
}

impl NewSecret {
    /// 32 random bytes.
    pub fn generate() -> Self {
        let secret: [u8; 32] = rand::random();
        let text = BASE64URL_NOPAD.encode(&secret);
        let sha256 = hash_secret(&text);
        Self {
            id: token_id(&text),
            sha256,
            text,
        }
    }
}

/// The public name of the token with this secret: enough of the hash to tell tokens apart.
pub fn token_id(secret: &str) -> TokenId {
    TokenId(HEXLOWER.encode(&hash_secret(secret)).chars().take(12).collect())
}

/// What the fleet keeps of a secret: the SHA-256 of its text.
pub fn hash_secret(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

impl TokenKind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Node => "LLN1.",
            Self::Login => "LLP1.",
        }
    }

    /// What to type where it is to be used.
    pub fn command(self, token: &str) -> String {
        match self {
            Self::Node => format!("sudo loadline-agent join {token}"),
            Self::Login => format!("fleet login {token}"),
        }
    }
}

impl TokenText {
    /// The token as people copy it.
    ///
    /// # Errors
    /// When a field cannot be encoded, which no string is.
    pub fn encode(&self, kind: TokenKind) -> Result<String, serde_json::Error> {
        let json = serde_json::to_vec(self)?;
        Ok(format!("{}{}", kind.prefix(), BASE64URL_NOPAD.encode(&json)))
    }

    /// Reads a token.
    ///
    /// # Errors
    /// When the text is none.
    pub fn decode(text: &str) -> Result<(TokenKind, Self), TokenProblem> {
        let (kind, body) = [TokenKind::Node, TokenKind::Login]
            .into_iter()
            .find_map(|kind| Some((kind, text.trim().strip_prefix(kind.prefix())?)))
            .ok_or(TokenProblem::Shape)?;
        let json = BASE64URL_NOPAD
            .decode(body.as_bytes())
            .map_err(|_| TokenProblem::Damaged)?;
        let token = serde_json::from_slice(&json).map_err(|_| TokenProblem::Damaged)?;
        Ok((kind, token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_name_their_kind() {
        let secret = NewSecret::generate();
        let token = TokenText {
            address: "fleet.example:7718".into(),
            fingerprint: "ab".repeat(32),
            secret: secret.text.clone(),
            name: "n1".into(),
        };
        for kind in [TokenKind::Node, TokenKind::Login] {
            let text = token.encode(kind).unwrap();
            assert_eq!(TokenText::decode(&text).unwrap(), (kind, token.clone()));
            assert!(matches!(
                TokenText::decode(&text[..text.len() - 3]),
                Err(TokenProblem::Damaged)
            ));
        }
        assert!(matches!(TokenText::decode("LLX1.abc"), Err(TokenProblem::Shape)));
        assert_eq!(hash_secret(&secret.text), secret.sha256);
        assert!(!secret.text.contains(&secret.id.0));
    }
}
