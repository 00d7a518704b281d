//! `make demo`: the main job on real input, as a newcomer would want to see it.
//!
//! One fleetd guest and two nodes are booted; the packages are installed; the nodes join over mutual TLS; a person
//! submits real work. Then the first question of every owner is measured: production's latency alone, with the work
//! lent by Loadline, and with the same work started unprotected.

mod latency;
mod work;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::clock;
use crate::deploy::{self, FLEET_GUEST, Packages};
use crate::testbed::cache::Cache;
use crate::testbed::image::Image;
use crate::testbed::{Fleet, GuestSpec, both};

/// The node with production on it: 2 vCPU. Latency is measured here.
const WEB: &str = "web";
/// The node that shows placement: 4 vCPU on 2 NUMA nodes.
const BATCH: &str = "batch";

/// What the demo needs from outside.
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Folder of the .deb packages
    #[arg(long, default_value = "target/packages")]
    packages: PathBuf,
    /// The load generator's program, to run inside a guest; default: beside this program
    #[arg(long)]
    loadgen: Option<PathBuf>,
    /// How many seconds each of the three configurations is measured, in all
    #[arg(long, default_value_t = 40)]
    seconds: u64,
}

/// A heading, with what the clock says.
fn say(start: Instant, text: &str) {
    println!("\n\u{25b8} {text}  ({} s)", start.elapsed().as_secs());
}

/// Runs the demo and prints it.
///
/// # Errors
/// When any step does not do what it should.
pub fn run(cache: &Cache, demo: &Demo) -> Result<()> {
    let start = clock::now();
    let packages = Packages::of(&demo.packages)?;
    say(
        start,
        "Booting three machines: fleet (1 vCPU), web (2 vCPU), batch (4 vCPU, 2 NUMA nodes)",
    );
    let specs = [
        GuestSpec::new(FLEET_GUEST, Image::Debian13, 1),
        GuestSpec::new(WEB, Image::Debian13, 2),
        GuestSpec::new(BATCH, Image::Debian12, 4).numa(2).memory_mib(2048),
    ];
    let fleet = Fleet::boot(cache, "demo", &specs)?;
    for guest in fleet.guests() {
        println!("  {:6} {}", guest.name(), guest.versions());
    }

    say(
        start,
        "Installing the packages, joining the nodes over mutual TLS",
    );
    deploy::start_fleet(&fleet, &packages)?;
    let admin = fleet.guest(FLEET_GUEST)?;
    deploy::add_person(admin, "alice", "user")?;
    println!("{}", admin.ok("fleet nodes")?);

    say(start, "The smallest job: fleet run -- true");
    println!(
        "{}",
        admin.ok(&deploy::as_person(
            "alice",
            "fleet run -- true && echo exit code $?"
        ))?
    );

    let loadgen = match &demo.loadgen {
        Some(path) => path.clone(),
        None => std::env::current_exe()
            .context("finding this program")?
            .with_file_name("loadgen"),
    };
    say(start, "Real work: compress and verify /usr in four parts");
    both(
        || latency::prepare(&fleet, &loadgen),
        || work::compress_usr(&fleet),
    )?;

    say(start, "Production's latency on the 2-vCPU node");
    let figures = latency::measure(&fleet, Duration::from_secs(demo.seconds))?;
    figures.print();
    figures.write().context("writing the demo's figures")?;
    println!("\nThe whole demo took {} s.", start.elapsed().as_secs());
    Ok(())
}
