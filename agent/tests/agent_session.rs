//! The agent's session against a fleet and a warden in memory: real TLS, a real socket, cuts of every kind.
//! What must hold: nothing is lost, nothing is counted twice, and nothing is said to be durable that is not.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "agent_fakes/fleet.rs"]
mod fleet;
#[path = "agent_fakes/network.rs"]
mod network;
#[path = "agent_fakes/node.rs"]
mod node;
#[path = "agent_fakes/pki.rs"]
mod pki;
#[path = "agent_fakes/warden.rs"]
mod warden;

use std::time::Duration;

use loadline_node::agent::{Backoff, Timing};
use loadline_node::spool::SpoolLimits;
use loadline_proto::node::v1::{Desired, LogRequest, fleet_message};
use loadline_proto::types::v1::{AttemptPhase, Inventory, SignedOrder, event};
use loadline_proto::warden::v1::{SloTarget, slo_reading, slo_target};
use tokio::time::Instant;

use self::network::Weather;
use self::node::{TestNode, quick};

const DAY: i64 = 24 * 3600;

fn order(n: u8) -> SignedOrder {
    SignedOrder {
        order: vec![n],
        key_id: "k".into(),
        signature: vec![n; 64],
    }
}

fn desired(generations: std::ops::RangeInclusive<u8>) -> fleet_message::What {
    fleet_message::What::Desired(Desired {
        generation: u64::from(*generations.end()),
        orders: generations.map(order).collect(),
    })
}

fn numbers(to: u64) -> Vec<u64> {
    (1..=to).collect()
}

#[tokio::test]
async fn hello_liveness_orders_and_events_take_their_way() {
    let mut node = TestNode::joined(DAY, quick()).await;
    node.warden.happen(1, AttemptPhase::Running);
    node.start();
    let ledger = vec![1; 16];
    let state = node
        .fleet
        .until("the first event", |s| s.counted_of(&[1; 16]) == [1])
        .await;
    let hello = &state.hellos[0];
    assert_eq!(
        (hello.name.as_str(), hello.ledger_id.as_slice()),
        ("node-a", ledger.as_slice())
    );
    assert_eq!(hello.node_id, node.fleet.node.as_bytes());
    assert_eq!(
        (hello.attempts.len(), hello.last_sequence, hello.boot_id.as_str()),
        (1, 1, "boot")
    );

    node.fleet.say(desired(1..=2)).await;
    node.fleet
        .until("both orders applied", |s| s.applied == [2])
        .await;
    assert_eq!(
        node.warden.ledger.borrow().orders,
        [order(1), order(2)],
        "carried as signed"
    );

    node.warden.happen(1, AttemptPhase::Ended);
    node.fleet
        .until("the end", |s| s.counted_of(&ledger) == [1, 2])
        .await;
    node.warden
        .until("acknowledged to the ledger", |ledger| ledger.acknowledged == 2)
        .await;
    node.fleet
        .until("a third sample", |s| {
            s.liveness.iter().filter(|l| l.sample.is_some()).count() >= 3
        })
        .await;
}

#[tokio::test]
async fn a_hello_names_what_runs_now_not_what_ran_at_the_last_look() {
    let timing = Timing {
        liveness: Duration::from_secs(3600),
        ..quick()
    };
    let mut node = TestNode::joined(DAY, timing).await;
    node.start();
    node.fleet.until("a session", |s| s.open == 1).await;
    node.warden.happen(1, AttemptPhase::Running);
    // Acknowledged: whatever fleet comes next will not be told by an event.
    node.warden
        .until("taken into the spool", |ledger| ledger.acknowledged == 1)
        .await;
    node.network.set(Weather::Severed);
    node.fleet.until("the end of it", |s| s.open == 0).await;
    node.network.set(Weather::Fine);
    let state = node.fleet.until("another hello", |s| s.hellos.len() >= 2).await;
    assert_eq!(state.hellos[1].attempts.len(), 1);
    assert_eq!(state.hellos[0].attempts.len(), 0);
}

#[tokio::test]
async fn the_inventory_travels_only_when_it_changes() {
    let mut node = TestNode::joined(DAY, quick()).await;
    node.start();
    let state = node.fleet.until("some liveness", |s| s.liveness.len() >= 3).await;
    assert!(state.hellos[0].inventory.is_some());
    assert!(
        state.liveness.iter().all(|one| one.inventory.is_none()),
        "the Hello said it"
    );
    node.warden.ledger.send_modify(|ledger| {
        ledger.inventory = Inventory {
            mode: "off".into(),
            ..ledger.inventory.clone()
        };
    });
    let changed = |s: &fleet::State| s.liveness.iter().filter(|one| one.inventory.is_some()).count() == 1;
    node.fleet.until("the new inventory", changed).await;
    let so_far = node.fleet.state.borrow().liveness.len();
    let state = node
        .fleet
        .until("more liveness", |s| s.liveness.len() >= so_far + 3)
        .await;
    assert!(changed(&state), "said once");
}

