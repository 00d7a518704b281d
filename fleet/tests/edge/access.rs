//! Join and login: each token works once, for a while, for one name.

use std::time::Duration;

use loadline_fleet::tokens::TokenText;
use loadline_proto::fleet::v1 as fleet;
use loadline_proto::node::v1 as node;
use loadline_proto::node::v1::node_session_client::NodeSessionClient;
use rcgen::KeyPair;
use tonic::Code;

use crate::jobs::joined;
use crate::node::join;
use crate::world::{World, csr, reason};

#[tokio::test]
async fn the_table_of_join_tokens() {
    let world = World::new().await;
    let mut admin = world.admin().await;

    let token = admin.node_token("n1").await;
    let other_name = join(&world, &token, "n2").await.err().unwrap();
    assert_eq!(
        (other_name.code(), reason(&other_name).as_str()),
        (Code::PermissionDenied, "TOKEN_INVALID")
    );
    join(&world, &token, "n1").await.unwrap();
    let again = join(&world, &token, "n1").await.err().unwrap();
    assert_eq!(reason(&again), "TOKEN_INVALID");

    let late = admin.node_token("n3").await;
    world.later(Duration::from_secs(10 * 60 + 1));
    assert_eq!(
        reason(&join(&world, &late, "n3").await.err().unwrap()),
        "TOKEN_INVALID"
    );

    let revoked = fleet::CreateNodeTokenRequest {
        node: "n4".into(),
        ..Default::default()
    };
    let revoked = admin.admin.create_node_token(revoked).await.unwrap().into_inner();
    admin
        .admin
        .revoke_token(fleet::RevokeTokenRequest {
            token_id: revoked.token_id,
        })
        .await
        .unwrap();
    assert_eq!(
        reason(&join(&world, &revoked.token, "n4").await.err().unwrap()),
        "TOKEN_INVALID"
    );

    let login = fleet::CreateLoginTokenRequest { user: "admin".into() };
    let login = admin
        .admin
        .create_login_token(login)
        .await
        .unwrap()
        .into_inner()
        .token;
    assert_eq!(
        reason(&join(&world, &login, "n5").await.err().unwrap()),
        "TOKEN_INVALID"
    );

    let too_long = fleet::CreateNodeTokenRequest {
        node: "n6".into(),
        life_us: 11 * 60 * 1_000_000,
        ..Default::default()
    };
    let too_long = admin.admin.create_node_token(too_long).await.unwrap_err();
    assert_eq!(
        (too_long.code(), reason(&too_long).as_str()),
        (Code::InvalidArgument, "TOKEN_LIFE")
    );
}

#[tokio::test]
async fn of_two_joins_at_once_one_wins() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let token = admin.node_token("n1").await;
    let (one, two) = tokio::join!(join(&world, &token, "n1"), join(&world, &token, "n1"));
    assert_eq!(u8::from(one.is_ok()) + u8::from(two.is_ok()), 1);
}

#[tokio::test]
async fn a_broken_request_does_not_use_the_token_up() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let token = admin.node_token("n1").await;
    let (_, text) = TokenText::decode(&token).unwrap();
    let request = fleet::JoinRequest {
        secret: text.secret,
        node: "n1".into(),
        csr_der: b"nonsense".to_vec(),
        version: String::new(),
    };
    let refused = world.access().await.join(request).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::InvalidArgument, "CERTIFICATE_REFUSED")
    );
    join(&world, &token, "n1").await.unwrap();
}

#[tokio::test]
async fn a_login_token_works_once_and_the_certificate_says_who() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let again = world.login_with(&world.made.login_token).await.err().unwrap();
    assert_eq!(reason(&again), "TOKEN_INVALID");
    let me = admin
        .admin
        .who_am_i(fleet::WhoAmIRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (me.user.as_str(), me.role.as_str(), me.unix_account.as_str()),
        ("admin", "admin", "admin")
    );
    assert_eq!((me.certificate_expires_us - world.now().0) / 1_000_000, 12 * 3600);
}

#[tokio::test]
async fn tokens_open_nothing_but_the_access_port() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let token = admin.node_token("n1").await;
    let (_, text) = TokenText::decode(&token).unwrap();
    // The session port wants a certificate before it hears of any token.
    let tls = crate::world::client_config(&world.authority(), None);
    let reached = match crate::world::channel(world.session_address(), tls).await {
        Err(_) => false,
        Ok(channel) => {
            let request = fleet::LoginRequest {
                secret: text.secret,
                csr_der: Vec::new(),
            };
            let mut access = fleet::access_client::AccessClient::new(channel);
            access.login(request).await.is_ok()
        }
    };
    assert!(!reached);
    // And the access port serves nothing else.
    let tls = crate::world::client_config(&world.authority(), None);
    let channel = crate::world::channel(world.serving.addresses.access, tls)
        .await
        .unwrap();
    let mut jobs = fleet::jobs_client::JobsClient::new(channel);
    let refused = jobs.list(fleet::ListJobsRequest::default()).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unimplemented, "UNKNOWN_SERVICE")
    );
}

#[tokio::test]
async fn a_node_renews_its_certificate_and_keeps_its_name() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut node = joined(&world, &mut admin, "n1").await;
    world.later(Duration::from_secs(13 * 3600));
    let key = KeyPair::generate().unwrap();
    let mut session = NodeSessionClient::new(node.channel(&world).await.unwrap());
    let reply = session
        .renew(node::RenewRequest { csr_der: csr(&key) })
        .await
        .unwrap()
        .into_inner();
    node.identity.key = key;
    node.identity.certificate = Some(reply.certificate_pem);
    world.later(Duration::from_secs(13 * 3600));
    node.connect(&world).await.unwrap();
}

#[tokio::test]
async fn people_have_no_session_and_nodes_no_jobs() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let node = joined(&world, &mut admin, "n1").await;
    let channel = node.channel(&world).await.unwrap();
    let mut jobs = fleet::jobs_client::JobsClient::new(channel.clone());
    for refused in [
        jobs.submit(crate::jobs::submission(1, &["/usr/bin/true"]))
            .await
            .err()
            .unwrap(),
        jobs.list(fleet::ListJobsRequest::default()).await.err().unwrap(),
        fleet::nodes_client::NodesClient::new(channel.clone())
            .ban(fleet::NodeRef { name: "n1".into() })
            .await
            .err()
            .unwrap(),
        fleet::admin_client::AdminClient::new(channel.clone())
            .list_users(fleet::ListUsersRequest {})
            .await
            .err()
            .unwrap(),
    ] {
        assert_eq!(refused.code(), Code::PermissionDenied);
        reason(&refused);
    }
    let identity = world.identity(&mut admin, "ada", "user").await;
    let tls = crate::world::client_config(&world.authority(), Some(&identity));
    let channel = crate::world::channel(world.session_address(), tls).await.unwrap();
    let refused = node.open(channel, node.hello()).await.err().unwrap();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::PermissionDenied, "DENIED")
    );
}
