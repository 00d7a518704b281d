//! Metrics, health, and the list of what to scrape.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::jobs::{carry_out, joined, submission};
use crate::world::{World, wait_for};

async fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: fleetd\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Nodes fall silent without saying so: nobody but the clock makes the writer look.
#[tokio::test]
async fn time_passes_for_the_writer_while_nobody_asks_for_anything() {
    let world = World::new().await;
    let stats = || world.serving.edge.fleet.stats().commands();
    let before = stats();
    wait_for("ticks", async || match stats() {
        now if now >= before + 2 => Ok(()),
        now => Err(format!("{now} commands after {before}")),
    })
    .await;
}

#[tokio::test]
async fn what_prometheus_gets() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut node = joined(&world, &mut admin, "n1").await;
    let mut stream = node.connect(&world).await.unwrap();
    admin
        .jobs
        .submit(submission(1, &["/usr/bin/true"]))
        .await
        .unwrap();
    let order = stream.order(&node).await;
    carry_out(&mut node, &mut stream, &order).await;
    admin
        .jobs
        .submit(submission(2, &["/usr/bin/true"]))
        .await
        .unwrap();
    let http = world.serving.addresses.http;
    let (head, metrics) = get(http, "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    for line in [
        "loadline_manager_build_info{version=\"0.1.0\"} 1",
        "loadline_manager_nodes{state=\"ready\"} 1",
        "loadline_manager_node_sessions 1",
        "loadline_manager_cpu_cores{kind=\"allocatable\",pool=\"default\"} 3",
        "loadline_manager_cpu_cores{kind=\"allocated\",pool=\"default\"} 1",
        "loadline_manager_rpc_duration_seconds_count{code=\"ok\",method=\"Jobs/Submit\"} 2",
        "loadline_manager_audit_write_failures_total 0",
        "loadline_manager_jobs{state=\"queued\"} 1",
        "loadline_manager_jobs{state=\"running\"} 0",
        "loadline_manager_jobs_finished_total{result=\"succeeded\"} 1",
        "loadline_manager_store_commit_failures_total 0",
        "loadline_manager_auth_failures_total{reason=\"banned\"} 0",
    ] {
        assert!(metrics.contains(line), "`{line}` is not in\n{metrics}");
    }
    let (head, body) = get(http, "/v1/prometheus/targets").await;
    assert!(head.contains("application/json"), "{head}");
    let targets: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(targets[0]["targets"][0], "n1:7719");
    assert_eq!(get(http, "/healthz").await.1, "ok\n");
    assert!(get(http, "/other").await.0.starts_with("HTTP/1.1 404"));
}
