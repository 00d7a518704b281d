//! Tests that operators have nodes run: who may begin one, what its node is told, what becomes of it.

use crate::world::{Script, World, inventory, ledger};
use loadline_fleet::state::{
    Change, Command, Event, Happening, Hello, Inventory, Order, OrderKind, Prove, ProveConsent, ProveNews,
    ProveReport, ProveStage, ProveView, Refused, Reply, State,
};
use loadline_fleet::store::{Sqlite, Store};
use loadline_model::{Generation, ProveAsk, ProveId, Sequence};

fn begin(world: &mut World, node: &str) -> Result<ProveId, Refused> {
    let (by, node, ask) = ("ada".into(), node.into(), ProveAsk::default());
    match world.step(Command::BeginProve { by, node, ask })? {
        Reply::Prove(view) => Ok(view.run.unwrap().run),
        other => panic!("{other:?}"),
    }
}

fn stop(world: &mut World, node: &str) -> Result<Reply, Refused> {
    let (by, node) = ("bea".into(), node.into());
    world.step(Command::StopProve { by, node })
}

fn seen(world: &World) -> ProveView {
    world.state.prove("n1", world.now).unwrap()
}

fn stands(world: &World) -> (ProveStage, String) {
    let row = seen(world).run.unwrap();
    (row.stage, row.sentence.clone())
}

fn ordered(world: &World, node: &Script) -> Vec<(u64, Prove)> {
    let of = |order: Order| match order.what {
        OrderKind::Prove(prove) => Some((order.generation.0, prove)),
        _ => None,
    };
    world.orders(node.id).into_iter().filter_map(of).collect()
}

fn report(size: usize) -> ProveReport {
    ProveReport {
        text: "protected".into(),
        json: "{}".into(),
        html: "x".repeat(size),
        whole: true,
        cost: false,
    }
}

fn news(run: ProveId, stage: ProveStage, sentence: &str, report: Option<ProveReport>) -> ProveNews {
    ProveNews {
        run,
        stage,
        sentence: sentence.into(),
        report: report.map(Box::new),
    }
}

fn tell(world: &mut World, node: &mut Script, news: ProveNews) {
    node.sequence += 1;
    let event = Event {
        ledger: node.ledger,
        sequence: Sequence(node.sequence),
        boot_id: "b".into(),
        at: world.now.wall,
        what: Happening::Prove(news),
    };
    node.send(world, vec![event]).unwrap();
}

#[test]
fn a_test_is_ordered_runs_and_leaves_its_report() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 2);
    let run = begin(&mut world, "n1").unwrap();
    let wanted = Prove {
        run,
        by: "ada".into(),
        ask: Some(ProveAsk::default()),
    };
    assert_eq!(ordered(&world, &node), [(1, wanted)]);
    assert_eq!(stands(&world), (ProveStage::Ordered, String::new()));
    assert!(matches!(begin(&mut world, "n1"), Err(Refused::ProveRuns(..))));
    node.apply(&mut world);
    assert_eq!(ordered(&world, &node), []);
    tell(
        &mut world,
        &mut node,
        news(run, ProveStage::Running, "cpu alone", None),
    );
    assert_eq!(stands(&world), (ProveStage::Running, "cpu alone".into()));
    assert_eq!(seen(&world).last, None);
    let done = news(run, ProveStage::Reported, "", Some(report(10)));
    tell(&mut world, &mut node, done);
    assert_eq!(stands(&world).0, ProveStage::Reported);
    let last = seen(&world).last.unwrap();
    assert_eq!((last.run, &*last.by, &last.report), (run, "ada", &report(10)));
    // Told again, or told of one that never was here: nothing changes.
    let other = ProveId::from_slice(&[9; 16]).unwrap();
    for late in [
        news(run, ProveStage::Running, "again", None),
        news(run, ProveStage::Failed, "again", None),
        news(other, ProveStage::Reported, "", Some(report(5))),
    ] {
        tell(&mut world, &mut node, late);
        assert_eq!(stands(&world).0, ProveStage::Reported);
        assert_eq!(seen(&world).last.unwrap().report, report(10));
    }
    let of_unknown = |change: &Change| matches!(change, Change::Log(row) if row.kind == "prove_unknown");
    assert!(world.log.iter().any(of_unknown));
    // Another one that comes to nothing does not take the report away.
    let next = begin(&mut world, "n1").unwrap();
    let refused = news(next, ProveStage::Refused, "production is in need", None);
    tell(&mut world, &mut node, refused);
    assert_eq!(
        stands(&world),
        (ProveStage::Refused, "production is in need".into())
    );
    assert_eq!(seen(&world).last.unwrap().run, run);
}

