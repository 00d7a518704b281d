//! Starts `true` as a worker N times over D-Bus and prints how long each took to run and to be over, beside
//! `systemd-run --wait --collect` with nothing but the same limits. A tool for guests, run as root.

use std::process::Command;

use anyhow::{Context, Result};
use loadline_model::{AttemptId, Bytes, Span};
use loadline_node::host::systemd::{LiveSystemd, Signal, Systemd, WorkerUnit};
use loadline_policy::reconcile::UnitActive;
use loadline_policy::settings::{CpuWeight, Limit, OomPolicy, Slice, WorkerSettings};
use tokio::time::Instant;
use uuid::Uuid;

fn unit(command: &[String]) -> Result<WorkerUnit> {
    let attempt = AttemptId::from_slice(Uuid::new_v4().as_bytes())?;
    Ok(WorkerUnit {
        description: "measured".into(),
        user: "alice".into(),
        directory: "/home/alice".into(),
        program: command[0].clone(),
        argv: command.to_vec(),
        search_path: vec!["/usr/bin".into()],
        environment: vec!["A=1".into()],
        settings: WorkerSettings {
            unit: attempt.unit_name(),
            slice: Slice::Standard,
            allowed_cpus: Some("1".parse()?),
            allowed_memory_nodes: Some("0".parse()?),
            cpu_weight: CpuWeight::Weight(100),
            memory_high: Limit::Max,
            memory_max: Limit::At(Bytes::from_mib(64)),
            memory_swap_max: Limit::At(Bytes::ZERO),
            tasks_max: Limit::At(4096),
            oom_policy: OomPolicy::Kill,
            timeout_stop: Span::from_secs(30),
        },
        shared_memory: Bytes::from_mib(32),
        writable: vec!["/home/alice".into(), "/data".into()],
        devices: Vec::new(),
        log_fields: vec!["LOADLINE_JOB=1".into()],
        log_identifier: "412.1".into(),
        attempt,
    })
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let count: u32 = arguments.next().context("how often?")?.parse()?;
    let command: Vec<String> = arguments.collect();
    let (systemd, mut signals) = LiveSystemd::connect().await?;
    println!("systemd {}", systemd.version().await?);
    for _ in 0..count {
        let unit = unit(&command)?;
        let begun = Instant::now();
        let started = systemd.start_worker(&unit).await?;
        let running = begun.elapsed();
        let end = loop {
            match signals.recv().await.context("no more signals")? {
                Signal::Unit(state)
                    if state.unit == unit.settings.unit && state.active == UnitActive::Over =>
                {
                    break state;
                }
                _ => {}
            }
        };
        let over = begun.elapsed();
        let usage = systemd.usage(&unit.settings.unit).await;
        println!(
            "running {running:?} over {over:?} {:?} {:?} {usage:?}",
            started.outcome, end.end
        );
        systemd.release(&unit.settings.unit).await?;
        let begun = Instant::now();
        let peer = ["--wait", "--collect", "-q", "-p", "MemoryMax=64M", "--uid=alice"];
        let status = Command::new("systemd-run").args(peer).args(&command).status()?;
        println!("systemd-run {:?} {status}", begun.elapsed());
    }
    Ok(())
}