#[tokio::test]
async fn orders_are_applied_only_when_the_warden_has_them() {
    let mut node = TestNode::joined(DAY, quick()).await;
    node.warden
        .ledger
        .send_modify(|ledger| ledger.failing_applies = 3);
    node.start();
    node.fleet.say(desired(1..=1)).await;
    node.fleet.until("applied in the end", |s| s.applied == [1]).await;
    assert_eq!(
        node.warden.ledger.borrow().failing_applies,
        0,
        "each failure was tried again"
    );
    assert_eq!(node.warden.ledger.borrow().orders.len(), 1);
}

#[tokio::test]
async fn a_partition_loses_nothing_and_doubles_nothing() {
    let mut node = TestNode::joined(DAY, quick()).await;
    node.start();
    node.warden.happen(1, AttemptPhase::Running);
    node.fleet
        .until("one event", |s| s.counted_of(&[1; 16]) == [1])
        .await;
    node.network.set(Weather::Partitioned);
    for n in 2..=40 {
        node.warden.happen(n, AttemptPhase::Running);
    }
    // The node takes them from its warden meanwhile.
    node.warden
        .until("taken into the spool", |ledger| ledger.acknowledged == 40)
        .await;
    // Ping after ping without an answer: the node gives the connection up and dials.
    node.network.until_dialled(2).await;
    assert_eq!(
        node.fleet.state.borrow().counted_of(&[1; 16]),
        [1],
        "nothing came through"
    );
    node.network.set(Weather::Fine);
    let state = node
        .fleet
        .until("all events", |s| s.counted_of(&[1; 16]) == numbers(40))
        .await;
    assert!(state.hellos.len() >= 2, "by a new session");
}

#[tokio::test]
async fn events_without_acknowledgement_come_again_and_count_once() {
    let mut node = TestNode::joined(DAY, quick()).await;
    node.fleet.state.send_modify(|state| state.silent = true);
    node.start();
    for n in 1..=5 {
        node.warden.happen(n, AttemptPhase::Running);
    }
    node.fleet
        .until("all once", |s| s.counted_of(&[1; 16]) == numbers(5))
        .await;
    node.stop().await;
    // The fleet did not make them durable: it is told again after the agent's restart.
    node.fleet.state.send_modify(|state| {
        state.counted.clear();
        state.received.clear();
        state.silent = false;
    });
    node.start();
    let state = node
        .fleet
        .until("all again", |s| s.counted_of(&[1; 16]) == numbers(5))
        .await;
    assert_eq!(state.received.len(), 5);
    // Acknowledged: a further restart sends none.
    node.warden.happen(6, AttemptPhase::Running);
    node.fleet
        .until("the sixth", |s| s.acked.get([1; 16].as_slice()) == Some(&6))
        .await;
    node.stop().await;
    node.start();
    let state = node
        .fleet
        .until("a third session", |s| s.hellos.len() >= 3 && s.liveness.len() > 3)
        .await;
    assert_eq!(state.received.len(), 6, "nothing was sent again");
}

#[tokio::test]
async fn what_the_welcome_acknowledges_is_not_sent() {
    let mut node = TestNode::joined(DAY, quick()).await;
    node.network.set(Weather::Refusing);
    node.start();
    for n in 1..=5 {
        node.warden.happen(n, AttemptPhase::Running);
    }
    node.warden
        .until("spooled", |ledger| ledger.acknowledged == 5)
        .await;
    // The acknowledgement of an earlier session was lost on its way.
    node.fleet.state.send_modify(|state| {
        state.acked.insert(vec![1; 16], 3);
    });
    node.network.set(Weather::Fine);
    let state = node
        .fleet
        .until("the rest", |s| s.counted_of(&[1; 16]) == [4, 5])
        .await;
    assert_eq!(state.received.len(), 2);
}

