//! The QEMU command line of a guest: values in, words out.

use std::path::Path;

use crate::testbed::spec::GuestSpec;

/// All that can be emulated, but for what costs a real CPU nothing and an emulated one much: string instructions that are
/// said to be fast (the kernel then copies and clears byte by byte), a fifth level of page
/// tables, and what switches at each entry to the kernel or to another process. Without these nginx took 1.0 instead
/// of 1.1 ms of CPU for a page, and its p99 beside an antagonist of memory in the idle class was 1.3 times that alone
/// instead of 2.2 (2026-11-30, two shared cores, three rounds each, in boots one after the other, with [`Accel::kernel_words`]). Without svm the guest does not load KVM of its own.
const EMULATED_CPU: &str = "max,svm=off,erms=off,fsrm=off,la57=off,pku=off,smap=off";

/// How guest code runs on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// By the processor itself.
    Kvm,
    /// Emulated, about 13 times slower.
    Tcg,
    /// Likewise, for [`GuestSpec::counted`].
    Counted,
}

impl Accel {
    /// More words for the kernel. An emulated CPU cannot be spied upon; to be safe from that costs nothing on a real CPU of
    /// today, and an emulated one a detour at each indirect call.
    const fn kernel_words(self) -> &'static str {
        match self {
            Self::Kvm => "",
            Self::Tcg | Self::Counted => " mitigations=off",
        }
    }

    fn words(self) -> &'static [&'static str] {
        // 512 MiB of translated code: the default cache is flushed during a boot.
        match self {
            Self::Kvm => &["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => &["-accel", "tcg,thread=multi,tb-size=512", "-cpu", EMULATED_CPU],
            // 2 ns for an instruction: a processor of today takes half of that or less.
            Self::Counted => &[
                "-accel",
                "tcg,thread=single,tb-size=512",
                "-icount",
                "shift=1,sleep=off",
                "-cpu",
                EMULATED_CPU,
            ],
        }
    }
}

/// Everything that decides how one guest boots.
#[derive(Debug)]
pub struct Boot<'a> {
    /// What is wanted.
    pub spec: &'a GuestSpec,
    /// How its code runs.
    pub accel: Accel,
    /// Kernel to boot directly.
    pub kernel: &'a Path,
    /// The guest's own overlay; survives a power cut.
    pub overlay: &'a Path,
    /// Console log, appended to.
    pub console: &'a Path,
    /// Control socket.
    pub qmp: &'a Path,
    /// Loopback port that leads to the guest's ssh.
    pub ssh_port: u16,
    /// Place in the fleet, from 1: the last part of its LAN address.
    pub number: u8,
    /// Multicast address and port that are this fleet's LAN.
    pub lan: &'a str,
    /// `ADDRESS:NAME` of all guests of the fleet.
    pub hosts: &'a str,
}

/// The LAN address of a fleet's n-th guest.
#[must_use]
pub fn lan_address(number: u8) -> String {
    format!("10.77.0.{number}")
}