#[test]
fn a_word_to_stop_takes_the_place_of_the_word_to_begin_and_is_said_once() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 2);
    assert_eq!(stop(&mut world, "n1"), Err(Refused::NoProve("n1".into())));
    let run = begin(&mut world, "n1").unwrap();
    stop(&mut world, "n1").unwrap();
    let end = Prove {
        run,
        by: "bea".into(),
        ask: None,
    };
    // A node that never heard of it need not begin it.
    assert_eq!(ordered(&world, &node), [(2, end.clone())]);
    stop(&mut world, "n1").unwrap();
    assert_eq!(ordered(&world, &node), [(2, end)]);
    node.apply(&mut world);
    let stopped = news(run, ProveStage::Stopped, "stopped by bea", Some(report(1)));
    tell(&mut world, &mut node, stopped);
    assert_eq!(stands(&world).0, ProveStage::Stopped);
    assert!(seen(&world).last.is_some(), "what was measured is kept");
    assert_eq!(stop(&mut world, "n1"), Err(Refused::NoProve("n1".into())));
}

#[test]
fn who_cannot_be_tested_is_said() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 2);
    let told = |world: &mut World, node: &mut Script, prove| {
        let inventory = Some(Inventory {
            prove,
            ..inventory(2)
        });
        let hello = Hello {
            inventory,
            ..node.greeting(0, Vec::new())
        };
        match world.step(Command::Hello(Box::new(hello))) {
            Ok(Reply::Welcome { session, .. }) => node.session = session,
            other => panic!("{other:?}"),
        }
    };
    told(&mut world, &mut node, None);
    assert_eq!(begin(&mut world, "n1"), Err(Refused::ProveTooOld("n1".into())));
    told(&mut world, &mut node, Some(ProveConsent::Refuse));
    let refused = begin(&mut world, "n1").unwrap_err();
    assert_eq!(refused, Refused::ProveForbidden("n1".into()));
    told(&mut world, &mut node, Some(ProveConsent::Allow));
    world.pass(20);
    assert_eq!(begin(&mut world, "n1"), Err(Refused::NodeSilent("n1".into())));
    assert!(matches!(begin(&mut world, "n7"), Err(Refused::NodeUnknown(_))));
    world.join("never");
    assert!(matches!(
        begin(&mut world, "never"),
        Err(Refused::NodeNeverSeen(_))
    ));
    assert_eq!(ordered(&world, &node), []);
}

#[test]
fn a_node_that_never_says_how_it_ended_is_given_up_and_believed_all_the_same() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 2);
    let run = begin(&mut world, "n1").unwrap();
    node.apply(&mut world);
    let limit = ProveAsk::default().limit.as_secs();
    world.pass(limit + 299);
    assert_eq!(stands(&world).0, ProveStage::Ordered);
    world.pass(2);
    assert_eq!(stands(&world).0, ProveStage::Lost);
    node.hello(&mut world, 1, Vec::new());
    assert_eq!(ordered(&world, &node), [], "nothing more is asked of it");
    tell(
        &mut world,
        &mut node,
        news(run, ProveStage::Running, "late", None),
    );
    assert_eq!(stands(&world).0, ProveStage::Lost);
    let done = news(run, ProveStage::Reported, "", Some(report(1)));
    tell(&mut world, &mut node, done);
    assert_eq!(stands(&world).0, ProveStage::Reported);
    assert!(seen(&world).last.is_some());
}

