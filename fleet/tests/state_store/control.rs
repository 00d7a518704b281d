//! What operators let nodes do, and what lending has cost: in the state, in the store, after a restart.

use crate::world::{Script, World, draft, inventory, ledger, sample, spec};
use loadline_fleet::state::rows::CostRow;
use loadline_fleet::state::{
    Ceiling, Command, Cost, CostCounts, HeldCeiling, Inventory, LendMode, OrderKind, Refused, Reply, State,
    Word,
};
use loadline_fleet::store::{Sqlite, Store};
use loadline_model::{Generation, PerMille, Span, WallTime};

fn set(world: &mut World, node: &str, mode: Option<LendMode>, line: Option<u16>) -> Result<Reply, Refused> {
    world.step(Command::SetCeiling {
        by: "ada".into(),
        node: node.into(),
        mode,
        line: line.map(PerMille),
    })
}

fn ordered(world: &World, node: &Script) -> Vec<(Generation, Ceiling)> {
    let orders = world.orders(node.id);
    let of = |order: &loadline_fleet::state::Order| match &order.what {
        OrderKind::Ceiling(ceiling) => Some((order.generation, ceiling.clone())),
        _ => None,
    };
    orders.iter().filter_map(of).collect()
}

fn ceiling(mode: LendMode, line: u16) -> Ceiling {
    Ceiling {
        mode,
        line: PerMille(line),
        by: "ada".into(),
    }
}

fn told(world: &mut World, node: &Script, inventory: Inventory) {
    world
        .step(Command::Alive {
            node: node.id,
            session: node.session,
            sample: None,
            word: None,
            inventory: Some(Box::new(inventory)),
        })
        .unwrap();
}

#[test]
fn the_newest_word_is_ordered_kept_and_told_again_to_a_node_that_forgot() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 2);
    set(&mut world, "n1", None, Some(500)).unwrap();
    set(&mut world, "n1", Some(LendMode::Shadow), None).unwrap();
    // The last word only: the one before is not worth sending.
    assert_eq!(
        ordered(&world, &node),
        [(Generation(2), ceiling(LendMode::Shadow, 500))]
    );
    set(&mut world, "n1", Some(LendMode::Shadow), None).unwrap();
    assert_eq!(ordered(&world, &node).len(), 1, "nothing new was said");
    world.restart();
    node.hello(&mut world, 0, Vec::new());
    assert_eq!(
        ordered(&world, &node),
        [(Generation(2), ceiling(LendMode::Shadow, 500))]
    );
    let shown = |world: &World| world.state.node("n1", world.now).unwrap().summary.ceiling;
    assert!(!shown(&world).unwrap().applied);
    node.hello(&mut world, 2, Vec::new());
    assert_eq!(ordered(&world, &node), []);
    assert!(shown(&world).unwrap().applied);
    // Its ledger is lost: the same again, under a new number.
    node.ledger = ledger(9);
    node.hello(&mut world, 0, Vec::new());
    assert_eq!(
        ordered(&world, &node),
        [(Generation(3), ceiling(LendMode::Shadow, 500))]
    );
    set(&mut world, "n1", Some(LendMode::Enforce), Some(1000)).unwrap();
    assert_eq!(
        ordered(&world, &node),
        [(Generation(4), ceiling(LendMode::Enforce, 1000))]
    );
    node.hello(&mut world, 4, Vec::new());
    assert_eq!(shown(&world), None, "lifted, and the node knows");
    node.ledger = ledger(10);
    node.hello(&mut world, 0, Vec::new());
    assert_eq!(ordered(&world, &node), [], "there is nothing to tell");
}

#[test]
fn nothing_is_placed_on_a_closed_node_from_the_moment_it_is_said() {
    let mut world = World::new();
    Script::join(&mut world, "n1", 2);
    for (number, mode, line) in [
        (1, None, Some(0)),
        (2, Some(LendMode::Shadow), Some(1000)),
        (3, Some(LendMode::Off), None),
    ] {
        set(&mut world, "n1", mode, line).unwrap();
        world.submit(number, spec(draft())).unwrap();
        assert!(world.detail(number).attempts.is_empty(), "{mode:?} {line:?}");
    }
    set(&mut world, "n1", Some(LendMode::Enforce), None).unwrap();
    assert_eq!(world.detail(1).attempts.len(), 1);
}