impl Boot<'_> {
    /// The words after `qemu-system-x86_64`.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let mut words: Vec<String> = [
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-machine",
            "q35,sata=off,smbus=off,vmport=off",
        ]
        .into_iter()
        .chain(self.accel.words().iter().copied())
        .map(Into::into)
        .collect();
        words.extend(self.topology());
        let mut add = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
        add("-kernel", self.kernel.display().to_string());
        add("-append", self.kernel_line());
        add(
            "-drive",
            format!(
                "file={},format=qcow2,if=none,id=root,cache=unsafe",
                self.overlay.display()
            ),
        );
        add("-device", "nvme,drive=root,serial=root".into());
        add(
            "-netdev",
            format!("user,id=door,hostfwd=tcp:127.0.0.1:{}-:22", self.ssh_port),
        );
        add("-device", "virtio-net-pci,netdev=door,romfile=".into());
        add(
            "-netdev",
            format!("socket,id=lan,mcast={},localaddr=127.0.0.1", self.lan),
        );
        add(
            "-device",
            format!(
                "virtio-net-pci,netdev=lan,mac=52:54:00:77:00:{:02x},romfile=",
                self.number
            ),
        );
        add("-device", "virtio-rng-pci".into());
        add(
            "-chardev",
            format!("file,id=console,append=on,path={}", self.console.display()),
        );
        add("-serial", "chardev:console".into());
        add("-qmp", format!("unix:{},server=on,wait=off", self.qmp.display()));
        words
    }

    fn topology(&self) -> Vec<String> {
        let GuestSpec {
            cpus,
            numa,
            memory_mib,
            ..
        } = self.spec;
        let cores = cpus / numa;
        let mut words = vec![
            "-smp".to_owned(),
            format!("{cpus},sockets={numa},cores={cores},threads=1"),
            "-m".into(),
            format!("{memory_mib}M"),
        ];
        if *numa > 1 {
            for node in 0..*numa {
                let first = node * cores;
                let last = first + cores - 1;
                words.extend([
                    "-object".into(),
                    format!("memory-backend-ram,id=m{node},size={}M", memory_mib / numa),
                    "-numa".into(),
                    format!("node,nodeid={node},cpus={first}-{last},memdev=m{node}"),
                ]);
            }
        }
        words
    }

    /// `tsc=reliable`: emulated CPUs share one counter. Without the word the kernel distrusts it and asks the HPET, each
    /// time through a system call and a lock that all CPUs share, which no real machine of today does.
    fn kernel_line(&self) -> String {
        let mut line = format!(
            "root=/dev/nvme0n1 rw console=ttyS0 loglevel=4 net.ifnames=0 psi=1 tsc=reliable systemd.hostname={} \
             systemd.machine_id={} loadline.lan={} loadline.hosts={}{}",
            self.spec.name,
            machine_id(self.number, &self.spec.name),
            lan_address(self.number),
            self.hosts,
            self.accel.kernel_words(),
        );
        for word in &self.spec.kernel_words {
            line.push(' ');
            line.push_str(word);
        }
        line
    }
}

/// The same over reboots and power cuts, different for each guest.
fn machine_id(number: u8, name: &str) -> String {
    let name = name.bytes().fold(0u64, |hash, byte| {
        hash.wrapping_mul(131).wrapping_add(byte.into())
    });
    format!("10ad11ae{number:08x}{name:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::image::Image;

    fn boot(spec: &GuestSpec) -> Vec<String> {
        boot_with(spec, Accel::Tcg)
    }

    fn boot_with(spec: &GuestSpec, accel: Accel) -> Vec<String> {
        let path = Path::new("/x");
        Boot {
            spec,
            accel,
            kernel: path,
            overlay: path,
            console: path,
            qmp: path,
            ssh_port: 2222,
            number: 17,
            lan: "230.77.1.2:17701",
            hosts: "10.77.0.17:n",
        }
        .words()
    }

    #[test]
    fn numa_nodes_share_cpus_and_memory_without_gap() {
        let words = boot(&GuestSpec::new("n", Image::Debian12, 4).numa(2).memory_mib(2048)).join(" ");
        assert!(
            words.contains("-smp 4,sockets=2,cores=2,threads=1 -m 2048M"),
            "{words}"
        );
        assert!(
            words.contains("size=1024M -numa node,nodeid=0,cpus=0-1,memdev=m0"),
            "{words}"
        );
        assert!(
            words.contains("size=1024M -numa node,nodeid=1,cpus=2-3,memdev=m1"),
            "{words}"
        );
    }

    #[test]
    fn a_counted_clock_is_of_one_thread_of_the_host() {
        let spec = GuestSpec::new("n", Image::Debian12, 1).counted();
        let words = boot_with(&spec, Accel::Counted).join(" ");
        assert!(
            words.contains("thread=single") && words.contains("-icount shift="),
            "{words}"
        );
    }

    #[test]
    fn guests_of_a_fleet_differ_where_they_must() {
        let words = boot(&GuestSpec::new("n", Image::Debian12, 2)).join(" ");
        assert!(words.contains("mac=52:54:00:77:00:11"), "{words}");
        assert!(words.contains("loadline.lan=10.77.0.17 "), "{words}");
        assert!(!words.contains("-numa"), "{words}");
        assert_ne!(machine_id(1, "a"), machine_id(2, "a"));
        assert_eq!(machine_id(1, "node1").len(), 32);
    }
}
