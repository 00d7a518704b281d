//! An interference test through the edge: asked by an operator, ordered, told, shown; audited and bounded.

use loadline_proto::fleet::v1 as fleet;
use loadline_proto::node::v1::{self as node, node_message};
use loadline_proto::types::v1 as types;
use tonic::Code;

use crate::jobs::joined;
use crate::node::message;
use crate::world::{Person, World, reason, wait_for};

fn ask() -> fleet::ProveRequest {
    fleet::ProveRequest {
        name: "n1".into(),
        ask: Some(types::ProveAsk {
            resources: vec!["cpu".into()],
            rounds: 4,
            ..Default::default()
        }),
    }
}

fn allows(prove: &str) -> node::NodeMessage {
    let inventory = types::Inventory {
        prove: prove.into(),
        ..crate::node::inventory(4)
    };
    message(node_message::What::Liveness(node::Liveness {
        inventory: Some(inventory),
        ..Default::default()
    }))
}

async fn allowed(person: &mut Person, prove: &str) {
    wait_for("the inventory", async || {
        let nodes = person.nodes.list(fleet::ListNodesRequest {}).await.unwrap();
        match nodes.into_inner().nodes[0].inventory.clone() {
            Some(inventory) if inventory.prove == prove => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

async fn see(person: &mut Person, report: bool) -> fleet::ProveReply {
    let name = "n1".into();
    let seen = person
        .nodes
        .see_prove(fleet::SeeProveRequest { name, report })
        .await;
    seen.unwrap().into_inner()
}

#[tokio::test]
async fn a_test_goes_down_to_its_node_and_its_report_comes_up() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut olga = world.person(&mut admin, "olga", "operator").await;
    let mut node = joined(&world, &mut admin, "n1").await;
    let mut stream = node.connect(&world).await.unwrap();
    stream.say(allows("allow")).await;
    allowed(&mut olga, "allow").await;
    let begun = olga.nodes.prove(ask()).await.unwrap().into_inner().run.unwrap();
    assert_eq!((begun.stage.as_str(), begun.by.as_str()), ("ordered", "olga"));
    let order = stream.order(&node).await;
    let Some(types::order::What::Prove(prove)) = order.what else {
        panic!("{order:?}")
    };
    assert_eq!(
        (&prove.run_id, prove.stop, prove.by.as_str()),
        (&begun.run_id, false, "olga")
    );
    let asked = prove.ask.unwrap();
    assert_eq!(
        (asked.rounds, asked.rate_per_s, asked.round_us),
        (4, 100, 10_000_000)
    );
    let state = |stage: &str, report| types::ProveState {
        run_id: begun.run_id.clone(),
        stage: stage.into(),
        sentence: "cpu alone".into(),
        report,
    };
    let applied = node::OrdersApplied {
        generation: order.generation,
    };
    stream.say(message(node_message::What::Applied(applied))).await;
    stream
        .say(node.event(types::event::What::Prove(state("running", None))))
        .await;
    stream.acked(1).await;
    assert_eq!(see(&mut olga, true).await.run.unwrap().sentence, "cpu alone");
    olga.nodes
        .stop_prove(fleet::NodeRef { name: "n1".into() })
        .await
        .unwrap();
    assert_eq!(see(&mut olga, true).await.run.unwrap().stage, "stopping");
    let order = stream.order(&node).await;
    assert!(
        matches!(&order.what, Some(types::order::What::Prove(prove)) if prove.stop),
        "{order:?}"
    );
    let report = types::ProveReport {
        text: "t".repeat(300 * 1024),
        json: "{}".into(),
        html: "<p>".into(),
        whole: true,
        cost: true,
    };
    // Larger than a batch of events usually is.
    let done = state("reported", Some(report.clone()));
    stream.say(node.event(types::event::What::Prove(done))).await;
    stream.acked(2).await;
    let seen = see(&mut olga, true).await;
    assert_eq!(seen.run.unwrap().stage, "reported");
    assert_eq!(seen.last.unwrap().report, Some(report));
    let short = see(&mut olga, false).await.last.unwrap().report.unwrap();
    assert_eq!((short.text.as_str(), short.whole, short.cost), ("", true, true));
}

#[tokio::test]
async fn only_operators_have_nodes_tested_within_bounds_and_it_is_audited() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut olga = world.person(&mut admin, "olga", "operator").await;
    let mut bob = world.person(&mut admin, "bob", "user").await;
    let node = joined(&world, &mut admin, "n1").await;
    let stream = node.connect(&world).await.unwrap();
    let refused = olga.nodes.prove(ask()).await.unwrap_err();
    assert_eq!(reason(&refused), "PROVE_TOO_OLD");
    for (word, wanted) in [("refuse", "PROVE_FORBIDDEN"), ("perhaps", "PROVE_FORBIDDEN")] {
        stream.say(allows(word)).await;
        // What this version does not know is as good as a no.
        allowed(&mut olga, "refuse").await;
        let refused = olga.nodes.prove(ask()).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::FailedPrecondition, wanted)
        );
    }
    stream.say(allows("allow")).await;
    allowed(&mut olga, "allow").await;
    let denied = bob.nodes.prove(ask()).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let denied = bob
        .nodes
        .stop_prove(fleet::NodeRef { name: "n1".into() })
        .await
        .unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    for bad in [
        types::ProveAsk {
            rate_per_s: 101,
            ..Default::default()
        },
        types::ProveAsk {
            limit_us: 31 * 60_000_000,
            ..Default::default()
        },
        types::ProveAsk {
            resources: vec!["gpu".into()],
            ..Default::default()
        },
    ] {
        let request = fleet::ProveRequest {
            ask: Some(bad),
            ..ask()
        };
        let refused = olga.nodes.prove(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    }
    assert_eq!(see(&mut bob, true).await, fleet::ProveReply::default());
    olga.nodes.prove(ask()).await.unwrap();
    let text = std::fs::read_to_string(world.state("audit.log")).unwrap();
    let told = |parts: [&str; 4]| {
        text.lines()
            .any(|line| parts.iter().all(|part| line.contains(part)))
    };
    assert!(
        told(["node.prove", "allowed", "person/olga", "node/n1"]),
        "{text}"
    );
    assert!(told(["node.prove", "denied", "person/bob", "node/n1"]), "{text}");
}
