//! The commands of `testbed`.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};

use crate::testbed::cache::{self, Cache};
use crate::testbed::image::{self, Image};
use crate::testbed::spec::{GuestSpec, parse_list};
use crate::testbed::wait::{Look, wait_for};
use crate::testbed::{Fleet, keeper};

/// Guests by hand and guest tests.
#[derive(Debug, Parser)]
#[command(name = "testbed", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Install what building and guests need (Debian; root or sudo)
    Setup,
    /// Build the images that the cache lacks
    Images {
        /// debian12, debian13 or bench; the first two when left out
        image: Option<String>,
        /// Remove images of older recipes instead
        #[arg(long, conflicts_with = "image")]
        prune: bool,
    },
    /// Boot one guest, print how to reach it, end it on Ctrl-C
    Shell {
        /// debian12, debian13 or bench
        #[arg(long, default_value = "debian13")]
        image: String,
        /// Virtual CPUs
        #[arg(long, default_value_t = 2)]
        cpus: u32,
    },
    /// Boot a fleet that stays up
    Up {
        #[command(flatten)]
        fleet: KeptFleet,
    },
    #[command(hide = true)]
    Keep {
        #[command(flatten)]
        fleet: KeptFleet,
    },
    /// End a fleet started by `up`
    Down {
        /// Its name
        #[arg(default_value = "dev")]
        name: String,
    },
    /// List the fleets that are up
    List,
    /// Run a command in a guest (a shell without one)
    Ssh {
        /// Guest of a fleet that is up
        guest: String,
        /// Fleet, when several have such a guest
        #[arg(long)]
        fleet: Option<String>,
        /// The command, handed to the guest's shell
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Plug or unplug a guest's cable of the fleet LAN
    Lan {
        guest: String,
        state: Switch,
        #[arg(long)]
        fleet: Option<String>,
    },
    /// Cut a guest's power, or give it back
    Power {
        guest: String,
        state: Switch,
        #[arg(long)]
        fleet: Option<String>,
    },
    /// Boot a fleet, install Loadline, run real jobs, measure production's latency with and without them
    Demo(crate::demo::Demo),
    /// Run the guest tests
    Test {
        /// Part of the names of those to run, or several by commas; all when left out
        filter: Option<String>,
        /// Name them and run none
        #[arg(long)]
        list: bool,
    },
    /// Run the benchmarks
    Bench {
        /// Which one; all when left out
        name: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    /// Plugged in
    On,
    /// Unplugged
    Off,
}

#[derive(Debug, clap::Args)]
struct KeptFleet {
    /// Name of the fleet
    #[arg(long, default_value = "dev")]
    name: String,
    /// NAME:IMAGE:CPUS[,numa=N][,mem=MIB][,word=KERNEL_WORD][,counted],…
    #[arg(long)]
    guests: String,
    /// Folder of .deb packages to install (guests named fleet* get loadline-fleet, others loadline-node)
    #[arg(long)]
    debs: Option<PathBuf>,
    /// The fleet ends by itself after so many minutes
    #[arg(long, default_value_t = 60)]
    minutes: u64,
}

/// Runs one command.
///
/// # Errors
/// What went wrong, for people.
pub fn run(arguments: Arguments) -> Result<ExitCode> {
    let cache = Cache::open()?;
    match arguments.command {
        What::Setup => setup()?,
        What::Images { prune: true, .. } => image::prune(&cache)?,
        What::Images { image, .. } => images(&cache, image.as_deref())?,
        What::Shell { image, cpus } => shell(&cache, &image, cpus)?,
        What::Up { fleet } => up(&cache, &fleet)?,
        What::Keep { fleet } => {
            let specs = parse_list(&fleet.guests)?;
            let life = Duration::from_secs(fleet.minutes * 60);
            keeper::keep(&fleet.name, &specs, fleet.debs.as_deref(), life)?;
        }
        What::Down { name } => keeper::down(&cache, &name)?,
        What::List => cache::live(&cache)?.iter().for_each(|name| println!("{name}")),
        What::Ssh {
            guest,
            fleet,
            command,
        } => {
            let run = keeper::find(&cache, fleet.as_deref(), &guest)?;
            let config = run.join(format!("{guest}.ssh"));
            let error = Command::new("ssh")
                .arg("-F")
                .arg(config)
                .arg(&guest)
                .args(command)
                .exec();
            return Err(error).context("start ssh");
        }
        What::Lan { guest, state, fleet } => {
            keeper::lan(
                &keeper::find(&cache, fleet.as_deref(), &guest)?,
                &guest,
                state == Switch::On,
            )?;
        }
        What::Power { guest, state, fleet } => {
            keeper::power(
                &keeper::find(&cache, fleet.as_deref(), &guest)?,
                &guest,
                state == Switch::On,
            )?;
        }
        What::Demo(demo) => crate::demo::run(&cache, &demo)?,
        What::Bench { name } => crate::bench::run(&cache, name.as_deref())?,
        What::Test { filter, list } => return crate::scenarios::run(&cache, filter.as_deref(), list),
    }
    Ok(ExitCode::SUCCESS)
}

fn setup() -> Result<()> {
    let status = Command::new("sh")
        .args(["-c", include_str!("../setup.sh")])
        .status()
        .context("start sh")?;
    if !status.success() {
        bail!("setup failed ({status})");
    }
    Ok(())
}

fn images(cache: &Cache, name: Option<&str>) -> Result<()> {
    let chosen = match name {
        Some(name) => vec![name.parse::<Image>()?],
        None => Image::STOCK.to_vec(),
    };
    for image in chosen {
        let files = image.ensure(cache)?;
        println!("{}\n{}", files.id, files.versions.trim_end());
    }
    Ok(())
}

fn shell(cache: &Cache, image: &str, cpus: u32) -> Result<()> {
    let spec = GuestSpec::new("shell", image.parse()?, cpus);
    let fleet = Fleet::boot(cache, &format!("shell-{}", std::process::id()), &[spec])?;
    let guest = fleet.guest("shell")?;
    println!(
        "ssh -F {} shell      (Ctrl-C here ends the guest)",
        guest.ssh_config().display()
    );
    wait_for("end of the guest", Duration::from_secs(12 * 3600), || {
        Ok(if guest.is_on() {
            Look::Pending("on".into())
        } else {
            Look::Done(())
        })
    })
}

fn up(cache: &Cache, fleet: &KeptFleet) -> Result<()> {
    parse_list(&fleet.guests)?;
    let log = cache.runs().join(format!("{}.log", fleet.name));
    let file = File::create(&log).with_context(|| format!("make {}", log.display()))?;
    let run = cache.runs().join(&fleet.name);
    if cache::live(cache)?.contains(&fleet.name) {
        bail!("a fleet named {0} is up; `testbed down {0}` ends it", fleet.name);
    }
    cache::sweep(cache)?;
    let mut command = Command::new("setsid");
    command
        .arg(std::env::current_exe().context("find own program")?)
        .arg("keep");
    command.args(["--name", &fleet.name, "--guests", &fleet.guests]);
    command.args(["--minutes", &fleet.minutes.to_string()]);
    if let Some(debs) = &fleet.debs {
        command
            .arg("--debs")
            .arg(fs::canonicalize(debs).with_context(|| format!("find {}", debs.display()))?);
    }
    command.stdin(std::process::Stdio::null());
    command
        .stdout(file.try_clone().context("share the log")?)
        .stderr(file);
    let mut keeper = command.spawn().context("start the keeper")?;
    wait_for(&fleet.name, Duration::from_secs(1200), || {
        if let Some(status) = keeper.try_wait().context("look at the keeper")? {
            bail!(
                "{} did not come up ({status})\n{}",
                fleet.name,
                fs::read_to_string(&log).unwrap_or_default()
            );
        }
        Ok(if run.join("ready").exists() {
            Look::Done(())
        } else {
            Look::Pending("booting".into())
        })
    })?;
    print!("{}", fs::read_to_string(run.join("env")).context("read env")?);
    println!(
        "# commands above: . {}; end with: testbed down {}",
        run.join("env").display(),
        fleet.name
    );
    Ok(())
}
