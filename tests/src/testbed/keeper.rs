//! Fleets that stay up between commands, for work by hand: `testbed up` starts a keeper, `testbed down` ends it.
//!
//! The keeper is a process of its own that holds the fleet; when it ends, in whatever way, the guests end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::clock;
use crate::testbed::Fleet;
use crate::testbed::cache::{self, Cache};
use crate::testbed::guest::{COMMAND_LIMIT, Guest};
use crate::testbed::qmp::Qmp;
use crate::testbed::spec::GuestSpec;
use crate::testbed::wait::{Look, wait_for};

/// Installing our packages takes seconds of real and minutes of emulated time.
const INSTALL_LIMIT: Duration = Duration::from_secs(300);
/// A file of this name in the run folder asks the keeper to end.
const STOP: &str = "stop";

/// Holds a fleet until its time is over or someone ends this process.
///
/// # Errors
/// When the fleet does not come up.
pub fn keep(name: &str, specs: &[GuestSpec], debs: Option<&Path>, life: Duration) -> Result<()> {
    let start = clock::now();
    let cache = Cache::open()?;
    let fleet = Fleet::boot(&cache, name, specs)?;
    if let Some(folder) = debs {
        fleet.each(|guest| install(guest, folder))?;
    }
    fs::write(fleet.folder().join("env"), describe(&fleet)).context("write env")?;
    fs::write(fleet.folder().join("ready"), "").context("say that the fleet is ready")?;
    let stop = fleet.folder().join(STOP);
    while start.elapsed() < life && !stop.exists() {
        for guest in fleet.guests() {
            if let Err(error) = tend(&fleet, guest) {
                eprintln!("testbed: {error:#}");
            }
        }
        clock::pause(Duration::from_millis(500));
    }
    eprintln!("testbed: {name} ends after {} s", start.elapsed().as_secs());
    Ok(())
}

/// Follows what was done to a guest by hand: power cut, power on, reboot.
fn tend(fleet: &Fleet, guest: &Guest) -> Result<()> {
    let wish = fleet.folder().join(format!("{}.power-on", guest.name()));
    if !guest.is_on() {
        guest.power_cut();
        if wish.exists() {
            guest.power_on()?;
            fs::remove_file(&wish).context("forget the wish for power")?;
        }
        return Ok(());
    }
    guest.tend()
}

/// Shell lines to source: one variable per guest that holds its ssh command.
fn describe(fleet: &Fleet) -> String {
    fleet
        .guests()
        .iter()
        .map(|guest| {
            let variable = guest.name().to_uppercase().replace('-', "_");
            let config = guest.ssh_config().display();
            format!(
                "{variable}='ssh -F {config} {}'   # {} on the fleet LAN\n",
                guest.name(),
                guest.address()
            )
        })
        .collect()
}

/// Which packages a guest gets, by its name: a guest whose name begins with `fleet` the manager, any other the node's.
fn wanted(guest: &str, package: &str) -> bool {
    let role = if guest.starts_with("fleet") {
        "loadline-fleet"
    } else {
        "loadline-node"
    };
    package.starts_with(role) || package.starts_with("loadline-cli")
}

/// Installs the packages of a folder that suit the guest.
///
/// # Errors
/// When none suits, or installing fails.
pub fn install(guest: &Guest, folder: &Path) -> Result<()> {
    let mut packages: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry
            .with_context(|| format!("read {}", folder.display()))?
            .path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.ends_with(".deb") && wanted(guest.name(), &name) {
            packages.push(path);
        }
    }
    ensure!(
        !packages.is_empty(),
        "{} has no package for {}",
        folder.display(),
        guest.name()
    );
    guest.ok("rm -rf /var/tmp/debs && mkdir /var/tmp/debs")?;
    for package in &packages {
        let name = package.file_name().unwrap_or_default().to_string_lossy();
        guest.put(package, &format!("/var/tmp/debs/{name}"))?;
    }
    guest.ok_within(
        "DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends /var/tmp/debs/*.deb",
        INSTALL_LIMIT,
    )?;
    Ok(())
}

/// Ends a kept fleet and waits until it is gone.
///
/// # Errors
/// When no such fleet is up.
pub fn down(cache: &Cache, name: &str) -> Result<()> {
    cache::sweep(cache)?;
    let live = cache::live(cache)?;
    ensure!(
        live.iter().any(|fleet| fleet == name),
        "no fleet {name} is up; up: {}",
        list(&live)
    );
    let run = cache.runs().join(name);
    ensure!(
        run.join("ready").exists(),
        "{name} is still booting, or belongs to a test run: end that process instead"
    );
    fs::write(run.join(STOP), "").with_context(|| format!("ask the keeper of {name} to end"))?;
    wait_for(&format!("{name} gone"), Duration::from_secs(20), || {
        cache::sweep(cache)?;
        let live = cache::live(cache)?;
        Ok(if live.iter().any(|fleet| fleet == name) {
            Look::Pending("up".into())
        } else {
            Look::Done(())
        })
    })
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    }
}

fn pid_in(path: &Path) -> Result<Pid> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    Ok(Pid::from_raw(
        text.trim()
            .parse()
            .with_context(|| format!("{} holds no pid", path.display()))?,
    ))
}

/// The folder and name of a guest of a kept fleet; the fleet may be left out when only one fleet has such a guest.
///
/// # Errors
/// When there is none, or more than one.
pub fn find(cache: &Cache, fleet: Option<&str>, guest: &str) -> Result<PathBuf> {
    let live = cache::live(cache)?;
    let mut found = live
        .iter()
        .filter(|name| fleet.is_none_or(|wanted| wanted == *name))
        .map(|name| cache.runs().join(name))
        .filter(|run| run.join(format!("{guest}.ssh")).exists());
    match (found.next(), found.next()) {
        (Some(run), None) => Ok(run),
        (None, _) => bail!("no guest {guest} is up; fleets up: {}", list(&live)),
        (Some(_), Some(_)) => bail!(
            "several fleets have a guest {guest}; choose one with --fleet: {}",
            list(&live)
        ),
    }
}

/// Plugs or unplugs the LAN cable of a guest of a kept fleet.
///
/// # Errors
/// When QEMU does not answer.
pub fn lan(run: &Path, guest: &str, up: bool) -> Result<()> {
    Qmp::open(&run.join(format!("{guest}.qmp")))?.set_link("lan", up)
}

/// Cuts the power of a guest of a kept fleet, or gives it back and waits for the boot.
///
/// # Errors
/// When the guest is not in that state, or does not come up.
pub fn power(run: &Path, guest: &str, on: bool) -> Result<()> {
    if !on {
        return kill(pid_in(&run.join(format!("{guest}.pid")))?, Signal::SIGKILL).context("cut the power");
    }
    let wish = run.join(format!("{guest}.power-on"));
    fs::write(&wish, "").context("ask for power")?;
    wait_for(&format!("{guest} on"), 3 * COMMAND_LIMIT, || {
        Ok(if wish.exists() {
            Look::Pending("booting".into())
        } else {
            Look::Done(())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_gets_the_packages_of_its_role() {
        assert!(wanted("fleet", "loadline-fleet_0.1.0-1_amd64.deb"));
        assert!(!wanted("fleet", "loadline-node_0.1.0-1_amd64.deb"));
        assert!(wanted("node1", "loadline-node_0.1.0-1_amd64.deb"));
        assert!(wanted("node1", "loadline-cli_0.1.0-1_amd64.deb"));
        assert!(!wanted("node1", "nginx.deb"));
    }
}
