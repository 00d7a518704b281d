//! What is not signed by the pinned key for this node is refused, whatever it says.

use ed25519_dalek::{Signer, SigningKey};
use loadline_model::{PerMille, ProveAsk, ProveId, Resource};
use loadline_policy::node_policy::Mode;
use loadline_policy::prove::ordered::{ProveOrder, ProveWhat};
use loadline_proto::types::v1 as proto;
use prost::Message;

use super::{NotGenuine, verify};
use crate::warden::trust::{Trust, key_id};
use crate::warden::wire::{Ordered, SignedOrder};

const FLEET: [u8; 16] = [1; 16];
const NODE: [u8; 16] = [2; 16];

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn trust() -> Trust {
    let key = key(7).verifying_key();
    Trust {
        fleet: loadline_model::FleetId::from_slice(&FLEET).unwrap(),
        node: loadline_model::NodeId::from_slice(&NODE).unwrap(),
        node_name: "n".into(),
        key_id: key_id(&key),
        key,
    }
}

fn order() -> proto::Order {
    proto::Order {
        fleet_id: FLEET.to_vec(),
        node_id: NODE.to_vec(),
        generation: 1,
        attempt_id: vec![3; 16],
        what: Some(proto::order::What::Stop(proto::StopOrder {
            reason: proto::EndReason::Cancelled.into(),
            grace_us: 5,
        })),
        ..proto::Order::default()
    }
}

fn sign(order: &proto::Order, key: &SigningKey) -> SignedOrder {
    let order = order.encode_to_vec();
    SignedOrder {
        key_id: key_id(&key.verifying_key()),
        signature: key.sign(&order).to_bytes().to_vec(),
        order,
    }
}

#[test]
fn a_genuine_order_passes() {
    let genuine = verify(&trust(), sign(&order(), &key(7))).unwrap();
    assert!(matches!(genuine.order().what, Ordered::Stop { .. }));
}

#[test]
fn orders_about_the_node_name_no_attempt() {
    let about = |attempt_id: Vec<u8>, what| proto::Order {
        attempt_id,
        what,
        ..order()
    };
    let ceiling = |mode: &str, line_per_mille| {
        Some(proto::order::What::Ceiling(proto::CeilingOrder {
            mode: mode.into(),
            line_per_mille,
            by: "ada".into(),
        }))
    };
    let read = |order: &proto::Order| {
        let genuine = verify(&trust(), sign(order, &key(7))).unwrap();
        assert_eq!(genuine.order().attempt, None);
        genuine.order().what.clone()
    };
    assert_eq!(
        read(&about(Vec::new(), ceiling("shadow", 250))),
        Ordered::Ceiling {
            mode: Mode::Shadow,
            line: PerMille(250),
            by: "ada".into()
        }
    );
    let prove = |run_id: Vec<u8>, resource: &str, rounds| {
        Some(proto::order::What::Prove(proto::ProveOrder {
            run_id,
            stop: false,
            by: "ada".into(),
            ask: Some(proto::ProveAsk {
                resources: vec![resource.into()],
                rounds,
                ..proto::ProveAsk::default()
            }),
        }))
    };
    let run = ProveId::from_slice(&[5; 16]).unwrap();
    let asked = ProveAsk {
        resources: vec![Resource::Disk],
        rounds: 4,
        ..ProveAsk::default()
    };
    let ordered = Ordered::Prove(ProveOrder {
        run,
        by: "ada".into(),
        what: ProveWhat::Begin(asked),
    });
    assert_eq!(read(&about(Vec::new(), prove(vec![5; 16], "disk", 4))), ordered);
    let strange = [prove(vec![5; 15], "disk", 4), prove(vec![5; 16], "gpu", 4)];
    for strange in strange
        .into_iter()
        .chain([ceiling("maybe", 5), ceiling("off", 1001), None])
    {
        let what = read(&about(Vec::new(), strange));
        assert!(matches!(what, Ordered::Unclear(_)), "{what:?}");
    }
    // What is about an attempt has to name it.
    let nameless = about(Vec::new(), order().what);
    assert!(matches!(
        verify(&trust(), sign(&nameless, &key(7))),
        Err(NotGenuine::Decode(_))
    ));
}

#[test]
fn forged_altered_and_misdirected_orders_are_refused() {
    let trust = trust();
    let mut forged = sign(&order(), &key(8));
    assert!(matches!(
        verify(&trust, forged.clone()),
        Err(NotGenuine::OtherKey { .. })
    ));
    forged.key_id = trust.key_id.clone();
    assert!(matches!(verify(&trust, forged), Err(NotGenuine::Signature(_))));
    let mut altered = sign(&order(), &key(7));
    altered.order.push(0);
    assert!(matches!(verify(&trust, altered), Err(NotGenuine::Signature(_))));
    let mut short = sign(&order(), &key(7));
    short.signature.pop();
    assert!(matches!(verify(&trust, short), Err(NotGenuine::Signature(_))));
    let fleet_id = vec![9; 16];
    let other_fleet = sign(&proto::Order { fleet_id, ..order() }, &key(7));
    assert!(matches!(
        verify(&trust, other_fleet),
        Err(NotGenuine::OtherFleet(_))
    ));
    let node_id = vec![9; 16];
    let other_node = sign(&proto::Order { node_id, ..order() }, &key(7));
    assert!(matches!(
        verify(&trust, other_node),
        Err(NotGenuine::OtherNode(_))
    ));
    let nobody = sign(
        &proto::Order {
            attempt_id: vec![],
            ..order()
        },
        &key(7),
    );
    assert!(matches!(verify(&trust, nobody), Err(NotGenuine::Decode(_))));
}

#[test]
fn what_is_not_understood_or_not_valid_says_so() {
    let unknown = proto::Order {
        what: None,
        ..order()
    };
    let genuine = verify(&trust(), sign(&unknown, &key(7))).unwrap();
    assert!(matches!(&genuine.order().what, Ordered::Unclear(why) if why.contains("does not know")));
    let start = proto::StartOrder {
        job_id: vec![4; 16],
        spec: Some(proto::JobSpec {
            worker: Some(proto::WorkerRequest {
                cpu: Some(proto::worker_request::Cpu::ExclusiveCpus(0)),
                ..proto::WorkerRequest::default()
            }),
            ..proto::JobSpec::default()
        }),
        ..proto::StartOrder::default()
    };
    let what = Some(proto::order::What::Start(start));
    let genuine = verify(&trust(), sign(&proto::Order { what, ..order() }, &key(7))).unwrap();
    let Ordered::Unclear(why) = &genuine.order().what else {
        panic!("{:?}", genuine.order())
    };
    assert!(why.contains("command") && why.contains("worker.cpus"), "{why}");
}
