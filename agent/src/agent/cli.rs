//! The command line of `loadline-agent`, and what its exit codes mean (design §7): 0 done, 1 failed, 2 usage,
//! 4 denied, 5 unreachable.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::clock::SystemClock;
use super::{
    DialError, JoinError, JoinOutcome, JoinPlan, JoinToken, MetricsListen, Places, RefusalKind, Settings,
    StatusError, Surroundings, Tcp, Timing, ask_status, join, run,
};
use crate::host::journal::Journald;
use crate::host::notify::Notifier;
use crate::host::users;
use crate::sentence::{chain, say};

#[derive(Debug, Parser)]
#[command(
    name = "loadline-agent",
    version,
    about = "This node's voice to its Loadline fleet",
    after_help = "A node joins once: `fleet token node NAME` on an operator's machine prints the command to run here."
)]
struct Cli {
    #[command(flatten)]
    places: PlaceArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Args)]
struct PlaceArgs {
    /// Where the trust and agent.toml are
    #[arg(long, global = true, value_name = "DIR", default_value = "/etc/loadline")]
    config_dir: PathBuf,
    /// Where the key, the certificate and the event spool are
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/var/lib/loadline-agent"
    )]
    state_dir: PathBuf,
    /// Where the warden answers
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        default_value = "/run/loadline/warden.sock"
    )]
    warden_socket: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Join a fleet: make this node's key, get its certificate, pin what it trusts (as root, once)
    Join(JoinArgs),
    /// Keep the session with the fleet (started by systemd)
    Run,
    /// Say how the running agent stands: fleet, certificate, spool, warden
    Status {
        /// How to print it
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
    },
}

#[derive(Debug, Args)]
struct JoinArgs {
    /// What `fleet token node NAME` printed: single use, 10 minutes, for one node name
    token: String,
    /// Refuse a token for any other node name
    #[arg(long)]
    name: Option<String>,
    /// Replace the identity and trust of a node that has joined before; its workers run on
    #[arg(long)]
    rejoin: bool,
    /// Do not enable and start the services
    #[arg(long)]
    no_start: bool,
    /// The account that the agent runs as
    #[arg(long, value_name = "ACCOUNT", default_value = "loadline-agent")]
    user: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// The command line, for completions and manual pages.
pub fn command() -> clap::Command {
    Cli::command()
}

/// A sentence for people and an exit code.
struct Failure {
    code: u8,
    said: String,
}

impl Failure {
    fn new(code: u8, error: &dyn std::error::Error) -> Self {
        Self {
            code,
            said: chain(error),
        }
    }
}

/// The program.
pub fn main() -> ExitCode {
    let Cli {
        places:
            PlaceArgs {
                config_dir,
                state_dir,
                warden_socket,
            },
        action,
    } = Cli::parse();
    let places = Places {
        config: config_dir,
        state: state_dir,
        warden_socket,
    };
    let result = match action {
        Action::Join(args) => joining(args, places),
        Action::Run => running(places),
        Action::Status { output } => status(places, output),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, said }) => {
            eprintln!("loadline-agent: {said}");
            ExitCode::from(code)
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    // One thread: the agent waits far more than it works, and each thread costs memory.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .build()
        .map_err(|error| Failure::new(1, &error))
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    // Under systemd the journal has the time.
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        lines.without_time().init();
    } else {
        lines.init();
    }
}

fn joining(args: JoinArgs, places: Places) -> Result<(), Failure> {
    let JoinArgs {
        token,
        name,
        rejoin,
        no_start,
        user,
    } = args;
    let token: JoinToken = token.parse().map_err(|error| Failure::new(2, &error))?;
    let owner = owner(&user)?;
    let plan = JoinPlan {
        token,
        name,
        rejoin,
        places,
        owner: Some(owner),
        timing: Timing::default(),
    };
    let outcome = runtime()?
        .block_on(join(plan, &Tcp))
        .map_err(|error| join_failure(&error))?;
    let JoinOutcome {
        node,
        node_id,
        fleet_id,
        pool,
        session_address,
    } = outcome;
    println!(
        "joined fleet {fleet_id} as node {node} ({node_id}) in pool {pool}; sessions go to {session_address}"
    );
    if no_start {
        println!("next: systemctl enable --now loadline-warden loadline-agent");
        return Ok(());
    }
    start(rejoin)
}

