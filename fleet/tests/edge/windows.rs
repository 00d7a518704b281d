//! When burst work of all teams may start, from fleetd.toml to what a person is told and a node is ordered.

use std::time::Duration;

use loadline_fleet::config::Config;
use loadline_proto::node::v1::{self as node, node_message};
use loadline_proto::types::v1 as types;

use crate::jobs::{by_number, joined, submission};
use crate::node::message;
use crate::world::{World, short_limits};

/// A node that lends what it has at this moment to burst too.
fn lends() -> node::NodeMessage {
    let free = |amount| types::ResourceSample {
        capacity: amount,
        now: amount,
        firm: amount,
        ..Default::default()
    };
    let sample = types::NodeSample {
        cpu: Some(free(4000)),
        memory: Some(free(3 << 30)),
        ..Default::default()
    };
    message(node_message::What::Liveness(node::Liveness {
        sample: Some(sample),
        ..Default::default()
    }))
}

#[tokio::test]
async fn burst_waits_for_its_window_and_starts_when_it_opens() {
    let text = "[sharing]\nburst_windows = [\"Mon-Fri 20:00-07:00\"]";
    let rules = Config::parse("fleetd.toml".as_ref(), text).unwrap().sharing;
    // The fleet's clock says Friday, 08:00.
    let world = World::with(short_limits(), |config| config.sharing = rules).await;
    let mut admin = world.admin().await;
    let node = joined(&world, &mut admin, "n1").await;
    let mut stream = node.connect(&world).await.unwrap();
    stream.say(lends()).await;
    let mut burst = submission(1, &["/usr/bin/true"]);
    burst.spec.as_mut().unwrap().tier = types::Tier::Burst.into();
    admin.jobs.submit(burst).await.unwrap();
    let told = admin.jobs.explain(by_number(1)).await.unwrap().into_inner();
    assert_eq!(
        (told.reasons[0].code.as_str(), told.reasons[0].sentence.as_str()),
        (
            "window_shut",
            "burst work starts at certain times only; the next begins in 12 h"
        )
    );
    assert_eq!(told.change, "It starts by itself when it is time.");
    // Standard work has no such window.
    admin
        .jobs
        .submit(submission(2, &["/usr/bin/true"]))
        .await
        .unwrap();
    let order = stream.order(&node).await;
    assert_eq!(order.what.map(job_of), Some(submission(2, &[]).job_id));
    world.later(Duration::from_secs(12 * 3600));
    // Seen again, since it would be lost after so long; that alone starts nothing of burst.
    stream.say(lends()).await;
    let order = stream.order(&node).await;
    assert_eq!(order.what.map(job_of), Some(submission(1, &[]).job_id));
}

fn job_of(what: types::order::What) -> Vec<u8> {
    match what {
        types::order::What::Start(start) => start.job_id,
        _ => Vec::new(),
    }
}