#[tokio::test]
async fn a_new_ledger_begins_a_new_session_and_the_old_events_still_arrive() {
    let mut node = TestNode::joined(DAY, quick()).await;
    node.network.set(Weather::Refusing);
    node.start();
    node.warden.happen(1, AttemptPhase::Running);
    node.warden
        .until("spooled", |ledger| ledger.acknowledged == 1)
        .await;
    node.network.set(Weather::Fine);
    node.fleet
        .until("the first session", |s| s.counted_of(&[1; 16]) == [1])
        .await;
    node.warden.kill().await;
    node.warden.ledger.send_modify(|ledger| {
        ledger.id = vec![2; 16];
        ledger.events.clear();
        ledger.acknowledged = 0;
        ledger.applied = 0;
    });
    node.warden.happen(2, AttemptPhase::Running);
    node.warden.start();
    let state = node
        .fleet
        .until("the new ledger's first event", |s| s.counted_of(&[2; 16]) == [1])
        .await;
    assert_eq!(state.hellos.last().unwrap().ledger_id, [2; 16]);
    assert_eq!(state.counted_of(&[1; 16]), [1], "counted once");
}

#[tokio::test]
async fn a_silent_warden_is_told_and_the_session_stays() {
    let mut node = TestNode::joined(DAY, quick()).await;
    node.start();
    node.fleet.until("a session", |s| !s.liveness.is_empty()).await;
    node.warden.kill().await;
    let state = node
        .fleet
        .until("the problem", |s| {
            s.liveness.last().is_some_and(|l| !l.warden_problem.is_empty())
        })
        .await;
    let last = state.liveness.last().unwrap();
    assert!(last.warden_problem.contains("warden"), "{}", last.warden_problem);
    assert!(last.sample.is_none(), "an old sample is no sample");
    node.fleet.say(desired(1..=1)).await;
    node.warden.start();
    node.fleet
        .until("the order, once it is back", |s| s.applied == [1])
        .await;
    let state = node
        .fleet
        .until("health", |s| {
            s.liveness.last().is_some_and(|l| l.warden_problem.is_empty())
        })
        .await;
    assert_eq!(state.hellos.len(), 1, "the session stayed");
    node.warden.happen(1, AttemptPhase::Running);
    node.fleet
        .until("events flow again", |s| s.counted_of(&[1; 16]) == [1])
        .await;
}

#[tokio::test]
async fn a_ban_ends_the_session_and_the_node_knows_why() {
    let mut node = TestNode::joined(DAY, quick()).await;
    let port = free_port();
    node.metrics = loadline_node::agent::MetricsListen::At(port);
    node.start();
    node.fleet.until("a session", |s| s.open == 1).await;
    node.fleet.ban();
    node.fleet.until("the end of it", |s| s.open == 0).await;
    node.warden.happen(1, AttemptPhase::Running);
    node.warden
        .until("the node goes on", |ledger| ledger.acknowledged == 1)
        .await;
    let shown = wait_for_status(port, "the fleet's advice", |text| {
        text.contains("ask an operator")
    })
    .await;
    assert!(shown.contains("this node is banned"), "{shown}");
    assert_eq!(node.fleet.state.borrow().hellos.len(), 1);
}

fn free_port() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

async fn get(address: std::net::SocketAddr, path: &'static str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let fetch = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok::<_, std::io::Error>(text)
    };
    fetch.await.unwrap_or_else(|error| format!("no answer: {error}"))
}

