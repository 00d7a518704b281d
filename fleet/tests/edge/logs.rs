//! Logs, read through a node's session.

use loadline_proto::fleet::v1 as fleet;
use loadline_proto::node::v1::{self as node, fleet_message, node_message};
use loadline_proto::types::v1 as types;
use tonic::Streaming;

use crate::jobs::{by_number, carry_out, joined, submission};
use crate::node::{FakeNode, Stream, exited, message};
use crate::world::{Person, World};

fn line(text: &str) -> types::LogLine {
    types::LogLine {
        at_us: 1,
        text: text.as_bytes().to_vec(),
        ..Default::default()
    }
}

async fn request(stream: &mut Stream) -> node::LogRequest {
    loop {
        match stream.next().await.unwrap() {
            Some(fleet_message::What::LogRequest(request)) => return request,
            Some(_) => {}
            None => panic!("the stream ended before logs were asked for"),
        }
    }
}

async fn chunk(stream: &Stream, request_id: u64, text: &str, cursor: &str, end: bool) {
    let chunk = node::LogChunk {
        request_id,
        lines: vec![line(text)],
        end,
        cursor: cursor.into(),
        ..Default::default()
    };
    stream.say(message(node_message::What::Logs(chunk))).await;
}

async fn read(logs: &mut Streaming<fleet::LogsReply>) -> Option<fleet::LogsReply> {
    tokio::time::timeout(crate::world::SOON, logs.message())
        .await
        .expect("no more logs")
        .unwrap()
}

fn text(reply: &fleet::LogsReply) -> String {
    reply
        .lines
        .iter()
        .map(|line| String::from_utf8_lossy(&line.text).into_owned())
        .collect()
}

async fn logs(person: &mut Person, follow: bool) -> Streaming<fleet::LogsReply> {
    let request = fleet::LogsRequest {
        job: Some(by_number(1)),
        follow,
        ..Default::default()
    };
    person.jobs.logs(request).await.unwrap().into_inner()
}

async fn running(world: &World, admin: &mut Person) -> (FakeNode, Stream, types::Order) {
    let mut node = joined(world, admin, "n1").await;
    let mut stream = node.connect(world).await.unwrap();
    admin
        .jobs
        .submit(submission(1, &["/usr/bin/true"]))
        .await
        .unwrap();
    let order = stream.order(&node).await;
    for phase in [types::AttemptPhase::Starting, types::AttemptPhase::Running] {
        stream.say(node.attempt(&order, phase, None)).await;
    }
    stream.acked(node.sequence).await;
    (node, stream, order)
}

#[tokio::test]
async fn what_is_there_is_read_to_its_end() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let (mut node, mut stream, order) = running(&world, &mut admin).await;
    stream
        .say(node.attempt(&order, types::AttemptPhase::Ended, Some(exited(0))))
        .await;
    stream.acked(node.sequence).await;
    let mut logs = logs(&mut admin, false).await;
    let asked = request(&mut stream).await;
    assert_eq!((asked.attempt_id, asked.follow), (order.attempt_id, false));
    chunk(&stream, asked.request_id, "one", "c1", false).await;
    chunk(&stream, asked.request_id, "two", "c2", true).await;
    assert_eq!(text(&read(&mut logs).await.unwrap()), "one");
    let last = read(&mut logs).await.unwrap();
    assert_eq!(
        (text(&last).as_str(), last.worker, last.attempt_number),
        ("two", 0, 1)
    );
    assert!(read(&mut logs).await.is_none());
}

#[tokio::test]
async fn a_node_that_is_away_is_said_and_not_guessed() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let (mut node, mut stream, order) = running(&world, &mut admin).await;
    carry_out(&mut node, &mut stream, &order).await;
    drop(stream);
    crate::world::wait_for("session's end", async || {
        match world.serving.edge.sessions.count() {
            0 => Ok(()),
            count => Err(count.to_string()),
        }
    })
    .await;
    let mut logs = logs(&mut admin, false).await;
    let said = read(&mut logs).await.unwrap().notice;
    assert!(
        said.contains("node n1 cannot be reached since 2027-01-15T"),
        "{said}"
    );
    assert!(read(&mut logs).await.is_none());
}

#[tokio::test]
async fn following_goes_on_at_the_cursor_after_a_break_and_ends_with_the_job() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let (mut node, mut stream, order) = running(&world, &mut admin).await;
    let mut logs = logs(&mut admin, true).await;
    let asked = request(&mut stream).await;
    assert!(asked.follow);
    chunk(&stream, asked.request_id, "one", "c1", false).await;
    assert_eq!(text(&read(&mut logs).await.unwrap()), "one");
    drop(stream);
    let said = read(&mut logs).await.unwrap().notice;
    assert!(said.contains("cannot be reached"), "{said}");
    let mut stream = node.connect(&world).await.unwrap();
    let asked = request(&mut stream).await;
    assert_eq!(asked.after_cursor, "c1");
    chunk(&stream, asked.request_id, "two", "c2", false).await;
    assert_eq!(text(&read(&mut logs).await.unwrap()), "two");
    stream
        .say(node.attempt(&order, types::AttemptPhase::Ended, Some(exited(0))))
        .await;
    stream.acked(node.sequence).await;
    chunk(&stream, asked.request_id, "three", "c3", true).await;
    assert_eq!(text(&read(&mut logs).await.unwrap()), "three");
    assert!(read(&mut logs).await.is_none());
}

#[tokio::test]
async fn a_reader_that_leaves_is_cancelled_at_the_node() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let (_node, mut stream, _order) = running(&world, &mut admin).await;
    let logs = logs(&mut admin, true).await;
    let asked = request(&mut stream).await;
    drop(logs);
    loop {
        match stream.next().await.unwrap() {
            Some(fleet_message::What::LogCancel(cancel)) => {
                assert_eq!(cancel.request_id, asked.request_id);
                return;
            }
            Some(_) => {}
            None => panic!("the stream ended"),
        }
    }
}

#[tokio::test]
async fn more_than_fits_is_read_in_pieces_and_nothing_is_lost() {
    const CHUNKS: usize = 400;
    let world = World::new().await;
    let mut admin = world.admin().await;
    let (_node, mut stream, _order) = running(&world, &mut admin).await;
    let mut logs = logs(&mut admin, false).await;
    // A node that pushes as fast as it can, from wherever it is asked to.
    let pushing = tokio::spawn(async move {
        loop {
            let asked = request(&mut stream).await;
            let from = asked.after_cursor.parse::<usize>().map_or(0, |last| last + 1);
            for n in from..CHUNKS {
                chunk(
                    &stream,
                    asked.request_id,
                    &format!("{n};"),
                    &n.to_string(),
                    n + 1 == CHUNKS,
                )
                .await;
            }
            if from >= CHUNKS - 1 {
                return;
            }
        }
    });
    let mut all = String::new();
    while let Some(reply) = read(&mut logs).await {
        all.push_str(&text(&reply));
    }
    let expected: String = (0..CHUNKS).map(|n| format!("{n};")).collect();
    assert_eq!(all, expected);
    pushing.abort();
}
