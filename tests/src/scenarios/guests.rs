//! The guests themselves: what every other guest test takes for granted.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::clock;
use crate::scenarios::Suite;
use crate::testbed::cache::{self, Cache};
use crate::testbed::image::Image;
use crate::testbed::process;
use crate::testbed::wait::{Look, wait_for};
use crate::testbed::{Fleet, Guest, GuestSpec};

pub(super) const SUITE: Suite = Suite {
    name: "guests",
    guests: || {
        vec![
            GuestSpec::new("old", Image::Debian12, 2),
            GuestSpec::new("new", Image::Debian13, 4).numa(2).memory_mib(2048),
        ]
    },
    prepare: |_| Ok(()),
    scenarios: &[
        ("boot_to_running_with_the_distribution_s_own_pair", own_pair),
        ("cgroup_v2_with_all_controllers", controllers),
        ("pressure_is_counted", pressure),
        ("numa_as_asked", numa),
        ("people_and_production_as_baked", as_baked),
        ("files_travel_unharmed", files),
        ("lan_and_names", lan),
        ("guests_die_with_a_killed_testbed", orphans),
        ("a_counted_clock_does_not_see_a_busy_host", counted),
        ("a_forwarded_port_leads_into_the_guest", forwarded),
        ("an_unplugged_cable_parts_guests_and_nothing_else", partition),
        ("a_reboot_keeps_the_disk_and_not_the_memory", reboot),
        ("a_power_cut_keeps_what_was_synced_only", power_cut),
    ],
    waiting: &[],
    recover: |_| Ok(()),
};

/// Booting goes on behind the first ssh answer.
const SETTLE: Duration = Duration::from_secs(120);
const BOOT_ID: &str = "cat /proc/sys/kernel/random/boot_id";

fn same<T: PartialEq + std::fmt::Debug>(guest: &Guest, what: &str, is: T, should: T) -> Result<()> {
    ensure!(
        is == should,
        "{}: {what} is {is:?} and should be {should:?}",
        guest.name()
    );
    Ok(())
}

fn own_pair(fleet: &Fleet) -> Result<()> {
    for (name, kernel, systemd) in [("old", "6.1.", "systemd 252"), ("new", "6.12.", "systemd 257")] {
        let guest = fleet.guest(name)?;
        let state = guest.run("systemctl is-system-running --wait", SETTLE)?;
        let failed = guest.ok("systemctl --failed --no-legend")?;
        ensure!(
            state.stdout.trim() == "running",
            "{name} is {}; failed: {failed}",
            state.stdout.trim()
        );
        let release = guest.ok("uname -r")?;
        ensure!(release.starts_with(kernel), "{name} runs kernel {release}");
        let version = guest.ok("systemctl --version | head -1")?;
        ensure!(version.starts_with(systemd), "{name} runs {version}");
        same(guest, "host name", guest.ok("hostname")?.as_str(), name)?;
    }
    let ids = [
        fleet.guest("old")?.ok("cat /etc/machine-id")?,
        fleet.guest("new")?.ok("cat /etc/machine-id")?,
    ];
    ensure!(ids[0] != ids[1], "both guests have the machine id {}", ids[0]);
    Ok(())
}

fn controllers(fleet: &Fleet) -> Result<()> {
    for guest in fleet.guests() {
        same(
            guest,
            "type of /sys/fs/cgroup",
            guest.ok("stat -fc %T /sys/fs/cgroup")?.as_str(),
            "cgroup2fs",
        )?;
        let there = guest.ok("cat /sys/fs/cgroup/cgroup.controllers")?;
        for controller in ["cpu", "cpuset", "io", "memory", "pids"] {
            let found = there.split_whitespace().any(|word| word == controller);
            ensure!(found, "{}: no controller {controller} in {there}", guest.name());
        }
    }
    Ok(())
}

fn pressure(fleet: &Fleet) -> Result<()> {
    for guest in fleet.guests() {
        for file in [
            "/proc/pressure/cpu",
            "/proc/pressure/memory",
            "/sys/fs/cgroup/system.slice/cpu.pressure",
        ] {
            let text = guest.ok(&format!("cat {file}"))?;
            ensure!(
                text.starts_with("some avg10="),
                "{}: {file} says {text:?}",
                guest.name()
            );
        }
    }
    Ok(())
}