#[test]
fn a_machine_that_was_started_anew_runs_no_test_from_before() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 2);
    let boot = |world: &mut World, node: &mut Script, boot: &str, applied| {
        let boot_id = boot.into();
        let hello = Hello {
            boot_id,
            ..node.greeting(applied, Vec::new())
        };
        match world.step(Command::Hello(Box::new(hello))) {
            Ok(Reply::Welcome { session, .. }) => node.session = session,
            other => panic!("{other:?}"),
        }
    };
    begin(&mut world, "n1").unwrap();
    // It has not heard of it yet, and begins it now.
    boot(&mut world, &mut node, "second", 0);
    assert_eq!(stands(&world).0, ProveStage::Ordered);
    assert_eq!(ordered(&world, &node).len(), 1);
    node.apply(&mut world);
    boot(&mut world, &mut node, "second", 1);
    assert_eq!(stands(&world).0, ProveStage::Ordered, "only its agent was");
    boot(&mut world, &mut node, "third", 1);
    let lost = (ProveStage::Lost, "the node was started anew meanwhile".into());
    assert_eq!(stands(&world), lost);
}

#[test]
fn a_report_that_is_too_large_is_not_kept() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 2);
    let run = begin(&mut world, "n1").unwrap();
    let done = news(run, ProveStage::Reported, "", Some(report(1 << 20)));
    tell(&mut world, &mut node, done);
    let (stage, sentence) = stands(&world);
    assert_eq!(stage, ProveStage::Failed);
    assert!(sentence.contains("too large to keep"), "{sentence}");
    assert_eq!(seen(&world).last, None);
}

#[test]
fn the_newest_hundred_nodes_keep_their_report() {
    let mut world = World::new();
    let mut nodes = Vec::new();
    for index in 0..101u32 {
        let mut node = Script::join(&mut world, &format!("n{index}"), 2 + index);
        node.ledger = ledger(u128::from(index) + 1000);
        node.hello(&mut world, 0, Vec::new());
        nodes.push(node);
    }
    for (index, node) in nodes.iter_mut().enumerate() {
        world.now.wall.0 += 1;
        let run = begin(&mut world, &format!("n{index}")).unwrap();
        tell(
            &mut world,
            node,
            news(run, ProveStage::Reported, "", Some(report(1))),
        );
    }
    let kept = |index: u32| {
        let view = world.state.prove(&format!("n{index}"), world.now).unwrap();
        assert_eq!(view.run.unwrap().stage, ProveStage::Reported);
        view.last.is_some()
    };
    assert!(!kept(0));
    assert!((1..101).all(kept));
}

#[test]
fn tests_survive_in_the_store_and_an_older_store_becomes_a_current_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 2);
    let mut store = Sqlite::open(&path).unwrap();
    store.load().unwrap();
    let first = begin(&mut world, "n1").unwrap();
    node.apply(&mut world);
    tell(
        &mut world,
        &mut node,
        news(first, ProveStage::Reported, "", Some(report(3))),
    );
    begin(&mut world, "n1").unwrap();
    stop(&mut world, "n1").unwrap();
    store.commit(&world.log).unwrap();
    let (state, _) = State::load(store.load().unwrap());
    assert_eq!(state.rows(), world.state.rows());
    assert_eq!(state.orders(node.id, Generation(0)), world.orders(node.id));
    drop(store);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute("UPDATE prove SET stage = 'maybe'", [])
        .unwrap();
    drop(connection);
    let mut store = Sqlite::open(&path).unwrap();
    let loaded = store.load().unwrap();
    assert_eq!(loaded.set_aside[0].why, "`stage` cannot be `maybe`");
    drop(store);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "DROP TABLE prove; DROP TABLE prove_report; DROP TABLE team; DROP TABLE member;
             ALTER TABLE node DROP COLUMN labels; ALTER TABLE node DROP COLUMN taints; PRAGMA user_version = 2",
        )
        .unwrap();
    drop(connection);
    let mut store = Sqlite::open(&path).unwrap();
    let (state, dangling) = State::load(store.load().unwrap());
    assert_eq!(
        (dangling.len(), state.prove("n1", world.now).unwrap().run),
        (0, None)
    );
}
