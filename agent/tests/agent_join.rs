//! Joining: what is written, and that a refused or broken join changes nothing.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "agent_fakes/fleet.rs"]
#[allow(dead_code, reason = "shared with the session tests")]
mod fleet;
#[path = "agent_fakes/network.rs"]
#[allow(dead_code, reason = "shared with the session tests")]
mod network;
#[path = "agent_fakes/node.rs"]
#[allow(dead_code, reason = "shared with the session tests")]
mod node;
#[path = "agent_fakes/pki.rs"]
mod pki;
#[path = "agent_fakes/warden.rs"]
#[allow(dead_code, reason = "shared with the session tests")]
mod warden;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use loadline_node::agent::{FLEET_NAME, JoinError, JoinOutcome, JoinPlan, JoinToken, join};

use self::fleet::FakeFleet;
use self::network::{MemoryNetwork, Weather};
use self::node::{NAME, SECRET, places, quick, token};
use self::pki::{Ca, TestClock};

struct Site {
    folder: tempfile::TempDir,
    fleet: Arc<FakeFleet>,
    network: Arc<MemoryNetwork>,
}

impl Site {
    fn new(names: &[&str]) -> Self {
        let fleet = FakeFleet::new(Ca::new(TestClock::new()), 86_400);
        fleet.state.send_modify(|state| {
            state.tokens.insert(SECRET.into(), NAME.into());
        });
        let (network, accepted) = MemoryNetwork::new();
        fleet.serve(fleet.ca.server_config(false, names), accepted);
        Self {
            folder: tempfile::tempdir().unwrap(),
            fleet,
            network,
        }
    }

    fn plan(&self, token: JoinToken) -> JoinPlan {
        JoinPlan {
            token,
            name: None,
            rejoin: false,
            places: places(self.folder.path()),
            owner: None,
            timing: quick(),
        }
    }

    async fn join(&self, plan: JoinPlan) -> Result<JoinOutcome, JoinError> {
        join(plan, &*self.network).await
    }

    /// Everything below the folder, by path and content.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        fn walk(folder: &std::path::Path, found: &mut Vec<(String, Vec<u8>)>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    found.push((path.display().to_string(), Vec::new()));
                    walk(&path, found);
                } else {
                    found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
                }
            }
        }
        let mut found = Vec::new();
        walk(self.folder.path(), &mut found);
        found.sort();
        found
    }
}

#[tokio::test]
async fn a_join_pins_the_trust_and_keeps_the_key_to_itself() {
    let site = Site::new(&[FLEET_NAME]);
    let outcome = site.join(site.plan(token(&site.fleet))).await.unwrap();
    assert_eq!((outcome.node.as_str(), outcome.node_id), (NAME, site.fleet.node));
    let places = places(site.folder.path());
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&places.key()), 0o600);
    assert_eq!(mode(&places.trust().join("ca.pem")), 0o644);
    assert_eq!(mode(&places.state), 0o700);
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(places.trust().join("fleet.json")).unwrap()).unwrap();
    assert_eq!(json["node"], NAME);
    assert_eq!(json["fleet_id"], site.fleet.ca.fleet.to_string());
    assert_eq!(json["session_address"], "fleet.test:7717");
    assert_eq!(json["order_key_id"], site.fleet.order_key_id());
    assert!(!site.files().iter().any(|(path, _)| path.ends_with(".new")));
}

/// Each way to be refused, what it says, and that nothing is left behind.
#[tokio::test]
async fn refused_joins_say_why_and_change_nothing() {
    struct Case {
        name: &'static str,
        says: &'static str,
        prepare: fn(&Site, &mut JoinPlan),
    }
    let cases = [
        Case {
            name: "used or late",
            says: "this token was used or is too old: make a new one",
            prepare: |site, _| site.fleet.state.send_modify(|state| state.tokens.clear()),
        },
        Case {
            name: "made for another node, by the fleet's word",
            says: "this token is for another node",
            prepare: |_, plan| plan.token.node = "node-b".into(),
        },
        Case {
            name: "made for another node, by the token's word",
            says: "this token is for the node `node-a`, not for `node-b`",
            prepare: |_, plan| plan.name = Some("node-b".into()),
        },
        Case {
            name: "another CA",
            says: "is not the fleet this node should trust",
            prepare: |_, plan| plan.token.fingerprint = [7; 32],
        },
        Case {
            name: "nobody there",
            says: "cannot reach the fleet at fleet.test:7718",
            prepare: |site, _| site.network.set(Weather::Refusing),
        },
        Case {
            name: "an order key that is not the one named",
            says: "its order key is not the one it names",
            prepare: |site, _| site.fleet.state.send_modify(|state| state.wrong_order_key = true),
        },
    ];
    for Case { name, says, prepare } in cases {
        let site = Site::new(&[FLEET_NAME]);
        let mut plan = site.plan(token(&site.fleet));
        prepare(&site, &mut plan);
        let error = site.join(plan).await.unwrap_err().to_string();
        assert!(error.contains(says), "{name}: {error}");
        assert_eq!(site.files(), [], "{name}: nothing is left behind");
    }
}

#[tokio::test]
async fn a_fleet_under_another_name_is_refused() {
    let site = Site::new(&["other.name"]);
    let error = site
        .join(site.plan(token(&site.fleet)))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("is not the fleet this node should trust"),
        "{error}"
    );
    assert_eq!(site.fleet.state.borrow().joins, 0, "the secret was not shown");
}

#[tokio::test]
async fn a_second_join_needs_to_be_meant() {
    let site = Site::new(&[FLEET_NAME]);
    site.join(site.plan(token(&site.fleet))).await.unwrap();
    let before = site.files();
    let again = |site: &Site| {
        site.fleet.state.send_modify(|state| {
            state.tokens.insert(SECRET.into(), NAME.into());
        });
        site.plan(token(&site.fleet))
    };
    let error = site.join(again(&site)).await.unwrap_err();
    assert!(error.to_string().contains("--rejoin"), "{error}");
    assert_eq!(
        (site.files(), site.fleet.state.borrow().joins),
        (before.clone(), 1)
    );
    let meant = JoinPlan {
        rejoin: true,
        ..again(&site)
    };
    site.join(meant).await.unwrap();
    assert_ne!(site.files(), before, "a new key and certificate");
    assert_eq!(site.fleet.state.borrow().joins, 2);
}

#[tokio::test]
async fn a_folder_that_takes_no_file_is_noticed_before_the_token_is_used() {
    let site = Site::new(&[FLEET_NAME]);
    std::fs::write(site.folder.path().join("etc"), "a file, not a folder").unwrap();
    let error = site.join(site.plan(token(&site.fleet))).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "nothing was changed and the token was not used"
    );
    assert_eq!(site.fleet.state.borrow().joins, 0);
    assert!(site.fleet.state.borrow().tokens.contains_key(SECRET));
}
