//! Orders: encoded, then signed as they stand.

use loadline_model::FleetId;
use loadline_proto::types::v1 as types;
use prost::Message;

use super::job::write_spec;
use super::prove::write_prove_order;
use crate::ca::OrderKey;
use crate::state::{Order, OrderKind, StopReason};

/// An order in the wire's words.
pub fn write_order(fleet: FleetId, order: &Order) -> types::Order {
    let what = match &order.what {
        OrderKind::Start(start) => types::order::What::Start(types::StartOrder {
            job_id: start.job.as_bytes().to_vec(),
            job_number: start.job_number,
            worker: start.worker,
            attempt_number: start.attempt_number,
            user: start.unix_account.clone(),
            team: start.team.clone(),
            spec: Some(write_spec(&start.spec)),
            user_id: Vec::new(),
        }),
        OrderKind::Stop(stop) => types::order::What::Stop(types::StopOrder {
            reason: match stop.why {
                StopReason::Cancelled => types::EndReason::Cancelled,
                StopReason::NodeLost => types::EndReason::NodeLost,
                StopReason::Yielded => types::EndReason::Evicted,
            }
            .into(),
            grace_us: stop.grace.0,
        }),
        OrderKind::Prove(prove) => types::order::What::Prove(write_prove_order(prove)),
        OrderKind::Ceiling(ceiling) => types::order::What::Ceiling(types::CeilingOrder {
            mode: ceiling.mode.word().to_owned(),
            line_per_mille: ceiling.line.0.into(),
            by: ceiling.by.clone(),
        }),
    };
    let attempt_id = order.attempt.map(|attempt| attempt.as_bytes().to_vec());
    types::Order {
        fleet_id: fleet.as_bytes().to_vec(),
        node_id: order.node.as_bytes().to_vec(),
        epoch: order.epoch,
        generation: order.generation.0,
        issued_at_us: order.issued_at.0,
        attempt_id: attempt_id.unwrap_or_default(),
        what: Some(what),
    }
}

/// An order as wardens take it.
pub fn sign_order(fleet: FleetId, key: &OrderKey, order: &Order) -> types::SignedOrder {
    let bytes = write_order(fleet, order).encode_to_vec();
    let signature = key.sign(&bytes).to_vec();
    types::SignedOrder {
        order: bytes,
        key_id: key.id().to_owned(),
        signature,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Stop;
    use ed25519_dalek::{Signature, VerifyingKey};
    use loadline_model::{Generation, Span, WallTime};

    #[test]
    fn what_is_signed_is_what_is_sent() {
        let key = OrderKey::generate();
        let fleet = "00000000-0000-0000-0000-0000000000f1".parse().unwrap();
        let order = Order {
            node: "00000000-0000-0000-0000-00000000000a".parse().unwrap(),
            epoch: 3,
            generation: Generation(7),
            issued_at: WallTime(5),
            attempt: Some("0192f0c1-2345-7abc-8def-0123456789ab".parse().unwrap()),
            what: OrderKind::Stop(Stop {
                why: StopReason::NodeLost,
                grace: Span::from_secs(3),
            }),
        };
        let signed = sign_order(fleet, &key, &order);
        let public = VerifyingKey::from_bytes(&key.public_key()).unwrap();
        let signature = Signature::from_slice(&signed.signature).unwrap();
        public.verify_strict(&signed.order, &signature).unwrap();
        let read = types::Order::decode(signed.order.as_slice()).unwrap();
        assert_eq!((read.generation, read.epoch), (7, 3));
        assert_eq!(read, write_order(fleet, &order));
        assert_eq!(signed.key_id, key.id());
    }
}