/// The agent's user and group; also makes sure that this is root, who alone may write what the node trusts.
fn owner(user: &str) -> Result<(u32, u32), Failure> {
    let fail = |code, said: String| Failure { code, said };
    if !users::is_root() {
        return Err(fail(
            4,
            "join must run as root, because it writes what this node trusts: use sudo".into(),
        ));
    }
    let lookup =
        |error: &dyn std::error::Error| fail(1, format!("cannot look up the account `{user}`: {error}"));
    let missing = || {
        fail(
            1,
            format!("there is no account `{user}`: is the package loadline-node installed whole?"),
        )
    };
    let uid = users::uid_of(user)
        .map_err(|error| lookup(&error))?
        .ok_or_else(missing)?;
    let gid = users::gid_of(user)
        .map_err(|error| lookup(&error))?
        .ok_or_else(missing)?;
    Ok((uid, gid))
}

fn join_failure(error: &JoinError) -> Failure {
    let code = match error {
        JoinError::AnotherName { .. } => 2,
        JoinError::Refused(refusal) if refusal.kind == RefusalKind::Denied => 4,
        JoinError::Refused(refusal) if refusal.kind == RefusalKind::Unreachable => 5,
        JoinError::Dial(DialError::Refused { .. } | DialError::AnotherCa { .. }) => 4,
        JoinError::Dial(_) | JoinError::TimedOut { .. } => 5,
        _ => 1,
    };
    Failure::new(code, error)
}

fn start(rejoin: bool) -> Result<(), Failure> {
    let units = ["loadline-warden.service", "loadline-agent.service"];
    systemctl(&[&["enable", "--now"], &units[..]].concat())?;
    if rejoin {
        // Running ones still trust what was there before; workers are units of their own and run on.
        systemctl(&[&["restart"], &units[..]].concat())?;
    }
    println!("started loadline-warden and loadline-agent; `loadline-agent status` says how they stand");
    Ok(())
}

fn systemctl(arguments: &[&str]) -> Result<(), Failure> {
    let typed = format!("systemctl {}", arguments.join(" "));
    let failed = |why: String| Failure {
        code: 1,
        said: format!("the node has joined, but its services could not be started ({why}): run `{typed}`"),
    };
    let output = Command::new("systemctl")
        .args(arguments)
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(
        said.lines().last().unwrap_or("no reason given").to_owned(),
    ))
}

fn running(places: Places) -> Result<(), Failure> {
    log_to_stderr();
    let settings = Settings::load(places).map_err(|error| Failure::new(2, &error))?;
    let surroundings = Surroundings {
        clock: Arc::new(SystemClock),
        network: Arc::new(Tcp),
        journal: Arc::new(Journald),
    };
    let notifier = Notifier::from_environment();
    runtime()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| Failure::new(1, &error))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| Failure::new(1, &error))?;
        let shutdown = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = feed_watchdog(notifier.as_ref()) => {}
            }
            tell(notifier.as_ref(), Notifier::stopping);
        };
        run(
            settings,
            surroundings,
            || tell(notifier.as_ref(), Notifier::ready),
            shutdown,
        )
        .await
        .map_err(|error| Failure::new(1, &error))
    })
}

fn tell(notifier: Option<&Notifier>, what: fn(&Notifier) -> std::io::Result<()>) {
    if let Some(Err(error)) = notifier.map(what) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// Runs on the loop that does all the work: if that hangs, systemd hears nothing and restarts the agent.
async fn feed_watchdog(notifier: Option<&Notifier>) {
    let Some(every) = notifier.and_then(Notifier::alive_every) else {
        return std::future::pending().await;
    };
    loop {
        tell(notifier, Notifier::alive);
        tokio::time::sleep(every).await;
    }
}

fn status(places: Places, output: Output) -> Result<(), Failure> {
    let settings = Settings::load(places).map_err(|error| Failure::new(2, &error))?;
    let MetricsListen::At(address) = settings.metrics else {
        return Err(Failure::new(1, &StatusError::Off));
    };
    let report = ask_status(reachable(address)).map_err(|error| Failure::new(5, &error))?;
    match output {
        Output::Table => say(report),
        Output::Json => {
            let json = serde_json::to_string_pretty(&report).map_err(|error| Failure::new(1, &error))?;
            say(json);
        }
    }
    Ok(())
}

/// An agent that listens everywhere is asked on loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_and_explains_itself() {
        command().debug_assert();
        let help = command().render_long_help().to_string();
        for word in ["join", "run", "status", "fleet token node NAME"] {
            assert!(help.contains(word), "{word}: {help}");
        }
    }

    #[test]
    fn everywhere_means_loopback_from_here() {
        assert_eq!(
            reachable("0.0.0.0:7719".parse().unwrap()),
            "127.0.0.1:7719".parse().unwrap()
        );
        assert_eq!(reachable("[::]:1".parse().unwrap()), "[::1]:1".parse().unwrap());
        assert_eq!(
            reachable("10.0.0.1:1".parse().unwrap()),
            "10.0.0.1:1".parse().unwrap()
        );
    }
}
