//! Who may talk to whom: logins, refused certificates, fleets that are not the right one, nobody at all.

use std::sync::Arc;

use crate::authority::{Authority, GOOD, Life};
use crate::wire::{Fake, Script, refusal};
use crate::{Ran, World, fleet};
use tonic::Code;

async fn with_life(life: &Life) -> Ran {
    let authority = Arc::new(Authority::new());
    let fake = Fake::start(Arc::clone(&authority), Some(&authority), Script::default()).await;
    let home = tempfile::tempdir().unwrap();
    authority.enrol(home.path(), fake.address, life);
    fleet(home.path(), ["nodes"]).await
}

#[tokio::test]
async fn a_login_leaves_an_identity_that_works() {
    let authority = Arc::new(Authority::new());
    let fake = Fake::start(Arc::clone(&authority), None, Script::default()).await;
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("new");
    let token = authority.login_token(fake.address);
    let ran = fleet(&dir, ["login", &token]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let expected = format!(
        "Logged in to the fleet at {} as ada (role user), for ",
        fake.address
    );
    assert!(ran.out.starts_with(&expected), "{ran:?}");
    let ran = fleet(&dir, ["nodes"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{ran:?}");
    assert_eq!(
        ran.err,
        "The fleet has no node yet. `fleet token node NAME` lets one join.\n"
    );
}

#[tokio::test]
async fn a_token_is_for_one_fleet_only() {
    let (ours, theirs) = (Arc::new(Authority::new()), Authority::new());
    let fake = Fake::start(Arc::clone(&ours), None, Script::default()).await;
    let home = tempfile::tempdir().unwrap();
    let ran = fleet(home.path(), ["login", &theirs.login_token(fake.address)]).await;
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(
        ran.err.contains("no trusted connection to the fleet at"),
        "{ran:?}"
    );
    assert!(
        fake.script(|script| script.asked.is_empty()),
        "the secret was told to a stranger"
    );
    assert!(!home.path().join("identity.key").exists());
}

#[tokio::test]
async fn a_refused_login_says_what_the_fleet_says() {
    let authority = Arc::new(Authority::new());
    let refuse = Some(refusal(
        Code::FailedPrecondition,
        "the token was used already",
        "ask for a new one",
    ));
    let fake = Fake::start(
        Arc::clone(&authority),
        None,
        Script {
            refuse,
            ..Script::default()
        },
    )
    .await;
    let home = tempfile::tempdir().unwrap();
    let ran = fleet(home.path(), ["login", &authority.login_token(fake.address)]).await;
    assert_eq!(ran.code, 1);
    assert_eq!(
        ran.err,
        "fleet: the token was used already\n  next: ask for a new one\n  request r-1\n"
    );
}

#[tokio::test]
async fn a_token_is_not_used_up_where_nothing_can_be_written() {
    let authority = Arc::new(Authority::new());
    let fake = Fake::start(Arc::clone(&authority), None, Script::default()).await;
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("file"), "").unwrap();
    let dir = home.path().join("file/loadline");
    let ran = fleet(&dir, ["login", &authority.login_token(fake.address)]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.err
            .starts_with(&format!("fleet: cannot write {}: ", dir.display())),
        "{ran:?}"
    );
    assert!(
        fake.script(|script| script.asked.is_empty()),
        "the token was used"
    );
}

#[tokio::test]
async fn without_an_identity_one_is_told_how_to_get_one() {
    let home = tempfile::tempdir().unwrap();
    for words in [vec!["jobs"], vec!["run", "--", "true"]] {
        let ran = fleet(home.path(), words).await;
        assert_eq!((ran.code, ran.out.as_str()), (4, ""));
        assert_eq!(
            ran.err,
            "fleet: you are not logged in to a fleet\n  next: ask an operator for a token (`fleet token login YOUR-NAME`), then type `fleet login TOKEN`\n"
        );
    }
}

#[tokio::test]
async fn expired_and_foreign_certificates_are_denied() {
    let ran = with_life(&Life { from: -20, until: -8 }).await;
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(
        ran.err
            .starts_with("fleet: your certificate has expired\n  next: ask an operator"),
        "{ran:?}"
    );

    // Known to the person, and not knowing the person.
    let (ours, others) = (Arc::new(Authority::new()), Authority::new());
    let fake = Fake::start(Arc::clone(&ours), Some(&others), Script::default()).await;
    let home = tempfile::tempdir().unwrap();
    ours.enrol(home.path(), fake.address, &GOOD);
    let ran = fleet(home.path(), ["nodes"]).await;
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(
        ran.err
            .starts_with("fleet: the fleet does not accept your certificate"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn another_fleet_at_the_address_is_not_trusted() {
    let (ours, theirs) = (Authority::new(), Arc::new(Authority::new()));
    let fake = Fake::start(Arc::clone(&theirs), Some(&theirs), Script::default()).await;
    let home = tempfile::tempdir().unwrap();
    ours.enrol(home.path(), fake.address, &GOOD);
    let ran = fleet(home.path(), ["nodes"]).await;
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(ran.err.contains("is not the fleet you logged in to"), "{ran:?}");
}

#[tokio::test]
async fn nobody_at_the_address_is_unreachable() {
    let authority = Authority::new();
    let home = tempfile::tempdir().unwrap();
    // Taken and given back: nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    authority.enrol(home.path(), free, &GOOD);
    let ran = fleet(home.path(), ["run", "--", "true"]).await;
    assert_eq!(ran.code, 5);
    let expected = format!(
        "fleet: cannot reach the fleet at {free}: Connection refused (os error 111)\n  next: is fleetd running there? `systemctl status fleetd` says\n"
    );
    assert_eq!(ran.err, expected);
}

#[tokio::test]
async fn doctor_finds_nothing_wrong_or_says_what_to_do() {
    let world = World::new(Script {
        clock_us: loadline_cli::clock::now().0,
        ..Script::default()
    })
    .await;
    let ran = world.fleet("doctor").await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    assert_eq!(
        ran.out.lines().filter(|line| line.starts_with("ok ")).count(),
        6,
        "{}",
        ran.out
    );

    world.fake.script(|script| script.clock_us -= 300_000_000);
    let ran = world.fleet("doctor -o json").await;
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let clock = json["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["name"] == "clock")
        .unwrap();
    assert_eq!((&clock["health"], ran.code), (&"warning".into(), 0), "{json}");

    let home = tempfile::tempdir().unwrap();
    let ran = fleet(home.path(), ["doctor"]).await;
    assert_eq!(ran.code, 4);
    assert!(
        ran.out
            .starts_with("FAILED   identity     you are not logged in to a fleet\n"),
        "{}",
        ran.out
    );
}