#[test]
fn refusals_name_what_stands_in_the_way() {
    let mut world = World::new();
    world.join("never");
    let node = Script::join(&mut world, "n1", 2);
    let refused = set(&mut world, "nowhere", None, Some(0)).unwrap_err();
    assert_eq!(refused.reason(), "NODE_UNKNOWN");
    let refused = set(&mut world, "never", None, Some(0)).unwrap_err();
    assert_eq!(refused.reason(), "NODE_NEVER_SEEN");
    let old = Inventory {
        owner_mode: None,
        ..inventory(2)
    };
    told(&mut world, &node, old);
    let refused = set(&mut world, "n1", None, Some(0)).unwrap_err();
    assert_eq!(
        (refused.reason(), refused.to_string().as_str()),
        (
            "NODE_TOO_OLD",
            "node n1 runs a version of loadline-node that cannot be told what it may do"
        )
    );
    let shadow = Inventory {
        owner_mode: Some(LendMode::Shadow),
        mode: LendMode::Shadow,
        ..inventory(2)
    };
    told(&mut world, &node, shadow);
    let refused = set(&mut world, "n1", Some(LendMode::Enforce), None).unwrap_err();
    assert_eq!(
        (refused.reason(), refused.to_string().as_str()),
        (
            "BEYOND_OWNER",
            "the owner of node n1 allows no more than `shadow`: `lend.mode` in /etc/loadline/node.toml there says so"
        )
    );
    assert_eq!(world.orders(node.id), []);
    set(&mut world, "n1", Some(LendMode::Off), None).unwrap();
    assert_eq!(
        ordered(&world, &node),
        [(Generation(1), ceiling(LendMode::Off, 1000))]
    );
}

#[test]
fn a_fleet_with_an_older_store_can_lift_what_it_does_not_know_of() {
    let mut world = World::new();
    let node = Script::join(&mut world, "n1", 2);
    let held = Inventory {
        ceilings: vec![HeldCeiling {
            here: false,
            mode: LendMode::Enforce,
            line: PerMille(0),
            by: "bea".into(),
            at: WallTime(1),
        }],
        ..inventory(2)
    };
    told(&mut world, &node, held);
    set(&mut world, "n1", None, Some(1000)).unwrap();
    assert_eq!(
        ordered(&world, &node),
        [(Generation(1), ceiling(LendMode::Enforce, 1000))]
    );
}

/// Five minutes in which the node says that its counts stand there.
fn five_minutes(world: &mut World, node: &Script, since: &str, cost: Cost) {
    for _ in 0..60 {
        let word = Word {
            level: "hold".into(),
            reason: "it was bad".into(),
            counts: Some(CostCounts {
                since: since.into(),
                cost,
            }),
        };
        world
            .step(Command::Alive {
                node: node.id,
                session: node.session,
                sample: Some(sample(world.now.wall, 2)),
                word: Some(Box::new(word)),
                inventory: None,
            })
            .unwrap();
        world.now.wall.0 += 5_000_000;
        world.now.mono.0 += 5_000_000;
    }
}

fn cost(stalled_ms: u64, evictions: u64) -> Cost {
    Cost {
        stalled: Span::from_millis(stalled_ms),
        evictions,
        ..Cost::default()
    }
}

fn week(state: &State, world: &World) -> CostRow {
    state.headroom(Some("n1"), world.now).unwrap()[0].week
}