fn numa(fleet: &Fleet) -> Result<()> {
    let nodes = "cat /sys/devices/system/node/node*/cpulist";
    let old = fleet.guest("old")?;
    same(old, "CPUs by NUMA node", old.ok(nodes)?.as_str(), "0-1")?;
    let new = fleet.guest("new")?;
    same(new, "CPUs by NUMA node", new.ok(nodes)?.as_str(), "0-1\n2-3")?;
    let sockets = new.ok("cat /sys/devices/system/cpu/cpu*/topology/physical_package_id")?;
    same(new, "sockets by CPU", sockets.as_str(), "0\n0\n1\n1")?;
    let memory = new.ok("awk '/MemTotal/ { print $4 }' /sys/devices/system/node/node*/meminfo")?;
    for total in memory.lines() {
        let kib: u32 = total.parse().with_context(|| format!("MemTotal {total:?}"))?;
        ensure!(
            (800 * 1024..=1024 * 1024).contains(&kib),
            "a NUMA node of 1 GiB has {kib} KiB"
        );
    }
    Ok(())
}

fn as_baked(fleet: &Fleet) -> Result<()> {
    for guest in fleet.guests() {
        same(
            guest,
            "uids",
            guest.ok("id -u alice; id -u bob")?.as_str(),
            "1000\n1001",
        )?;
        same(
            guest,
            "owner of alice's home",
            guest.ok("stat -c %U /home/alice")?.as_str(),
            "alice",
        )?;
        same(
            guest,
            "nginx",
            guest.ok("systemctl is-enabled nginx || true")?.as_str(),
            "disabled",
        )?;
        guest.ok("test -d /var/log/journal && journalctl -q -n 1 --directory=/var/log/journal")?;
    }
    Ok(())
}

fn files(fleet: &Fleet) -> Result<()> {
    let folder = fleet.folder().join("files");
    std::fs::create_dir_all(&folder).context("make a folder")?;
    let bytes: Vec<u8> = (0..1_000_000u32)
        .flat_map(|n| (n % 65_537).to_le_bytes())
        .collect();
    let (from, back) = (folder.join("from"), folder.join("back"));
    std::fs::write(&from, &bytes).context("write a file")?;
    let guest = fleet.guest("new")?;
    guest.put(&from, "/var/tmp/travels")?;
    guest.get("/var/tmp/travels", &back)?;
    ensure!(
        std::fs::read(&back).context("read it back")? == bytes,
        "4 MB changed on the way"
    );
    let failed = guest.run("echo out; echo err >&2; exit 7", SETTLE)?;
    same(
        guest,
        "end of a command",
        (failed.status, &*failed.stdout, &*failed.stderr),
        (7, "out\n", "err\n"),
    )
}

fn lan(fleet: &Fleet) -> Result<()> {
    let (old, new) = (fleet.guest("old")?, fleet.guest("new")?);
    new.ok("systemctl start nginx")?;
    let page = old.ok("curl -sS --max-time 20 http://new/")?;
    ensure!(
        page.contains("nginx"),
        "the page of `new` seen from `old`: {page}"
    );
    let own = new.ok("ip -4 -o addr show dev eth1")?;
    ensure!(own.contains(&new.address()), "address {} in {own}", new.address());
    new.ok("systemctl stop nginx")?;
    Ok(())
}

fn forwarded(fleet: &Fleet) -> Result<()> {
    let guest = fleet.guest("new")?;
    guest.ok("systemctl start nginx")?;
    let port = guest.forward(80)?;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).context("connect the forwarded port")?;
    stream.set_read_timeout(Some(SETTLE)).context("limit the wait")?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").context("ask")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read the answer")?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "answer {answer:?}");
    guest.ok("systemctl stop nginx")?;
    Ok(())
}

/// A keeper that is killed as soon as its guest's QEMU runs; no need to wait for a boot.
/// Work takes as long as it does, whoever else wants the host's CPUs (by a clock of the host's twice as long and more), and
/// idle time is not waited for.
fn counted(_: &Fleet) -> Result<()> {
    const WORK: &str =
        "s=$(date +%s%N); i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; echo $(($(date +%s%N) - s))";
    const HOG: &str = "while :; do :; done";
    let cache = Cache::open()?;
    let name = format!("counted-{}", std::process::id());
    let spec = GuestSpec::new("counted", Image::Debian12, 1).counted();
    let fleet = Fleet::boot(&cache, &name, &[spec])?;
    let guest = fleet.guest("counted")?;
    guest.run("systemctl is-system-running --wait", SETTLE)?;
    // The best of some: the guest has work of its own now and then.
    let work = || -> Result<u64> {
        let ns = guest.ok(&format!(
            "for try in 1 2 3 4 5; do sh -c '{WORK}'; done | sort -n | head -1"
        ))?;
        ns.trim()
            .parse()
            .with_context(|| format!("the clock said {ns:?}"))
    };
    let calm = work()?;
    let mut hogs = Vec::new();
    for _ in 0..2 * std::thread::available_parallelism()?.get() {
        let mut hog = process::bound("sh");
        hog.args(["-c", HOG]);
        hogs.push(process::start(hog).context("start a hog")?);
    }
    let busy = work();
    hogs.iter_mut().for_each(process::end);
    let busy = busy?;
    ensure!(
        calm.abs_diff(busy) <= calm / 20,
        "the same work took {calm} ns, and {busy} ns on a busy host"
    );
    let begun = clock::now();
    guest.ok("sleep 600")?;
    let passed = begun.elapsed();
    ensure!(
        passed < Duration::from_secs(300),
        "ten minutes of idleness took {passed:?}"
    );
    Ok(())
}

