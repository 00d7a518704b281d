//! A fleet of one key for trying a warden by hand, and for measuring it: forged trust, signed orders, status, events.
//! `cargo build -p loadline-node --features fake --example order`; run as root in a guest.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use loadline_model::{AttemptId, Bytes, CpuRequest, FleetId, MilliCpu, NodeId, Span, Tier};
use loadline_node::warden::wire::forge::{Forge, Wanted};
use loadline_proto::types::v1::{AttemptPhase, AttemptState, Event, event::What};
use loadline_proto::warden::v1::warden_client::WardenClient;
use loadline_proto::warden::v1::{ApplyRequest, EventsRequest, StatusReply, StatusRequest};
use tokio::net::UnixStream;
use tokio::time::Instant;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint, Uri};
use uuid::Uuid;

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value = "/run/loadline/warden.sock")]
    socket: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write what join writes.
    Trust { folder: PathBuf },
    /// Run something and print its id.
    Start {
        #[arg(long, default_value = "alice")]
        user: String,
        #[arg(long, default_value = "1")]
        cpus: MilliCpu,
        #[arg(long, default_value = "64MiB")]
        memory: Bytes,
        #[arg(long)]
        burst: bool,
        #[arg(long)]
        time: Option<Span>,
        #[arg(long, default_value = "5s")]
        grace: Span,
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<String>,
    },
    /// End an attempt.
    Stop { attempt: AttemptId },
    /// Print how things stand.
    Status {
        /// With every limit.
        #[arg(long)]
        limits: bool,
    },
    /// Print all events so far, or go on.
    Events {
        #[arg(long)]
        follow: bool,
    },
    /// Wait until an attempt has ended and print how.
    Wait { attempt: AttemptId },
    /// Times from order to running and to done, beside systemd-run.
    Measure { count: u32 },
}

async fn connect(socket: &Path) -> Result<WardenClient<Channel>> {
    let socket = socket.to_owned();
    let dial = move |_: Uri| {
        let socket = socket.clone();
        async move { Ok::<_, io::Error>(hyper_util::rt::TokioIo::new(UnixStream::connect(socket).await?)) }
    };
    let channel = Endpoint::from_static("http://warden")
        .connect_with_connector(tower::service_fn(dial))
        .await?;
    Ok(WardenClient::new(channel))
}

fn forge() -> Result<Forge> {
    Ok(Forge::new(
        7,
        FleetId::from_slice(&[1; 16])?,
        NodeId::from_slice(&[2; 16])?,
    ))
}

async fn status(client: &mut WardenClient<Channel>) -> Result<StatusReply> {
    Ok(client.status(StatusRequest {}).await?.into_inner())
}

fn attempt_of(event: &Event) -> Option<&AttemptState> {
    match event.what.as_ref()? {
        What::Attempt(state) => Some(state),
        What::Receipt(_) => None,
    }
}

async fn until(
    events: &mut Streaming<Event>,
    attempt: AttemptId,
    phase: AttemptPhase,
) -> Result<AttemptState> {
    loop {
        let event = events.message().await?.context("the stream of events ended")?;
        if let Some(state) = attempt_of(&event)
            && state.attempt_id == attempt.as_bytes()
        {
            if state.phase() == phase {
                return Ok(state.clone());
            }
            if state.phase() == AttemptPhase::Ended {
                bail!("it ended: {:?}", state.ended);
            }
        }
    }
}

/// The same sandbox and limits, by hand.
fn systemd_run(command: &[&str]) -> Process {
    let mut run = Process::new("systemd-run");
    run.args([
        "--wait",
        "--collect",
        "-q",
        "--slice=loadline-standard.slice",
        "--uid=alice",
        "--service-type=exec",
    ]);
    for property in [
        "WorkingDirectory=/home/alice",
        "KillMode=control-group",
        "TimeoutStopSec=5",
        "OOMPolicy=kill",
        "LogNamespace=loadline",
        "SyslogIdentifier=1.1",
        "LogExtraFields=LOADLINE_JOB=1",
        "ReadWritePaths=-/data -/home/alice -/media -/mnt -/scratch -/srv",
        "TemporaryFileSystem=/dev/shm:size=32M,mode=1777,nosuid,nodev",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "AmbientCapabilities=",
        "DevicePolicy=closed",
        "PrivateDevices=yes",
        "PrivateTmp=yes",
        "ProtectSystem=strict",
        "ProtectProc=invisible",
        "ProtectClock=yes",
        "ProtectHostname=yes",
        "ProtectKernelTunables=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelLogs=yes",
        "ProtectControlGroups=yes",
        "RestrictSUIDSGID=yes",
        "RestrictRealtime=yes",
        "LockPersonality=yes",
        "KeyringMode=private",
        "UMask=0077",
        "SystemCallArchitectures=native",
        "SystemCallErrorNumber=EPERM",
        "InaccessiblePaths=-/run/user -/run/dbus -/run/systemd/private -/run/systemd/notify -/run/systemd/userdb/io.systemd.DynamicUser -/run/systemd/io.system.ManagedOOM -/run/systemd/io.systemd.ManagedOOM -/run/systemd/io.systemd.Manager -/run/systemd/io.systemd.BootControl -/run/systemd/io.systemd.Credentials -/run/systemd/io.systemd.Hostname -/run/systemd/io.systemd.Import -/run/systemd/io.systemd.Login -/run/systemd/io.systemd.MountFileSystem -/run/systemd/io.systemd.MuteConsole -/run/systemd/io.systemd.PCRExtend -/run/systemd/io.systemd.PCRLock -/run/systemd/io.systemd.sysext -/run/systemd/coredump -/run/ssh-unix-local -/run/systemd/machine -/run/docker.sock -/run/docker -/run/podman -/run/containerd -/run/crio -/run/k3s -/run/buildkit -/run/incus -/run/libvirt -/run/snapd.socket -/run/snapd-snap.socket -/var/lib/incus -/var/lib/lxd -/var/snap/lxd -/var/spool/cron -/var/spool/at -/run/cups -/run/screen -/run/loadline",
        "LimitCORE=1",
        "SystemCallFilter=~@clock @cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @swap",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "AllowedCPUs=1",
        "AllowedMemoryNodes=0",
        "CPUWeight=100",
        "MemoryMax=64M",
        "MemorySwapMax=0",
        "TasksMax=4096",
    ] {
        run.args(["-p", property]);
    }
    run.args(command);
    run
}

