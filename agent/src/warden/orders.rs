//! Is an order really from our fleet's key, and for this node? Nothing else about it is looked at before.

use ed25519_dalek::Signature;
use loadline_model::{FleetId, NodeId};

use super::trust::Trust;
use super::wire::{self, DecodeError, Order, SignedOrder};

/// An order that is genuine. Only [`verify`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct Genuine {
    order: Order,
    signed: SignedOrder,
}

impl Genuine {
    /// What it says.
    pub const fn order(&self) -> &Order {
        &self.order
    }

    /// What it says, and the bytes to keep.
    pub fn into_parts(self) -> (Order, Vec<u8>) {
        let stored = wire::to_store(&self.signed);
        (self.order, stored)
    }
}

/// Why an order is not obeyed, whatever it says. Nothing of it is written down: it is nobody's word.
#[derive(Debug, thiserror::Error)]
pub enum NotGenuine {
    /// Signed by a key that is not pinned here.
    #[error(
        "signed by the key {named}, and this node obeys {pinned} only: join it to the fleet again if the fleet's key has changed"
    )]
    OtherKey {
        /// As named.
        named: String,
        /// As pinned.
        pinned: String,
    },
    /// The signature does not fit the bytes.
    #[error("its signature is wrong")]
    Signature(#[source] ed25519_dalek::SignatureError),
    /// The signed bytes are no order.
    #[error("it is no order")]
    Decode(#[source] DecodeError),
    /// Meant for another fleet.
    #[error("it is from fleet {0}")]
    OtherFleet(FleetId),
    /// Meant for another node.
    #[error("it is for node {0}")]
    OtherNode(NodeId),
}

/// Checks key, signature, fleet and node.
///
/// # Errors
/// When it is not from our fleet's key or not for this node.
pub fn verify(trust: &Trust, signed: SignedOrder) -> Result<Genuine, NotGenuine> {
    if signed.key_id != trust.key_id {
        return Err(NotGenuine::OtherKey {
            named: signed.key_id,
            pinned: trust.key_id.clone(),
        });
    }
    let signature = Signature::from_slice(&signed.signature).map_err(NotGenuine::Signature)?;
    trust
        .key
        .verify_strict(&signed.order, &signature)
        .map_err(NotGenuine::Signature)?;
    let order = wire::order(&signed.order).map_err(NotGenuine::Decode)?;
    if order.fleet != trust.fleet {
        return Err(NotGenuine::OtherFleet(order.fleet));
    }
    if order.node != trust.node {
        return Err(NotGenuine::OtherNode(order.node));
    }
    Ok(Genuine { order, signed })
}

#[cfg(test)]
mod tests;
