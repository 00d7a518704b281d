//! How long a job takes to start and to end, next to `systemd-run`: the part of `launchprobe` that measures.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loadline_cli::identity::Home;
use loadline_cli::wire::Client;
use loadline_cli::{clock as wall, tls};
use loadline_model::{
    Bytes, CpuRequest, JobDraft, JobId, JobSpec, MilliCpu, OnNodeLost, Tier, WorkerRequest, Workers,
};
use tokio::process::Command;

use crate::bench::LaunchSamples;
use crate::clock;

fn millis(length: Duration) -> f64 {
    length.as_secs_f64() * 1e3
}

fn spec() -> Result<JobSpec> {
    let memory = Bytes::from_mib(64);
    let draft = JobDraft {
        name: Some("probe".into()),
        command: vec!["true".into()],
        dir: None,
        env: [].into(),
        workers: Workers::Fixed(1),
        tier: Tier::Standard,
        retries: 0,
        time: None,
        grace: None,
        on_node_lost: Some(OnNodeLost::Wait),
        worker: WorkerRequest {
            cpus: CpuRequest::Shared(MilliCpu(100)),
            memory,
            gpus: 0,
        },
        nodes: Vec::new(),
        needs: loadline_model::Needs::default(),
        waits: loadline_model::Waits::default(),
        gang: false,
        tasks: None,
        priority: loadline_model::Priority::NORMAL,
        team: None,
    };
    JobSpec::new(draft).context("checking the probe's job")
}

/// One job: milliseconds to running and to done.
async fn ours(client: &mut Client, spec: &JobSpec) -> Result<(f64, f64)> {
    let id = JobId::from_uuid(uuid::Uuid::now_v7());
    let start = clock::now();
    let mut events = client.run(id, spec).await.context("submitting")?;
    let mut running = None;
    while let Some(update) = events.next().await.context("watching")? {
        if running.is_none() && update.changed.iter().any(|attempt| attempt.running_at.is_some()) {
            running = Some(millis(start.elapsed()));
        }
        if update.row.is_done() {
            let done = millis(start.elapsed());
            ensure!(
                update.row.state == "succeeded",
                "the job {}: {:?}",
                update.row.state,
                update.changed
            );
            return Ok((running.unwrap_or(done), done));
        }
    }
    anyhow::bail!("the stream ended before the job did")
}

/// A whole command, while the connection to the fleet answers pings.
async fn command(program: &str, arguments: &[&str], properties: &[String]) -> Result<f64> {
    let start = clock::now();
    let mut command = Command::new(program);
    for property in properties {
        command.args(["-p", property]);
    }
    let output = command
        .args(arguments)
        .output()
        .await
        .with_context(|| format!("starting {program}"))?;
    let taken = millis(start.elapsed());
    ensure!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(taken)
}

/// Measures so many rounds of each, interleaved, with the identity of the person whose home this is.
///
/// # Errors
/// When a job or a peer fails.
pub async fn measure(rounds: usize, properties: &[String]) -> Result<LaunchSamples> {
    let home = Home::find(None, |name| std::env::var_os(name).map(PathBuf::from))?;
    let identity = home.load()?;
    let stream = tls::connect_mutual(&identity, wall::now()).await?;
    let mut client = Client::new(stream).await?;
    let spec = spec()?;
    let mut samples = LaunchSamples::default();
    ours(&mut client, &spec).await.context("warming up")?;
    for _ in 0..rounds {
        let (running, done) = ours(&mut client, &spec).await?;
        samples.running_ms.push(running);
        samples.done_ms.push(done);
        samples
            .peer_running_ms
            .push(command("systemd-run", &["--collect", "-q", "true"], properties).await?);
        samples
            .peer_done_ms
            .push(command("systemd-run", &["--wait", "--collect", "-q", "true"], properties).await?);
        samples.cli_ms.push(
            command(
                "fleet",
                &["run", "--cpus", "100m", "--memory", "64MiB", "--", "true"],
                &[],
            )
            .await?,
        );
    }
    Ok(samples)
}
