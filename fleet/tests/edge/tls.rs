//! Who gets a connection on port 7717, who does not, and who loses it.

use std::net::SocketAddr;
use std::time::Duration;

use loadline_fleet::ca::{Authority, Subject};
use loadline_fleet::tls::ConnectionLimits;
use loadline_model::{FleetId, NodeId, Span, WallTime};
use loadline_proto::fleet::v1 as fleet;
use rcgen::KeyPair;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Code;

use crate::jobs::joined;
use crate::world::{
    Identity, Person, SOON, World, channel, client_config, dial, finish, reason, versions, wait_for,
};

fn certified(authority: &Authority, subject: Subject<'_>, at: WallTime) -> Identity {
    let key = KeyPair::generate().unwrap();
    let issued = authority.issue(subject, &key, at).unwrap();
    Identity {
        key,
        certificate: Some(issued.pem),
    }
}

/// With TLS 1.3 a client learns of its refusal from the first byte it waits for.
async fn refused(address: SocketAddr, config: ClientConfig) -> String {
    let mut stream = match dial(address, config).await {
        Ok(stream) => stream,
        Err(error) => return error.to_string(),
    };
    // An HTTP/2 server speaks first: its settings come only if we are let in.
    let mut byte = [0; 1];
    match timeout(SOON, stream.read(&mut byte))
        .await
        .expect("neither let in nor refused")
    {
        Ok(0) => "closed".into(),
        Ok(_) => "LET IN".into(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn the_table_of_port_7717() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let address = world.session_address();
    let (authority, now) = (world.authority(), world.now());
    let fleet = authority.fleet();
    let node: NodeId = "00000000-0000-0000-0000-00000000000a".parse().unwrap();
    let as_node = Subject::Node { id: node, name: "n1" };
    let let_in =
        async |identity: Option<&Identity>| refused(address, client_config(&authority, identity)).await;

    let right = certified(&authority, as_node, now);
    assert_eq!(let_in(Some(&right)).await, "LET IN");

    assert_ne!(let_in(None).await, "LET IN", "no certificate");

    let (pem, key) = Authority::generate(fleet, now).unwrap();
    let other = Authority::read(fleet, &pem, &key).unwrap();
    assert_ne!(
        let_in(Some(&certified(&other, as_node, now))).await,
        "LET IN",
        "another authority"
    );

    let day = Span::from_secs(25 * 3600);
    let long_ago = WallTime(now.0 - i64::try_from(day.0).unwrap());
    assert_ne!(
        let_in(Some(&certified(&authority, as_node, long_ago))).await,
        "LET IN",
        "expired"
    );
    assert_ne!(
        let_in(Some(&certified(&authority, as_node, now.plus(day)))).await,
        "LET IN",
        "not yet valid"
    );

    // Names: signed by the right authority all the same.
    let strange_fleet: FleetId = "00000000-0000-0000-0000-0000000000ff".parse().unwrap();
    let keys = |file| std::fs::read_to_string(world.state("keys").join(file)).unwrap();
    let strange = Authority::read(strange_fleet, &keys("ca.pem"), &keys("ca.key.pem")).unwrap();
    assert_ne!(
        let_in(Some(&certified(&strange, as_node, now))).await,
        "LET IN",
        "another fleet's name"
    );
    let unknown = certified(&authority, Subject::Person { name: "nobody" }, now);
    assert_ne!(let_in(Some(&unknown)).await, "LET IN", "a person nobody added");
    let server = certified(&authority, Subject::Server { names: &[] }, now);
    assert_ne!(let_in(Some(&server)).await, "LET IN", "a server's certificate");

    let old = versions(&[&rustls::version::TLS12]);
    let old = refused(address, finish(old, &authority, Some(&right))).await;
    assert!(old.contains("ProtocolVersion"), "TLS 1.2: {old}");

    plaintext(address).await;

    // The one who is right still is, and each refusal was counted under its reason.
    admin.admin.who_am_i(fleet::WhoAmIRequest {}).await.unwrap();
    counted(&world).await;
}

async fn plaintext(address: SocketAddr) {
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: fleetd\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    timeout(SOON, plain.read_to_end(&mut answer))
        .await
        .expect("plaintext is kept waiting")
        .ok();
    assert!(!answer.starts_with(b"HTTP"), "plaintext was answered: {answer:?}");
}

async fn counted(world: &World) {
    let metrics = &world.serving.edge.metrics;
    for (reason, count) in [
        ("no_certificate", 1),
        ("unknown_issuer", 1),
        ("expired", 1),
        ("not_valid_yet", 1),
        ("wrong_name", 2),
        ("tls_version", 1),
        ("not_tls", 1),
    ] {
        wait_for(reason, async || match metrics.auth_failures(reason) {
            seen if seen >= count => Ok(()),
            seen => Err(format!("{seen} of {count}")),
        })
        .await;
    }
}

#[tokio::test]
async fn clients_recognise_fleetd_by_its_fixed_name_and_its_authority() {
    let world = World::new().await;
    let mut stream = dial(
        world.serving.addresses.access,
        client_config(&world.authority(), None),
    )
    .await
    .unwrap();
    let chain = stream.get_ref().1.peer_certificates().unwrap();
    assert_eq!(
        chain.len(),
        2,
        "leaf and authority, for clients that know only a fingerprint"
    );
    assert_eq!(
        loadline_fleet::ca::fingerprint(&chain[1]),
        world.authority().fingerprint()
    );
    stream.shutdown().await.unwrap();
    let fleet = world.authority().fleet();
    let (pem, key) = Authority::generate(fleet, world.now()).unwrap();
    let other = Authority::read(fleet, &pem, &key).unwrap();
    assert!(
        dial(world.serving.addresses.access, client_config(&other, None))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_session_is_not_resumed() {
    let world = World::new().await;
    let config = client_config(&world.authority(), None);
    for _ in 0..2 {
        let mut stream = dial(world.serving.addresses.access, config.clone())
            .await
            .unwrap();
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            .await
            .unwrap();
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).await.unwrap();
        assert_eq!(
            stream.get_ref().1.handshake_kind(),
            Some(rustls::HandshakeKind::Full)
        );
    }
}

#[tokio::test]
async fn a_ban_closes_open_streams_and_keeps_the_banned_out() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let ada = world.identity(&mut admin, "ada", "user").await;
    let mut watcher = Person::new(&world, &ada).await;
    watcher
        .jobs
        .submit(crate::jobs::submission(1, &["/usr/bin/true"]))
        .await
        .unwrap();
    let mut events = watcher
        .jobs
        .watch(crate::jobs::by_number(1))
        .await
        .unwrap()
        .into_inner();
    events.message().await.unwrap().unwrap();
    let node = joined(&world, &mut admin, "n1").await;
    let mut stream = node.connect(&world).await.unwrap();

    admin
        .admin
        .ban_user(fleet::UserRef { name: "ada".into() })
        .await
        .unwrap();
    let closed = timeout(Duration::from_secs(5), async {
        while let Ok(Some(_)) = events.message().await {}
    });
    closed
        .await
        .expect("the stream of a banned person is open after 5 s");
    let tls = || client_config(&world.authority(), Some(&ada));
    assert_ne!(refused(world.session_address(), tls()).await, "LET IN");

    admin
        .nodes
        .ban(fleet::NodeRef { name: "n1".into() })
        .await
        .unwrap();
    timeout(Duration::from_secs(5), stream.end())
        .await
        .expect("the stream of a banned node is open after 5 s");
    assert!(node.connect(&world).await.is_err());

    admin
        .admin
        .unban_user(fleet::UserRef { name: "ada".into() })
        .await
        .unwrap();
    let mut back = Person::on(channel(world.session_address(), tls()).await.unwrap());
    back.admin.who_am_i(fleet::WhoAmIRequest {}).await.unwrap();
}

#[tokio::test]
async fn an_old_connection_is_asked_to_leave_and_then_cut() {
    let limits = ConnectionLimits {
        age: Duration::from_millis(300),
        grace: Duration::from_millis(300),
        ..crate::world::short_limits()
    };
    let world = World::with(limits, |_| {}).await;
    let mut admin = world.admin().await;
    let node = joined(&world, &mut admin, "n1").await;
    let mut stream = node.connect(&world).await.unwrap();
    let end = timeout(SOON, stream.end())
        .await
        .unwrap()
        .expect("a session says why it ends");
    assert_eq!(
        (end.code(), reason(&end).as_str()),
        (Code::Unavailable, "CONNECTION_ENDS")
    );
    // Coming back is welcome.
    node.connect(&world).await.unwrap();
}

#[tokio::test]
async fn newcomers_cannot_flood_the_access_port() {
    let world = World::new().await;
    let address = world.serving.addresses.access;
    let metrics = world.serving.edge.metrics.clone();
    wait_for("rate limit", async || {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"x").await.ok();
        match metrics.auth_failures("rate_limited") {
            0 => Err("every connection was accepted".into()),
            _ => Ok(()),
        }
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_went_dead_is_noticed() {
    let limits = ConnectionLimits {
        keepalive_interval: Duration::from_millis(200),
        keepalive_timeout: Duration::from_millis(200),
        ..crate::world::short_limits()
    };
    // The shipped ones together are below the 15 s after which a node counts as suspect.
    let shipped = ConnectionLimits::default();
    assert!(shipped.keepalive_interval + shipped.keepalive_timeout < Duration::from_secs(15));
    let world = World::with(limits, |_| {}).await;
    let mut admin = world.admin().await;
    let identity = world.identity(&mut admin, "ada", "user").await;
    // Speaks HTTP/2 as far as the first frames, then never again, and does not close.
    let mut stream = dial(
        world.session_address(),
        client_config(&world.authority(), Some(&identity)),
    )
    .await
    .unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let mut said = Vec::new();
    timeout(SOON, stream.read_to_end(&mut said))
        .await
        .expect("a dead peer is kept")
        .ok();
}

#[tokio::test]
async fn a_connection_does_not_outlive_its_certificate() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    admin.admin.who_am_i(fleet::WhoAmIRequest {}).await.unwrap();
    world.later(Duration::from_secs(12 * 3600));
    let ended = admin.admin.who_am_i(fleet::WhoAmIRequest {}).await.unwrap_err();
    assert_eq!(
        (ended.code(), reason(&ended).as_str()),
        (Code::Unauthenticated, "EXPIRED")
    );
}
