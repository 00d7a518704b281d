//! The service over a real socket: who is heard, what counts, and what a reader of events sees.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use loadline_model::{AttemptId, Span};
use loadline_policy::node_policy::{Mode, NodePolicy};
use loadline_proto::types::v1::{AttemptPhase, ErrorInfo, event::What};
use loadline_proto::warden::v1::warden_client::WardenClient;
use loadline_proto::warden::v1::warden_server::WardenServer;
use loadline_proto::warden::v1::{
    AcknowledgeRequest, ApplyRequest, DrainRequest, EventsRequest, ObserveRequest, SetCeilingRequest,
    SloReading, StatusRequest, slo_reading::Measured,
};
use nix::unistd::Uid;
use prost::Message;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::Code;
use tonic::transport::{Channel, Endpoint, Server, Uri};

use super::{Access, WardenService, incoming, open};
use crate::host::clock::SystemClock;
use crate::host::root::HostRoot;
use crate::warden::facts::Facts;
use crate::warden::reconciler::lock;
use crate::warden::reconciler::tests::rig::{Rig, node, people};
use crate::warden::sample::Sampler;
use crate::warden::slo::Promises;
use crate::warden::week::Watched;
use crate::warden::wire::client::LocalWarden;
use crate::warden::wire::forge::{Forge, Wanted};

/// A policy with one promise.
fn promising() -> NodePolicy {
    let protect = r#"{ unit = "web.service", slo = { http = "http://127.0.0.1/", p99 = "20ms" } }"#;
    let text = format!("version = 1\n[production]\nprotect = [{protect}]");
    NodePolicy::new(toml::from_str(&text).unwrap()).unwrap()
}

const PATIENCE: Duration = Duration::from_secs(30);

fn watched() -> Watched {
    Watched {
        over: Span::from_secs(3600),
        ..Watched::default()
    }
}

fn serve(rig: &Rig, path: &Path, uids: Vec<u32>) {
    let (commands, sequence) = rig.ends();
    let service = WardenService {
        cost: tokio::sync::watch::channel(Default::default()).1,
        window: tokio::sync::watch::channel(Default::default()).1,
        week: tokio::sync::watch::channel(watched()).1,
        started: "this start".into(),
        commands,
        sequence,
        ledger: rig.ledger.clone(),
        trust: rig.forge.trust(),
        accounts: Arc::new(people()),
        facts: Facts::default(),
        sampler: Sampler::new(HostRoot::default(), SystemClock),
        headroom: tokio::sync::watch::channel(None).1,
        promises: Promises::new(&promising()),
        clock: SystemClock,
        reload_failures: Arc::new(AtomicU64::new(0)),
        not_genuine: AtomicU64::new(0),
    };
    let access = Access { gid: None, uids };
    let listener = open(path, &access).unwrap();
    let connections = incoming(listener, access);
    tokio::spawn(Server::builder().serve_with_incoming(WardenServer::new(service), connections));
}

async fn client(path: &Path) -> Result<WardenClient<Channel>, tonic::transport::Error> {
    let path = path.to_owned();
    let dial = move |_: Uri| {
        let path = path.clone();
        async move { std::io::Result::Ok(hyper_util::rt::TokioIo::new(UnixStream::connect(path).await?)) }
    };
    let endpoint = Endpoint::from_static("http://warden");
    endpoint
        .connect_with_connector(tower::service_fn(dial))
        .await
        .map(WardenClient::new)
}

async fn bench() -> (Rig, WardenClient<Channel>, tempfile::TempDir) {
    let rig = Rig::new().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("warden.sock");
    serve(&rig, &path, vec![Uid::current().as_raw()]);
    let client = client(&path).await.unwrap();
    (rig, client, dir)
}

fn reason(status: &tonic::Status) -> String {
    ErrorInfo::decode(status.details()).unwrap().reason
}

