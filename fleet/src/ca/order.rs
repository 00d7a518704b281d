//! Signs orders, so that a warden obeys its fleet and not whoever holds the agent's connection (design §6).

use std::fmt;

use ed25519_dalek::pkcs8::spki::EncodePublicKey;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};

/// How many hexadecimal digits of the public key's SHA-256 name it.
const KEY_ID_DIGITS: usize = 16;

/// The fleet's order key: Ed25519.
pub struct OrderKey {
    key: SigningKey,
    id: String,
}

/// Why an order key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OrderKeyError {
    /// The text is no PKCS#8 Ed25519 key.
    #[error("the order key cannot be read")]
    Read(#[source] ed25519_dalek::pkcs8::Error),
    /// It could not be written as text.
    #[error("the order key cannot be encoded")]
    Encode(#[source] ed25519_dalek::pkcs8::Error),
    /// The public half could not be written as text.
    #[error("the public order key cannot be encoded")]
    EncodePublic(#[source] ed25519_dalek::pkcs8::spki::Error),
}

impl fmt::Debug for OrderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrderKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl OrderKey {
    /// Makes a new one.
    pub fn generate() -> Self {
        Self::new(SigningKey::from_bytes(&rand::random()))
    }

    fn new(key: SigningKey) -> Self {
        let digest = Sha256::digest(key.verifying_key().as_bytes());
        let mut id = data_encoding::HEXLOWER.encode(&digest);
        id.truncate(KEY_ID_DIGITS);
        Self { key, id }
    }

    /// Reads one from PKCS#8 text.
    ///
    /// # Errors
    /// When the text is none.
    pub fn from_pem(pem: &str) -> Result<Self, OrderKeyError> {
        SigningKey::from_pkcs8_pem(pem)
            .map(Self::new)
            .map_err(OrderKeyError::Read)
    }

    /// The secret and the public half as text.
    ///
    /// # Errors
    /// When they cannot be encoded.
    pub fn to_pem(&self) -> Result<(String, String), OrderKeyError> {
        let secret = self
            .key
            .to_pkcs8_pem(Default::default())
            .map_err(OrderKeyError::Encode)?;
        let public = self
            .key
            .verifying_key()
            .to_public_key_pem(Default::default())
            .map_err(OrderKeyError::EncodePublic)?;
        Ok((secret.to_string(), public))
    }

    /// The first 16 hexadecimal digits of the SHA-256 of the public key.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The public key, 32 bytes.
    pub fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// The signature of an order's bytes as they stand.
    pub fn sign(&self, order: &[u8]) -> [u8; 64] {
        self.key.sign(order).to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signature, VerifyingKey};

    #[test]
    fn signatures_verify_with_the_public_half_and_break_with_one_bit() {
        let key = OrderKey::generate();
        let public = VerifyingKey::from_bytes(&key.public_key()).unwrap();
        let signature = Signature::from_bytes(&key.sign(b"start 412.3"));
        assert!(public.verify_strict(b"start 412.3", &signature).is_ok());
        assert!(public.verify_strict(b"start 412.4", &signature).is_err());
    }

    #[test]
    fn text_round_trips_and_keeps_the_id() {
        let key = OrderKey::generate();
        let (secret, public) = key.to_pem().unwrap();
        let again = OrderKey::from_pem(&secret).unwrap();
        assert_eq!((again.id(), again.public_key()), (key.id(), key.public_key()));
        assert_eq!(key.id().len(), 16);
        assert!(public.starts_with("-----BEGIN PUBLIC KEY-----"));
        assert!(OrderKey::from_pem(&public).is_err());
    }
}