fn orphans(_: &Fleet) -> Result<()> {
    let cache = Cache::open()?;
    let name = format!("orphans-{}", std::process::id());
    let mut keeper = Command::new(std::env::current_exe().context("find own program")?)
        .args(["keep", "--name", &name, "--guests", "orphan:debian12:1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start a keeper")?;
    let note = cache.runs().join(&name).join("orphan.pid");
    let noted = wait_for("QEMU of the keeper", SETTLE, || {
        let text = std::fs::read_to_string(&note).unwrap_or_default();
        Ok(if text.is_empty() {
            Look::Pending("not started".into())
        } else {
            Look::Done(text)
        })
    });
    keeper.kill().context("kill the keeper")?;
    keeper.wait().context("wait for the keeper")?;
    let qemu = noted?;
    wait_for("end of the orphaned QEMU", Duration::from_secs(10), || {
        let status = std::fs::read_to_string(format!("/proc/{qemu}/status")).unwrap_or_default();
        let alive = status
            .lines()
            .find(|line| line.starts_with("State:") && !line.contains('Z'));
        Ok(alive.map_or(Look::Done(()), |state| Look::Pending(state.into())))
    })?;
    ensure!(
        cache::sweep(&cache)?.contains(&name),
        "the folder of {name} was not swept"
    );
    Ok(())
}

fn partition(fleet: &Fleet) -> Result<()> {
    let (old, new) = (fleet.guest("old")?, fleet.guest("new")?);
    let look = "curl -s -o /dev/null --max-time 5 http://new/";
    new.ok("systemctl start nginx")?;
    old.ok(look)?;
    new.lan_down()?;
    let parted = old.run(look, SETTLE)?;
    same(old, "status of curl while parted", parted.status != 0, true)?;
    same(
        new,
        "nginx while parted",
        new.ok("systemctl is-active nginx")?.as_str(),
        "active",
    )?;
    new.lan_up()?;
    old.wait_ok("the page after the partition", look, SETTLE)?;
    new.ok("systemctl stop nginx")?;
    Ok(())
}

fn reboot(fleet: &Fleet) -> Result<()> {
    let guest = fleet.guest("old")?;
    let before = guest.ok(BOOT_ID)?;
    guest.ok("echo kept > /var/lib/kept; echo gone > /run/gone")?;
    guest.reboot()?;
    ensure!(guest.ok(BOOT_ID)? != before, "same boot id after a reboot");
    same(
        guest,
        "file on disk",
        guest.ok("cat /var/lib/kept")?.as_str(),
        "kept",
    )?;
    guest.ok("test ! -e /run/gone")?;
    Ok(())
}

/// The unsynced file was written less than a second before the cut; the kernel writes back after 5 s at the earliest.
fn power_cut(fleet: &Fleet) -> Result<()> {
    let guest = fleet.guest("old")?;
    let before = guest.ok(BOOT_ID)?;
    guest.ok("head -c 200000 /dev/urandom > /var/lib/synced && sync && sha256sum < /var/lib/synced > /var/lib/sum && sync")?;
    let sum = guest.ok("cat /var/lib/sum")?;
    guest.ok("head -c 200000 /dev/urandom > /var/lib/unsynced")?;
    guest.power_cut();
    ensure!(!guest.is_on(), "on after a power cut");
    guest.power_on()?;
    ensure!(guest.ok(BOOT_ID)? != before, "same boot id after a power cut");
    same(
        guest,
        "synced file",
        guest.ok("sha256sum < /var/lib/synced")?,
        sum,
    )?;
    guest
        .ok("test ! -s /var/lib/unsynced")
        .context("an unsynced file outlived the cut: cuts prove nothing")?;
    Ok(())
}
