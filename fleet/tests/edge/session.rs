//! A node's session: hello, acknowledgements, resuming, a second session, speaking for another.

use loadline_proto::fleet::v1 as fleet;
use loadline_proto::node::v1::{self as node, node_message};
use loadline_proto::types::v1 as types;
use tonic::Code;

use crate::jobs::{by_number, carry_out, joined, submission};
use crate::node::message;
use crate::world::{Person, World, reason, wait_for};

#[tokio::test]
async fn events_are_acknowledged_once_and_resumed_after_a_break() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut node = joined(&world, &mut admin, "n1").await;
    let mut stream = node.connect(&world).await.unwrap();
    assert_eq!(stream.welcome.acked_sequence, 0);
    admin
        .jobs
        .submit(submission(1, &["/usr/bin/true"]))
        .await
        .unwrap();
    let order = stream.order(&node).await;
    carry_out(&mut node, &mut stream, &order).await;
    drop(stream);
    let mut again = node.connect(&world).await.unwrap();
    assert_eq!(again.welcome.acked_sequence, node.sequence);
    // Sent again, as a node does that missed the acknowledgement: acknowledged again, counted once.
    node.sequence -= 1;
    let repeated = node.attempt(&order, types::AttemptPhase::Ended, Some(crate::node::exited(0)));
    again.say(repeated).await;
    again.acked(node.sequence).await;
    let job = admin.jobs.get(by_number(1)).await.unwrap().into_inner();
    assert_eq!(job.attempts.len(), 1);
    assert_eq!(job.summary.unwrap().exit_code, Some(0));
}

#[tokio::test]
async fn an_order_that_was_not_applied_is_sent_again() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut node = joined(&world, &mut admin, "n1").await;
    let mut stream = node.connect(&world).await.unwrap();
    admin
        .jobs
        .submit(submission(1, &["/usr/bin/true"]))
        .await
        .unwrap();
    let first = stream.order(&node).await;
    drop(stream);
    let mut stream = node.connect(&world).await.unwrap();
    let again = stream.order(&node).await;
    assert_eq!(
        (first.attempt_id, first.generation),
        (again.attempt_id.clone(), again.generation)
    );
    carry_out(&mut node, &mut stream, &again).await;
}

#[tokio::test]
async fn a_second_session_of_the_same_certificate_closes_the_first() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut node = joined(&world, &mut admin, "n1").await;
    let mut first = node.connect(&world).await.unwrap();
    node.boot_id = "boot-2".into();
    let _second = node.connect(&world).await.unwrap();
    let end = first.end().await.expect("the first session is told why it ends");
    assert_eq!(reason(&end), "SESSION_REPLACED");
    wait_for("sessions", async || match world.serving.edge.sessions.count() {
        1 => Ok(()),
        count => Err(format!("{count} open")),
    })
    .await;
}

#[tokio::test]
async fn a_node_speaks_for_itself_only_and_says_hello_first() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let one = joined(&world, &mut admin, "n1").await;
    let two = joined(&world, &mut admin, "n2").await;
    let channel = one.channel(&world).await.unwrap();
    let refused = one.open(channel.clone(), two.hello()).await.err().unwrap();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("node_id"), "{}", refused.message());
    let (up, ups) = tokio::sync::mpsc::channel(1);
    up.send(message(node_message::What::Liveness(node::Liveness::default())))
        .await
        .unwrap();
    let ups = tokio_stream::wrappers::ReceiverStream::new(ups);
    let refused = node::node_session_client::NodeSessionClient::new(channel)
        .session(ups)
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::InvalidArgument, "NO_HELLO")
    );
}