#[tokio::test]
async fn orders_go_in_and_events_come_out_as_they_happen() {
    let (mut rig, mut client, _dir) = bench().await;
    let mut events = client
        .events(EventsRequest { after_sequence: 0 })
        .await
        .unwrap()
        .into_inner();
    let attempt = rig.attempt();
    let orders = vec![rig.forge.start(attempt, &Wanted::default())];
    let reply = client.apply(ApplyRequest { orders }).await.unwrap().into_inner();
    assert_eq!(reply.applied_generation, 1);
    let event = timeout(PATIENCE, events.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let Some(What::Attempt(state)) = event.what else {
        panic!("{event:?}")
    };
    assert_eq!((event.sequence, state.phase()), (1, AttemptPhase::Running));
    let status = client.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(
        (
            status.attempts.len(),
            status.applied_generation,
            status.last_sequence
        ),
        (1, 1, 1)
    );
    assert_eq!(status.inventory.unwrap().line_whole_cpus, 2);
    client
        .acknowledge(AcknowledgeRequest {
            ledger_id: event.ledger_id,
            through_sequence: 1,
        })
        .await
        .unwrap();
    let orders = vec![rig.forge.stop(attempt, Span::from_secs(1))];
    client.apply(ApplyRequest { orders }).await.unwrap();
    let phases = [AttemptPhase::Stopping, AttemptPhase::Ended];
    for (sequence, phase) in (2..).zip(phases) {
        let event = timeout(PATIENCE, events.message())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let Some(What::Attempt(state)) = event.what else {
            panic!("{event:?}")
        };
        assert_eq!((event.sequence, state.phase()), (sequence, phase));
    }
    let again = client
        .events(EventsRequest { after_sequence: 0 })
        .await
        .unwrap()
        .into_inner()
        .message()
        .await;
    assert_eq!(
        again.unwrap().unwrap().sequence,
        2,
        "what is acknowledged is not told again"
    );
}

#[tokio::test]
async fn an_order_that_is_not_genuine_stops_the_batch_and_is_counted() {
    let (mut rig, mut client, _dir) = bench().await;
    let trust = rig.forge.trust();
    let mut other = Forge::new(9, trust.fleet, trust.node);
    other.generation = 1;
    let (first, second): (AttemptId, AttemptId) = (rig.attempt(), rig.attempt());
    let orders = vec![
        rig.forge.start(first, &Wanted::default()),
        other.start(second, &Wanted::default()),
    ];
    let refused = client.apply(ApplyRequest { orders }).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::PermissionDenied, "ORDER_NOT_GENUINE")
    );
    rig.phase(first, AttemptPhase::Running).await;
    assert_eq!(rig.systemd.started().len(), 1);
    let status = client.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(
        (status.applied_generation, status.counters.unwrap().orders_refused),
        (1, 1)
    );
}

#[tokio::test]
async fn a_full_disk_is_told_with_a_next_step() {
    let (mut rig, mut client, _dir) = bench().await;
    crate::warden::reconciler::lock(&rig.ledger).fill_up();
    let attempt = rig.attempt();
    let large = Wanted {
        command: vec!["x".repeat(100_000)],
        ..Wanted::default()
    };
    let orders = vec![rig.forge.start(attempt, &large)];
    let refused = client.apply(ApplyRequest { orders }).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unavailable, "DISK_FULL")
    );
    assert!(rig.systemd.started().is_empty());
}

#[tokio::test]
async fn events_of_another_ledger_cannot_be_acknowledged() {
    let (_rig, mut client, _dir) = bench().await;
    let request = AcknowledgeRequest {
        ledger_id: vec![9; 16],
        through_sequence: 1,
    };
    let refused = client.acknowledge(request).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "OTHER_LEDGER")
    );
}

#[tokio::test]
async fn only_root_drains() {
    let (mut rig, mut client, _dir) = bench().await;
    rig.running(&Wanted::default()).await;
    let drained = client.drain(DrainRequest {}).await;
    if Uid::current().is_root() {
        drained.unwrap();
        assert!(!rig.receipts().is_empty());
    } else {
        assert_eq!(reason(&drained.unwrap_err()), "NOT_ROOT");
        assert_eq!(rig.systemd.running().len(), 1);
    }
}

#[tokio::test]
async fn root_says_what_this_node_may_do_within_what_its_owner_allows() {
    let (rig, mut client, _dir) = bench().await;
    let ask = |mode: Option<&str>, line_per_mille| SetCeilingRequest {
        mode: mode.map(str::to_owned),
        line_per_mille,
        by: "ada".into(),
    };
    if !Uid::current().is_root() {
        let refused = client.set_ceiling(ask(None, Some(0))).await.unwrap_err();
        assert_eq!(reason(&refused), "NOT_ROOT");
        return;
    }
    client.set_ceiling(ask(Some("shadow"), None)).await.unwrap();
    client.set_ceiling(ask(None, Some(250))).await.unwrap();
    // Answered, so it is durable, and in the status at once.
    let (kept, _) = lock(&rig.ledger).ceilings(loadline_model::WallTime(9)).unwrap();
    let here = kept.here.unwrap();
    assert_eq!(
        (here.mode.word(), here.line.0, here.by.as_str()),
        ("shadow", 250, "ada")
    );
    let status = client.status(StatusRequest {}).await.unwrap().into_inner();
    let inventory = status.inventory.unwrap();
    assert_eq!(
        (inventory.mode.as_str(), inventory.owner_mode.as_str()),
        ("shadow", "enforce")
    );
    assert_eq!(inventory.line_millicpu, 550, "a quarter of 2.2 CPUs");
    let [set] = &inventory.ceilings[..] else {
        panic!("{:?}", inventory.ceilings)
    };
    assert_eq!((set.here, set.line_per_mille), (true, 250));
    for (mode, line, why) in [
        (
            Some("maybe"),
            None,
            "there is no mode `maybe`: there are off, shadow and enforce",
        ),
        (None, Some(1001), "a line is between 0 and 100 %"),
    ] {
        let refused = client.set_ceiling(ask(mode, line)).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, why));
    }
    let mut shadow = node();
    shadow.policy.lend.mode = Mode::Shadow;
    rig.replace(shadow).await;
    let refused = client.set_ceiling(ask(Some("enforce"), None)).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "BEYOND_OWNER")
    );
    assert!(
        refused
            .message()
            .contains("`lend.mode` in /etc/loadline/node.toml"),
        "{refused}"
    );
}

