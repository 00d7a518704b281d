//! Labels and taints from an operator's word to where a job goes, why it waits, and after a restart of fleetd.

use loadline_proto::fleet::v1 as fleet;
use loadline_proto::types::v1 as types;

use crate::jobs::{by_number, carry_out, joined, submission};
use crate::node::{FakeNode, Stream};
use crate::world::{Person, World, wait_for};

fn job(id: u8, change: impl FnOnce(&mut types::JobSpec)) -> fleet::SubmitRequest {
    let mut request = submission(id, &["/usr/bin/true"]);
    change(request.spec.as_mut().unwrap());
    request
}

async fn mark(operator: &mut Person, node: &str, labels: &[&str], taints: &[&str]) -> fleet::NodeSummary {
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
    let request = fleet::MarkRequest {
        name: node.into(),
        labels: texts(labels),
        taints: texts(taints),
    };
    let reply = operator.nodes.mark(request).await.unwrap().into_inner();
    reply.summary.unwrap()
}

/// The next order is for this job; it is carried out.
async fn runs(node: &mut FakeNode, stream: &mut Stream, id: u8) {
    let order = stream.order(node).await;
    match &order.what {
        Some(types::order::What::Start(start)) => assert_eq!(start.job_id, submission(id, &[]).job_id),
        other => panic!("{other:?}"),
    }
    carry_out(node, stream, &order).await;
}

async fn explained(person: &mut Person, number: u64) -> (Vec<(String, String)>, String) {
    let told = person.jobs.explain(by_number(number)).await.unwrap().into_inner();
    let reasons = told
        .reasons
        .into_iter()
        .map(|reason| (reason.code, reason.sentence));
    (reasons.collect(), told.change)
}

async fn nodes_of(person: &mut Person, number: u64) -> Vec<String> {
    let job = person.jobs.get(by_number(number)).await.unwrap().into_inner();
    job.attempts.into_iter().map(|attempt| attempt.node).collect()
}

fn reason(code: &str, sentence: &str) -> (String, String) {
    (code.into(), sentence.into())
}

fn requires(id: u8, zone: &str) -> fleet::SubmitRequest {
    job(id, |spec| spec.require = vec![format!("zone={zone}")])
}

/// Two nodes, of which the second is in Europe and for GPU work only.
struct Marked {
    world: World,
    olga: Person,
    olga_is: crate::world::Identity,
    nodes: [FakeNode; 2],
    streams: [Stream; 2],
}

async fn marked() -> Marked {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let olga_is = world.identity(&mut admin, "olga", "operator").await;
    let mut olga = Person::new(&world, &olga_is).await;
    let nodes = [
        joined(&world, &mut admin, "n1").await,
        joined(&world, &mut admin, "n2").await,
    ];
    let streams = [
        nodes[0].connect(&world).await.unwrap(),
        nodes[1].connect(&world).await.unwrap(),
    ];
    let shown = mark(&mut olga, "n2", &["zone=eu"], &["only=gpu"]).await;
    assert_eq!(shown.labels.get("zone").map(String::as_str), Some("eu"));
    assert_eq!(shown.taints.get("only").map(String::as_str), Some("gpu"));
    Marked {
        world,
        olga,
        olga_is,
        nodes,
        streams,
    }
}

/// What keeps a job that requires Europe and tolerates nothing.
fn of_europe() -> (Vec<(String, String)>, String) {
    let reasons = vec![
        reason("labels_unmet", "n1 is not what the job requires: `zone=eu`"),
        reason(
            "taint_not_tolerated",
            "n2 is kept for work that tolerates `only=gpu`",
        ),
    ];
    let change =
        "It cannot start as it is. To start it now: leave out what it requires (--require 'zone=eu').";
    (reasons, change.into())
}

#[tokio::test]
async fn a_job_goes_where_labels_and_taints_let_it_and_explain_names_what_keeps_it() {
    let Marked {
        world: _world,
        mut olga,
        nodes: [mut one, mut two],
        streams: [mut to_one, mut to_two],
        olga_is: _,
    } = marked().await;
    // Neither asked for a node: the one that is not tainted.
    for id in 1..4 {
        olga.jobs
            .submit(submission(id, &["/usr/bin/true"]))
            .await
            .unwrap();
        runs(&mut one, &mut to_one, id).await;
    }
    // The label is there, the toleration is not.
    olga.jobs.submit(requires(4, "eu")).await.unwrap();
    assert_eq!(explained(&mut olga, 4).await, of_europe());
    // With both it goes there, and there only.
    let tolerates = job(5, |spec| {
        spec.require = vec!["zone=eu".into()];
        spec.tolerate = vec!["only".into()];
    });
    olga.jobs.submit(tolerates).await.unwrap();
    runs(&mut two, &mut to_two, 5).await;
    assert_eq!(nodes_of(&mut olga, 5).await, ["n2"]);
    // A label that no node has.
    olga.jobs.submit(requires(6, "us")).await.unwrap();
    let (reasons, _) = explained(&mut olga, 6).await;
    let nowhere = "the job requires `zone=us`, and no node's labels say so";
    assert_eq!(reasons[0], reason("labels_unmet", nowhere));
    // Taken away, and the one that waited starts.
    let shown = mark(&mut olga, "n2", &[], &["only-"]).await;
    assert!(shown.taints.is_empty(), "{shown:?}");
    runs(&mut two, &mut to_two, 4).await;
    assert_eq!(nodes_of(&mut olga, 4).await, ["n2"]);
    mark(&mut olga, "n1", &["zone=us"], &[]).await;
    runs(&mut one, &mut to_one, 6).await;
}

#[tokio::test]
async fn labels_and_taints_outlive_a_restart() {
    let Marked {
        world,
        mut olga,
        olga_is,
        nodes: [one, mut two],
        streams,
    } = marked().await;
    olga.jobs.submit(requires(1, "eu")).await.unwrap();
    assert_eq!(explained(&mut olga, 1).await, of_europe());
    drop((olga, streams));
    let world = world.restarted().await;
    let mut olga = Person::new(&world, &olga_is).await;
    let _to_one = one.connect(&world).await.unwrap();
    let mut to_two = two.connect(&world).await.unwrap();
    wait_for("the same explanation", async || {
        match explained(&mut olga, 1).await {
            told if told == of_europe() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    mark(&mut olga, "n2", &[], &["only-"]).await;
    runs(&mut two, &mut to_two, 1).await;
}