#[test]
fn costs_are_counted_once_over_restarts_of_warden_and_fleetd() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Sqlite::open(&folder.path().join("store.db")).unwrap();
    store.load().unwrap();
    let mut world = World::new();
    // Buckets begin every five minutes.
    world.now.wall = WallTime(300_000_000 * 4_000_000);
    let node = Script::join(&mut world, "n1", 2);
    five_minutes(&mut world, &node, "a", cost(100, 1));
    five_minutes(&mut world, &node, "a", cost(150, 2));
    // What is not kept yet is shown all the same.
    assert_eq!(week(&world.state, &world).cost, cost(150, 2));
    // The warden starts anew in between: its counts begin at zero under another name.
    five_minutes(&mut world, &node, "b", cost(10, 1));
    five_minutes(&mut world, &node, "b", cost(10, 1));
    assert_eq!(week(&world.state, &world).cost, cost(160, 3));
    // fleetd too: what was kept is there, and the same counts do not count again.
    store.commit(&world.log).unwrap();
    let (state, dangling) = State::load(store.load().unwrap());
    assert_eq!(dangling, []);
    assert_eq!(week(&state, &world).cost, cost(160, 3));
    // And one sample at the join.
    assert_eq!(week(&state, &world).observed, Span::from_secs(3 * 300 + 5));
    world.state = state;
    let mut again = node.clone();
    again.hello(&mut world, 0, Vec::new());
    five_minutes(&mut world, &again, "b", cost(15, 1));
    assert_eq!(week(&world.state, &world).cost, cost(165, 3));
    let shown = world.state.node("n1", world.now).unwrap().summary.word.unwrap();
    assert_eq!(
        (shown.level.as_str(), shown.reason.as_str()),
        ("hold", "it was bad")
    );
    // A week later none of it is shown; a day more and it is gone.
    world.now.wall.0 += 8 * 24 * 3_600_000_000;
    assert_eq!(week(&world.state, &world).observed, Span::ZERO);
    store
        .commit(&[loadline_fleet::state::Change::ForgetBuckets(world.now.wall)])
        .unwrap();
    let (state, _) = State::load(store.load().unwrap());
    world.now.wall.0 -= 8 * 24 * 3_600_000_000;
    assert_eq!(week(&state, &world), CostRow::default());
}

#[test]
fn ceilings_survive_in_the_store_and_one_that_cannot_be_read_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut world = World::new();
    let node = Script::join(&mut world, "n1", 2);
    set(&mut world, "n1", Some(LendMode::Shadow), Some(250)).unwrap();
    let mut store = Sqlite::open(&path).unwrap();
    store.load().unwrap();
    store.commit(&world.log).unwrap();
    let (state, _) = State::load(store.load().unwrap());
    assert_eq!(state.orders(node.id, Generation(0)), world.orders(node.id));
    drop(store);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute("UPDATE ceiling SET mode = 'maybe'", [])
        .unwrap();
    drop(connection);
    let loaded = Sqlite::open(&path).unwrap().load().unwrap();
    assert_eq!(loaded.set_aside.len(), 1);
    assert_eq!(loaded.set_aside[0].why, "`mode` cannot be `maybe`");
}

#[test]
fn a_store_of_the_first_version_becomes_a_current_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut world = World::new();
    Script::join(&mut world, "n1", 2);
    let mut store = Sqlite::open(&path).unwrap();
    store.load().unwrap();
    store.commit(&world.log).unwrap();
    drop(store);
    // What later versions brought is taken away again.
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "DROP TABLE ceiling; DROP TABLE counted; DROP TABLE cost; DROP TABLE prove; DROP TABLE prove_report;
             DROP TABLE team; DROP TABLE member;
             ALTER TABLE node DROP COLUMN labels; ALTER TABLE node DROP COLUMN taints;
             PRAGMA user_version = 1",
        )
        .unwrap();
    drop(connection);
    let mut store = Sqlite::open(&path).unwrap();
    let (state, dangling) = State::load(store.load().unwrap());
    assert_eq!((dangling.len(), state.nodes(world.now).len()), (0, 1));
    set(&mut world, "n1", None, Some(0)).unwrap();
    store.commit(&world.log).unwrap();
    let (state, _) = State::load(store.load().unwrap());
    assert!(state.nodes(world.now)[0].ceiling.is_some());
}