#[tokio::test]
async fn the_local_commands_show_what_holds_and_who_set_it() {
    let mut rig = Rig::new().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("warden.sock");
    serve(&rig, &path, vec![Uid::current().as_raw()]);
    let worker = rig.running(&Wanted::default()).await;
    let order = rig.forge.ceiling("enforce", 500, "ada");
    rig.try_apply(vec![order]).await.unwrap();
    let mut warden = LocalWarden::connect(&path).await.unwrap();
    let status = warden.local_status().await.unwrap();
    assert_eq!(
        (status.mode.as_str(), status.owner_mode.as_str()),
        ("enforce", "enforce")
    );
    assert_eq!(status.line_cpu, loadline_model::MilliCpu(1100));
    assert_eq!(status.workers, [(worker.unit_name(), "running".to_owned())]);
    assert_eq!(
        status.ceilings[0].sentence(),
        "50 % of the line, set by ada (fleet)"
    );
    if Uid::current().is_root() {
        let off = Some(Mode::Off);
        warden.set_ceiling(off, None, "bea".into()).await.unwrap();
        let status = warden.local_status().await.unwrap();
        assert_eq!((status.mode.as_str(), status.ceilings.len()), ("off", 2));
        assert_eq!(
            status.ceilings[1].sentence(),
            "no more than `off`, 100 % of the line, set by bea (on this node)"
        );
    }
}

#[tokio::test]
async fn a_node_whose_windows_are_shut_offers_nothing_and_says_why() {
    let (rig, mut client, _dir) = bench().await;
    let mut shut = node();
    shut.policy.lend.windows = vec![loadline_policy::node_policy::Window {
        days: "Sun".parse().unwrap(),
        from: "19:00".parse().unwrap(),
        to: "20:00".parse().unwrap(),
        zone: loadline_policy::node_policy::WindowZone::Node,
    }];
    rig.replace(shut).await;
    let status = client.status(StatusRequest {}).await.unwrap().into_inner();
    let inventory = status.inventory.unwrap();
    assert_eq!((inventory.line_millicpu, inventory.line_whole_cpus), (0, 0));
    assert_eq!(
        inventory.missed,
        ["this node lends only in its windows, and none is open now"]
    );
    assert_eq!(inventory.mode, "enforce", "its mode is the owner's all the same");
}

#[tokio::test]
async fn strangers_are_hung_up_on_and_the_socket_is_for_owner_and_group() {
    let rig = Rig::new().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("warden.sock");
    serve(&rig, &path, vec![Uid::current().as_raw() + 1]);
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o660);
    assert_eq!(metadata.uid(), Uid::current().as_raw());
    let answer = match client(&path).await {
        Ok(mut client) => timeout(PATIENCE, client.status(StatusRequest {}))
            .await
            .unwrap()
            .map(drop),
        Err(_) => return,
    };
    assert!(answer.is_err());
}

#[tokio::test]
async fn what_the_agent_measures_is_compared_with_the_owner_s_target() {
    let mut node = node();
    node.policy = promising();
    let rig = Rig::with(node).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("warden.sock");
    serve(&rig, &path, vec![Uid::effective().as_raw()]);
    let mut warden = client(&path).await.unwrap();
    let before = warden.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(before.slo_targets.len(), 1);
    assert_eq!(before.protect[0].slo_slack_per_mille, None, "unknown is not good");
    let reading = |unit: &str, p99| SloReading {
        unit: unit.into(),
        measured: Some(Measured::P99Us(p99)),
        ..Default::default()
    };
    let readings = vec![reading("web.service", 25_000), reading("other.service", 1)];
    warden.observe(ObserveRequest { readings }).await.unwrap();
    let after = warden.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(after.protect.len(), 1, "strangers are passed over");
    assert_eq!(after.protect[0].slo_slack_per_mille, Some(-250));
    let readings = vec![SloReading {
        age_us: 60_000_000,
        ..reading("web.service", 5_000)
    }];
    warden.observe(ObserveRequest { readings }).await.unwrap();
    let stale = warden.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(stale.protect[0].slo_slack_per_mille, None, "old is unknown");
    assert!(!stale.protect[0].slo_trouble.is_empty());
}
