//! Making a fleet, letting an administrator in again, the site's own PKI.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use loadline_fleet::ca::{Authority, KeysLayout, Subject};
use loadline_fleet::run::{AdminName, InitError, InitOptions, init, start};
use loadline_fleet::tls::PkiFiles;
use loadline_proto::fleet::v1 as fleet;

use crate::world::{Person, START, World, client_config, clock, config, dial, make, short_limits, stop};

#[tokio::test]
async fn a_fleet_is_made_once() {
    let world = World::new().await;
    let World { dir, serving, .. } = world;
    stop(serving).await;
    let options = InitOptions {
        state_dir: dir.path().to_owned(),
        names: vec!["127.0.0.1".parse().unwrap()],
        admin: AdminName {
            name: "eve".into(),
            unix_account: None,
        },
    };
    let now = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(START));
    let before = fs::read(dir.path().join("keys/ca.pem")).unwrap();
    let again = {
        let clock = clock(&now);
        tokio::task::spawn_blocking(move || init(&options, &clock))
            .await
            .unwrap()
    };
    assert!(matches!(again, Err(InitError::Keys(_))), "{again:?}");
    assert_eq!(fs::read(dir.path().join("keys/ca.pem")).unwrap(), before);
}

#[tokio::test]
async fn two_fleetd_do_not_share_a_store() {
    let world = World::new().await;
    let now = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(START));
    let second = start(&config(world.dir.path()), clock(&now), short_limits()).await;
    let problem = second
        .expect_err("a second fleetd runs on the same store")
        .to_string();
    assert!(problem.contains("in use"), "{problem}");
}

#[tokio::test]
async fn the_sites_own_authority_signs_instead() {
    let dir = tempfile::tempdir().unwrap();
    let now = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(START));
    let made = make(dir.path().to_owned(), clock(&now)).await;
    let (pem, key) = Authority::generate(made.fleet, loadline_model::WallTime(START)).unwrap();
    let files = PkiFiles {
        ca: dir.path().join("site.pem"),
        ca_key: dir.path().join("site.key"),
        server: None,
    };
    fs::write(&files.ca, &pem).unwrap();
    fs::write(&files.ca_key, &key).unwrap();
    fs::set_permissions(&files.ca_key, Permissions::from_mode(0o600)).unwrap();
    let site = Authority::read(made.fleet, &pem, &key).unwrap();
    let mut config = config(dir.path());
    config.pki = Some(files);
    let serving = start(&config, clock(&now), short_limits()).await.unwrap();
    dial(serving.addresses.access, client_config(&site, None))
        .await
        .unwrap();
    let own = KeysLayout::of(dir.path()).read().unwrap().authority;
    assert!(
        dial(serving.addresses.access, client_config(&own, None))
            .await
            .is_err()
    );
    stop(serving).await;
}

#[tokio::test]
async fn an_empty_store_with_the_same_keys_is_the_same_fleet() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let identity = world.identity(&mut admin, "olga", "operator").await;
    let node = crate::jobs::joined(&world, &mut admin, "n1").await;
    drop(admin);
    let World { dir, serving, .. } = world;
    stop(serving).await;
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("store.db")
        {
            fs::remove_file(path).unwrap();
        }
    }
    let now = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(START));
    let serving = start(&config(dir.path()), clock(&now), short_limits())
        .await
        .unwrap();
    let tls = client_config(
        &KeysLayout::of(dir.path()).read().unwrap().authority,
        Some(&identity),
    );
    // People have to be added again; nodes are known by their certificates.
    let person = match crate::world::channel(serving.addresses.session, tls).await {
        Ok(channel) => Person::on(channel)
            .admin
            .who_am_i(fleet::WhoAmIRequest {})
            .await
            .is_ok(),
        Err(_) => false,
    };
    assert!(!person);
    let tls = client_config(
        &KeysLayout::of(dir.path()).read().unwrap().authority,
        Some(&node.identity),
    );
    let channel = crate::world::channel(serving.addresses.session, tls)
        .await
        .unwrap();
    node.open(channel, node.hello()).await.unwrap();
    stop(serving).await;
}

#[tokio::test]
async fn the_sites_certificate_for_fleetd_must_carry_the_name_that_clients_verify() {
    let dir = tempfile::tempdir().unwrap();
    let now = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(START));
    make(dir.path().to_owned(), clock(&now)).await;
    let own = KeysLayout::of(dir.path()).read().unwrap().authority;
    let at = loadline_model::WallTime(START);
    let key = rcgen::KeyPair::generate().unwrap();
    let files = |name: &str| dir.path().join(name);
    let write = |name: &str, text: &str| {
        fs::write(files(name), text).unwrap();
        fs::set_permissions(files(name), Permissions::from_mode(0o600)).unwrap();
    };
    write("fleetd.key", &key.serialize_pem());
    let mut config = config(dir.path());
    config.pki = Some(PkiFiles {
        ca: dir.path().join("keys/ca.pem"),
        ca_key: dir.path().join("keys/ca.key.pem"),
        server: Some((files("fleetd.pem"), files("fleetd.key"))),
    });
    write(
        "fleetd.pem",
        &own.issue(Subject::Person { name: "ada" }, &key, at).unwrap().pem,
    );
    let refused = start(&config, clock(&now), short_limits())
        .await
        .expect_err("a wrong name is served");
    assert!(refused.to_string().contains("fleetd.loadline"), "{refused}");
    write(
        "fleetd.pem",
        &own.issue(Subject::Server { names: &[] }, &key, at).unwrap().pem,
    );
    let serving = start(&config, clock(&now), short_limits()).await.unwrap();
    let stream = dial(serving.addresses.access, client_config(&own, None))
        .await
        .unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    assert!(
        fs::read_to_string(files("fleetd.pem"))
            .unwrap()
            .contains("BEGIN CERTIFICATE")
    );
    let ours = rustls::pki_types::pem::PemObject::from_pem_file(files("fleetd.pem")).unwrap();
    assert_eq!(shown, ours);
    drop(stream);
    stop(serving).await;
}