async fn wait_for_status(address: std::net::SocketAddr, what: &str, seen: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    for _ in 0..300 {
        let asked = tokio::task::spawn_blocking(move || loadline_node::agent::ask_status(address));
        text = match asked.await.unwrap() {
            Ok(report) => report.to_string(),
            Err(error) => error.to_string(),
        };
        if seen(&text) {
            return text;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never seen: {what}; last: {text}");
}

#[tokio::test]
async fn metrics_show_what_is_and_nothing_that_is_not_known() {
    let mut node = TestNode::joined(DAY, quick()).await;
    let port = free_port();
    node.metrics = loadline_node::agent::MetricsListen::At(port);
    node.start();
    node.fleet.until("a session", |s| !s.liveness.is_empty()).await;
    let page = get(port, "/metrics").await;
    for line in [
        "loadline_agent_fleet_connected 1",
        "loadline_agent_collector_success{collector=\"warden\"} 1",
        "loadline_agent_limit_verified{limit=\"memory.max\",slice=\"loadline.slice\"} 1",
        "loadline_slice_cpu_usage_seconds_total{slice=\"loadline.slice\"} 1.5",
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
    assert!(
        !page.contains("loadline_slice_memory_current_bytes{"),
        "not read, so absent: {page}"
    );
    node.warden.kill().await;
    node.fleet
        .until("the problem", |s| {
            s.liveness.last().is_some_and(|l| !l.warden_problem.is_empty())
        })
        .await;
    let page = get(port, "/metrics").await;
    assert!(
        page.contains("collector_success{collector=\"warden\"} 0"),
        "{page}"
    );
    assert!(
        !page.contains("loadline_slice_cpu_usage"),
        "old values go: {page}"
    );
}

#[tokio::test]
async fn a_full_spool_leaves_events_with_the_warden() {
    let mut node = TestNode::joined(DAY, quick()).await;
    node.limits = SpoolLimits {
        events: 3,
        bytes: 1 << 20,
    };
    node.network.set(Weather::Refusing);
    node.start();
    for n in 1..=2 {
        node.warden.happen(n, AttemptPhase::Running);
    }
    node.warden
        .until("two fit", |ledger| ledger.acknowledged == 2)
        .await;
    for n in 3..=9 {
        node.warden.happen(n, AttemptPhase::Running);
    }
    node.network.set(Weather::Fine);
    node.fleet
        .until("all of them", |s| s.counted_of(&[1; 16]) == numbers(9))
        .await;
    node.warden
        .until("all acknowledged", |ledger| ledger.acknowledged == 9)
        .await;
}

#[tokio::test]
async fn a_broken_spool_record_is_named_and_the_rest_arrives() {
    let mut node = TestNode::joined(DAY, quick()).await;
    node.network.set(Weather::Refusing);
    node.start();
    for n in 1..=3 {
        node.warden.happen(n, AttemptPhase::Running);
    }
    node.warden
        .until("spooled", |ledger| ledger.acknowledged == 3)
        .await;
    node.stop().await;
    let spool = rusqlite::Connection::open(node.spool()).unwrap();
    spool
        .execute("UPDATE event SET body = x'ff' WHERE sequence = 2", [])
        .unwrap();
    drop(spool);
    node.network.set(Weather::Fine);
    node.start();
    let state = node
        .fleet
        .until("all three places", |s| s.counted_of(&[1; 16]) == numbers(3))
        .await;
    let Some(event::What::Receipt(receipt)) = &state.received[1].what else {
        panic!("{:?}", state.received[1]);
    };
    assert_eq!(receipt.action, "record_set_aside");
    assert!(receipt.sentence.contains("event 2"), "{}", receipt.sentence);
}

#[tokio::test]
async fn an_unreadable_spool_is_set_aside_and_the_warden_tells_again() {
    let mut node = TestNode::joined(DAY, quick()).await;
    std::fs::write(
        node.spool(),
        "not a database at all, and long enough to be looked at twice".repeat(100),
    )
    .unwrap();
    node.warden.happen(1, AttemptPhase::Running);
    node.start();
    node.fleet
        .until("the event", |s| s.counted_of(&[1; 16]) == [1])
        .await;
    let kept = std::fs::read_dir(node.spool().parent().unwrap())
        .unwrap()
        .filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .contains("spool.db.broken-")
        })
        .count();
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn a_log_request_is_answered_to_its_end() {
    let mut node = TestNode::joined(DAY, quick()).await;
    node.start();
    node.fleet
        .say(fleet_message::What::LogRequest(LogRequest {
            request_id: 7,
            attempt_id: vec![3; 16],
            follow: true,
            tail: None,
            after_cursor: String::new(),
        }))
        .await;
    let state = node
        .fleet
        .until("the end", |s| s.logs.iter().any(|chunk| chunk.end))
        .await;
    assert_eq!((state.logs[0].request_id, state.logs[0].error.as_str()), (7, ""));
}

/// For tests that let days pass: few signs of life.
fn unhurried() -> Timing {
    let ten_minutes = Duration::from_secs(600);
    Timing {
        liveness: ten_minutes,
        ping: ten_minutes,
        ..Timing::default()
    }
}

/// A day in a moment: half-way there is a new certificate, a new key, and a new session, every time.
#[tokio::test(start_paused = true)]
async fn a_certificate_is_renewed_at_half_its_life() {
    let mut node = TestNode::joined(DAY, unhurried()).await;
    let begun = Instant::now();
    let key = std::fs::read(node::places(node.folder.path()).key()).unwrap();
    node.start();
    let mut state = node.fleet.state.subscribe();
    let two = |s: &fleet::State| s.renewals == 2 && s.hellos.len() == 3;
    tokio::time::timeout(Duration::from_secs(2 * 86_400), state.wait_for(two))
        .await
        .unwrap()
        .unwrap();
    let passed = begun.elapsed().as_secs();
    // Each between 12 h and 13 h 12 min after the one before.
    assert!((24 * 3600..=27 * 3600).contains(&passed), "{passed}");
    assert_ne!(
        std::fs::read(node::places(node.folder.path()).key()).unwrap(),
        key,
        "a new key each time"
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_renewal_is_tried_until_it_works() {
    let mut node = TestNode::joined(DAY, unhurried()).await;
    node.fleet.state.send_modify(|state| state.refuse_renewals = true);
    node.start();
    tokio::time::sleep(Duration::from_secs(15 * 3600)).await;
    assert_eq!(node.fleet.state.borrow().renewals, 0);
    node.fleet
        .state
        .send_modify(|state| state.refuse_renewals = false);
    let mut state = node.fleet.state.subscribe();
    let renewed = state.wait_for(|s| s.renewals == 1 && s.hellos.len() == 2);
    tokio::time::timeout(Duration::from_secs(60), renewed)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_slept_past_its_certificate_is_refused_and_says_so() {
    let mut node = TestNode::joined(3600, Timing::default()).await;
    tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
    node.start();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(
        node.fleet.state.borrow().hellos.is_empty(),
        "an expired certificate opens nothing"
    );
    assert!(node.network.dials().len() >= 3, "and it is tried again");
}

/// The fleet is away for ten minutes: the waits grow to half a minute at most and are not all the same.
#[tokio::test(start_paused = true)]
async fn dials_follow_the_full_jitter_schedule() {
    let mut node = TestNode::joined(DAY, Timing::default()).await;
    node.network.set(Weather::Refusing);
    node.start();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let dials = node.network.dials();
    let waits: Vec<Duration> = dials.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let bounds = Backoff::default();
    for (n, wait) in waits.iter().enumerate() {
        // A timer of tokio fires on the next millisecond.
        let bound = bounds.bound(u32::try_from(n).unwrap() + 1) + Duration::from_millis(2);
        assert!(*wait <= bound, "wait {n} of {wait:?} is beyond {bound:?}");
    }
    // Full jitter of a 30 s bound waits 15 s on average: about 40 dials, and 20 to 80 with near certainty.
    assert!((20..=90).contains(&dials.len()), "{} dials", dials.len());
    let distinct: std::collections::BTreeSet<_> = waits.iter().collect();
    assert!(distinct.len() > waits.len() / 2, "{waits:?}");
}

/// Keepalive: a partition that drops everything silently is noticed within 15 s.
#[tokio::test(start_paused = true)]
async fn a_silent_partition_is_noticed_within_fifteen_seconds() {
    let mut node = TestNode::joined(DAY, Timing::default()).await;
    node.start();
    node.fleet.until("a session", |s| s.open == 1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(node.network.dials().len(), 1, "a healthy session stays");
    node.network.set(Weather::Partitioned);
    let cut = Instant::now();
    node.network.until_dialled(2).await;
    // 15 s, and up to half a second of jitter before the dial.
    assert!(
        cut.elapsed() <= Duration::from_millis(15_700),
        "{:?}",
        cut.elapsed()
    );
}

/// What the owner promises for production is measured here and told the warden, which alone knows whether it is good.
#[tokio::test]
async fn what_production_promises_is_measured_and_told_the_warden() {
    let service = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = service.local_addr().unwrap().to_string();
    let mut node = TestNode::joined(DAY, Timing::default()).await;
    let target = |probe, p99| SloTarget {
        unit: "web.service".into(),
        probe: Some(probe),
        target: Some(slo_target::Target::P99Us(p99)),
        every_us: 0,
    };
    let probe = slo_target::Probe::Tcp(address);
    node.warden
        .ledger
        .send_modify(|ledger| ledger.slo_targets = vec![target(probe, 500_000)]);
    node.start();
    let mut ledger = node.warden.ledger.subscribe();
    let told = ledger.wait_for(|ledger| {
        ledger
            .readings
            .iter()
            .any(|reading| reading.unit == "web.service")
    });
    let told = tokio::time::timeout(Duration::from_secs(60), told)
        .await
        .unwrap()
        .unwrap()
        .readings
        .clone();
    assert_eq!(told[0].measured, None, "one sample is no percentile");
    assert!(
        told[0].trouble.ends_with("of 100 samples are in"),
        "{}",
        told[0].trouble
    );
    drop(service);
    let missed = ledger.wait_for(|ledger| ledger.readings.iter().any(|reading| reading.measured.is_some()));
    let missed = tokio::time::timeout(Duration::from_secs(60), missed)
        .await
        .unwrap()
        .unwrap()
        .readings
        .clone();
    let whole = Some(slo_reading::Measured::P99Us(1_000_000));
    assert_eq!(
        missed[0].measured, whole,
        "whoever refuses is missed with the whole time-out"
    );
}