#[tokio::test]
async fn liveness_brings_a_sample_and_what_is_not_understood_ends_nothing() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut node = joined(&world, &mut admin, "n1").await;
    let mut stream = node.connect(&world).await.unwrap();
    let cpu = types::ResourceSample {
        capacity: 4000,
        production: 700,
        ..Default::default()
    };
    let sample = types::NodeSample {
        at_us: 1,
        cpu: Some(cpu),
        memory: Some(Default::default()),
        ..Default::default()
    };
    let half = types::NodeSample {
        memory: None,
        ..sample.clone()
    };
    for sample in [half, sample] {
        let liveness = node::Liveness {
            sample: Some(sample),
            ..Default::default()
        };
        stream.say(message(node_message::What::Liveness(liveness))).await;
    }
    stream.say(node::NodeMessage { what: None }).await;
    wait_for("the sample", async || {
        let nodes = admin
            .nodes
            .list(fleet::ListNodesRequest {})
            .await
            .unwrap()
            .into_inner()
            .nodes;
        match nodes[0].sample.as_ref().and_then(|sample| sample.cpu) {
            Some(cpu) if cpu.production == 700 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let receipt = types::Receipt {
        sentence: "nothing to see".into(),
        ..Default::default()
    };
    stream.say(node.event(types::event::What::Receipt(receipt))).await;
    stream.acked(1).await;
}

fn line(share: u32) -> fleet::SetCeilingRequest {
    fleet::SetCeilingRequest {
        name: "n1".into(),
        mode: None,
        line_per_mille: Some(share),
    }
}

/// What a node says whose owner lets it only watch, and which has evicted two.
fn able() -> node::NodeMessage {
    let inventory = types::Inventory {
        owner_mode: "shadow".into(),
        mode: "shadow".into(),
        ..crate::node::inventory(4)
    };
    let cost = types::CostSample {
        evictions: 2,
        since: "one".into(),
        ..Default::default()
    };
    let sample = types::NodeSample {
        cpu: Some(Default::default()),
        memory: Some(Default::default()),
        level: "squeeze".into(),
        reason: "production uses 3.2 CPUs".into(),
        cost: Some(cost),
        ..Default::default()
    };
    message(node_message::What::Liveness(node::Liveness {
        inventory: Some(inventory),
        sample: Some(sample),
        ..Default::default()
    }))
}

async fn has_cost(person: &mut Person) {
    wait_for("the cost", async || {
        let request = fleet::HeadroomRequest { node: "n1".into() };
        let told = person.nodes.headroom(request).await.unwrap().into_inner().nodes;
        let level = told[0].summary.clone().unwrap().sample.unwrap_or_default().level;
        match (told[0].week.unwrap().evictions, level.as_str()) {
            (2, "squeeze") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn an_operator_closes_a_node_and_the_node_hears_it_at_once() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut olga = world.person(&mut admin, "olga", "operator").await;
    let node = joined(&world, &mut admin, "n1").await;
    let mut stream = node.connect(&world).await.unwrap();
    stream.say(able()).await;
    has_cost(&mut olga).await;
    let set = olga.nodes.set_ceiling(line(0)).await.unwrap().into_inner();
    let shown = set.summary.unwrap().ceiling.unwrap();
    assert_eq!(
        (shown.line_per_mille, shown.by.as_str(), shown.applied),
        (0, "olga", false)
    );
    let order = stream.order(&node).await;
    assert_eq!(order.attempt_id, Vec::<u8>::new());
    let Some(types::order::What::Ceiling(ceiling)) = order.what else {
        panic!("{order:?}")
    };
    assert_eq!(
        (ceiling.mode.as_str(), ceiling.line_per_mille, ceiling.by.as_str()),
        ("enforce", 0, "olga")
    );
    let applied = node::OrdersApplied {
        generation: order.generation,
    };
    stream.say(message(node_message::What::Applied(applied))).await;
    wait_for("the node to have it", async || {
        let nodes = olga.nodes.list(fleet::ListNodesRequest {}).await.unwrap();
        match nodes.into_inner().nodes[0].ceiling.clone() {
            Some(ceiling) if ceiling.applied => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn what_nobody_may_set_is_refused_by_name_and_what_is_asked_is_audited() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut olga = world.person(&mut admin, "olga", "operator").await;
    let mut bob = world.person(&mut admin, "bob", "user").await;
    let node = joined(&world, &mut admin, "n1").await;
    let stream = node.connect(&world).await.unwrap();
    // An inventory without `owner_mode` is that of a warden that knows no ceilings.
    let refused = olga.nodes.set_ceiling(line(0)).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "NODE_TOO_OLD")
    );
    stream.say(able()).await;
    has_cost(&mut bob).await;
    let denied = bob.nodes.set_ceiling(line(0)).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let beyond = fleet::SetCeilingRequest {
        mode: Some("enforce".into()),
        ..line(0)
    };
    let refused = olga.nodes.set_ceiling(beyond).await.unwrap_err();
    assert_eq!(reason(&refused), "BEYOND_OWNER");
    let wrong = olga.nodes.set_ceiling(line(1001)).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    olga.nodes.set_ceiling(line(500)).await.unwrap();
    let text = std::fs::read_to_string(world.state("audit.log")).unwrap();
    let told = |parts: [&str; 3]| {
        let of = |line: &&str| line.contains("node.ceiling") && parts.iter().all(|part| line.contains(part));
        text.lines().any(|line| of(&line))
    };
    assert!(told(["allowed", "person/olga", "node/n1 line 500"]), "{text}");
    assert!(told(["denied", "person/bob", "node/n1 line 0"]), "{text}");
}

#[tokio::test]
async fn a_node_that_hangs_up_is_gone_from_the_list_of_sessions() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let node = joined(&world, &mut admin, "n1").await;
    let stream = node.connect(&world).await.unwrap();
    assert_eq!(world.serving.edge.sessions.count(), 1);
    drop(stream);
    wait_for("sessions", async || match world.serving.edge.sessions.count() {
        0 => Ok(()),
        count => Err(format!("{count} open")),
    })
    .await;
}

#[tokio::test]
async fn nothing_is_placed_while_a_nodes_warden_does_not_answer() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let node = joined(&world, &mut admin, "n1").await;
    let mut stream = node.connect(&world).await.unwrap();
    let liveness = |problem: &str| {
        message(node_message::What::Liveness(node::Liveness {
            warden_problem: problem.into(),
            ..Default::default()
        }))
    };
    stream.say(liveness("the warden does not answer")).await;
    wait_for("the problem", async || {
        let nodes = admin
            .nodes
            .list(fleet::ListNodesRequest {})
            .await
            .unwrap()
            .into_inner()
            .nodes;
        match nodes[0].inventory.clone().unwrap_or_default().missed {
            missed if missed == ["the warden does not answer"] => Ok(()),
            missed => Err(format!("{missed:?}")),
        }
    })
    .await;
    admin
        .jobs
        .submit(submission(1, &["/usr/bin/true"]))
        .await
        .unwrap();
    let explanation = admin.jobs.explain(by_number(1)).await.unwrap().into_inner();
    assert!(!explanation.reasons.is_empty());
    stream.say(liveness("")).await;
    stream.order(&node).await;
}