async fn measure(client: &mut WardenClient<Channel>, forge: &mut Forge, count: u32) -> Result<()> {
    let last = status(client).await?.last_sequence;
    let mut events = client
        .events(EventsRequest { after_sequence: last })
        .await?
        .into_inner();
    let mut figures: BTreeMap<&str, Vec<u128>> = BTreeMap::new();
    for _ in 0..count {
        let attempt = AttemptId::from_slice(Uuid::new_v4().as_bytes())?;
        let order = forge.start(attempt, &Wanted::default());
        let begun = Instant::now();
        client.apply(ApplyRequest { orders: vec![order] }).await?;
        let durable = begun.elapsed();
        until(&mut events, attempt, AttemptPhase::Running).await?;
        let running = begun.elapsed();
        until(&mut events, attempt, AttemptPhase::Ended).await?;
        let done = begun.elapsed();
        let begun = Instant::now();
        let ran = systemd_run(&["/usr/bin/true"]).status()?;
        if !ran.success() {
            bail!("systemd-run: {ran}");
        }
        let peer = begun.elapsed();
        let times = [
            ("order durable", durable),
            ("order running", running),
            ("order done", done),
            ("systemd-run", peer),
        ];
        for (what, time) in times {
            figures.entry(what).or_default().push(time.as_micros());
        }
    }
    for (what, mut times) in figures {
        times.sort_unstable();
        let at = |share: usize| times[(times.len() - 1) * share / 100] / 100;
        println!(
            "{what}: median {} q1 {} q3 {} (tenths of ms)",
            at(50),
            at(25),
            at(75)
        );
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut forge = forge()?;
    if let Command::Trust { folder } = &arguments.command {
        return Ok(forge.write_trust(folder)?);
    }
    let mut client = connect(&arguments.socket).await?;
    forge.generation = status(&mut client).await?.applied_generation;
    match arguments.command {
        Command::Trust { .. } => {}
        Command::Start {
            user,
            cpus,
            memory,
            burst,
            time,
            grace,
            command,
        } => {
            let cpus = match u32::try_from(cpus.whole_cpus()) {
                Ok(whole) if cpus.0.is_multiple_of(1000) => CpuRequest::Exclusive(whole),
                _ => CpuRequest::Shared(cpus),
            };
            let tier = if burst { Tier::Burst } else { Tier::Standard };
            let wanted = Wanted {
                command,
                user,
                cpus,
                memory,
                tier,
                time,
                grace,
            };
            let attempt = AttemptId::from_slice(Uuid::now_v7().as_bytes())?;
            let order = forge.start(attempt, &wanted);
            client.apply(ApplyRequest { orders: vec![order] }).await?;
            println!("{}", attempt.hex());
        }
        Command::Stop { attempt } => {
            let order = forge.stop(attempt, Span::from_secs(5));
            client.apply(ApplyRequest { orders: vec![order] }).await?;
        }
        Command::Status { limits } => {
            let mut reply = status(&mut client).await?;
            if !limits {
                reply.limits.retain(|limit| !limit.verified);
            }
            println!("{reply:#?}");
        }
        Command::Events { follow } => {
            let last = status(&mut client).await?.last_sequence;
            let mut events = client
                .events(EventsRequest { after_sequence: 0 })
                .await?
                .into_inner();
            let mut seen = 0;
            while follow || seen < last {
                let Some(event) = events.message().await? else {
                    break;
                };
                seen = event.sequence;
                println!("{seen} {:?}", event.what);
            }
        }
        Command::Wait { attempt } => {
            let mut events = client
                .events(EventsRequest { after_sequence: 0 })
                .await?
                .into_inner();
            println!(
                "{:?}",
                until(&mut events, attempt, AttemptPhase::Ended).await?.ended
            );
        }
        Command::Measure { count } => measure(&mut client, &mut forge, count).await?,
    }
    Ok(())
}
