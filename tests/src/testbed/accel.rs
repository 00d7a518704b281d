//! Can this host really run guests on its processor? Found out by booting, since a `/dev/kvm` may exist and still fail
//! in the middle of a boot (nested and paravirtual hosts). The outcome is kept for this host and kernel.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::testbed::cache::Cache;
use crate::testbed::image::ImageFiles;
use crate::testbed::process;
use crate::testbed::qemu::Accel;
use crate::testbed::wait::{Look, wait_for};

/// A probe takes 2 s on working KVM; one that takes longer than this gains nothing over emulation.
const LIMIT: Duration = Duration::from_secs(30);

/// The best accelerator that works here. Probes once per host, kernel and QEMU, and says so.
///
/// # Errors
/// When the cache cannot be read or written.
pub fn choose(cache: &Cache, image: &ImageFiles) -> Result<Accel> {
    let host = host_key()?;
    let known = fs::read_to_string(cache.accel()).unwrap_or_default();
    if let Some(accel) = recall(&known, &host) {
        return Ok(accel);
    }
    let accel = if Path::new("/dev/kvm").exists() && boots(image)? {
        Accel::Kvm
    } else {
        Accel::Tcg
    };
    eprintln!("testbed: guests run under {accel:?} on this host");
    let text = format!("{} {host}\n", if accel == Accel::Kvm { "kvm" } else { "tcg" });
    fs::write(cache.accel(), text).context("keep the outcome of the accelerator probe")?;
    Ok(accel)
}

fn recall(known: &str, host: &str) -> Option<Accel> {
    match known.trim_end().split_once(' ')? {
        ("kvm", key) if key == host => Some(Accel::Kvm),
        ("tcg", key) if key == host => Some(Accel::Tcg),
        _ => None,
    }
}

/// What the outcome depends on: processor, kernel, and whether the device may be opened by this person.
fn host_key() -> Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
    let model = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))
        .unwrap_or("model unknown");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's release")?;
    let door = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok();
    Ok(format!(
        "{} | {} | kvm device usable: {door}",
        model.trim(),
        kernel.trim()
    ))
}

/// Boots the image's kernel with its probe script in place of init, which runs real programs and says so.
fn boots(image: &ImageFiles) -> Result<bool> {
    let mut qemu = process::bound("qemu-system-x86_64");
    qemu.args([
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-machine",
        "q35",
        "-no-reboot",
    ])
    .args([
        "-accel", "kvm", "-cpu", "host", "-smp", "2", "-m", "512", "-serial", "stdio",
    ])
    .arg("-kernel")
    .arg(&image.kernel)
    .args([
        "-append",
        "root=/dev/nvme0n1 rw console=ttyS0 loglevel=1 panic=-1 init=/usr/local/sbin/guest-probe",
    ])
    .arg("-drive")
    .arg(format!(
        "file={},format=raw,if=none,id=root,snapshot=on,cache=unsafe",
        image.disk.display()
    ))
    .args(["-device", "nvme,drive=root,serial=root"])
    .stdin(Stdio::null())
    .stdout(Stdio::piped())
    .stderr(Stdio::null());
    let mut child = process::start(qemu).context("start QEMU")?;
    let console = child.stdout.take().context("QEMU without a console")?;
    let reader = std::thread::spawn(move || std::io::read_to_string(console).unwrap_or_default());
    // The panic at the end of the probe ends QEMU; a QEMU stopped by an internal error stays and is ended here.
    let ended = wait_for("accelerator probe", LIMIT, || {
        Ok(match child.try_wait().context("look at QEMU")? {
            Some(_) => Look::Done(()),
            None => Look::Pending("running".into()),
        })
    });
    if ended.is_err() {
        process::end(&mut child);
    }
    Ok(reader.join().unwrap_or_default().contains("LOADLINE-PROBE-OK"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_of_another_host_is_not_believed() {
        assert_eq!(recall("kvm here 6.1\n", "here 6.1"), Some(Accel::Kvm));
        assert_eq!(recall("tcg here 6.1\n", "here 6.1"), Some(Accel::Tcg));
        assert_eq!(recall("kvm there 6.1\n", "here 6.1"), None);
        assert_eq!(recall("", "here 6.1"), None);
    }
}
