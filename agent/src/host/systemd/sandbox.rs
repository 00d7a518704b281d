//! The default sandbox of a worker: what arbitrary Python, CUDA and JIT compilers can live with, and nothing
//! beyond. Each absence has a reason:
//!
//! - no `MemoryDenyWriteExecute`: numba, torch.compile and libffi write code;
//! - no `RestrictNamespaces`, no `PrivateUsers`: apptainer, bubblewrap and browsers need them;
//! - no `ProtectHome`: conda and virtual environments live there;
//! - no `RemoveIPC`: it would take the same person's other workers' segments;
//! - no `PAMName`: pam_systemd moves the main process out of our slice.

use zbus::zvariant::Value;

use super::properties::{Property, property};

/// System calls that no data-science program needs. They fail with EPERM instead of killing the program.
const DENIED_CALLS: [&str; 9] = [
    "@clock",
    "@cpu-emulation",
    "@debug",
    "@module",
    "@mount",
    "@obsolete",
    "@raw-io",
    "@reboot",
    "@swap",
];

/// Sockets of any other kind (packet capture, Bluetooth, kernel crypto …) are for administrators.
const ADDRESS_FAMILIES: [&str; 4] = ["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"];

/// Doors to daemons that would work on the worker's behalf, outside its slice and its limits. What look-ups of names
/// need stays open: userdbd, nscd, sssd, resolved.
const DAEMON_DOORS: [&str; 40] = [
    // A bus, or a manager of units.
    "-/run/user",
    "-/run/dbus",
    "-/run/systemd/private",
    // PID 1 reads each datagram that is sent here, logs the ones it did not ask for, and answers each look-up of a
    // dynamic user: a flood costs production PID 1. Nobody in a worker is asked to notify.
    "-/run/systemd/notify",
    "-/run/systemd/userdb/io.systemd.DynamicUser",
    "-/run/systemd/io.system.ManagedOOM",
    "-/run/systemd/io.systemd.ManagedOOM",
    "-/run/systemd/io.systemd.Manager",
    // Each connection starts a service.
    "-/run/systemd/io.systemd.BootControl",
    "-/run/systemd/io.systemd.Credentials",
    "-/run/systemd/io.systemd.Hostname",
    "-/run/systemd/io.systemd.Import",
    "-/run/systemd/io.systemd.Login",
    "-/run/systemd/io.systemd.MountFileSystem",
    "-/run/systemd/io.systemd.MuteConsole",
    "-/run/systemd/io.systemd.PCRExtend",
    "-/run/systemd/io.systemd.PCRLock",
    "-/run/systemd/io.systemd.sysext",
    "-/run/systemd/coredump",
    "-/run/ssh-unix-local",
    "-/run/systemd/machine",
    // Containers and virtual machines.
    "-/run/docker.sock",
    "-/run/docker",
    "-/run/podman",
    "-/run/containerd",
    "-/run/crio",
    "-/run/k3s",
    "-/run/buildkit",
    "-/run/incus",
    "-/run/libvirt",
    "-/run/snapd.socket",
    "-/run/snapd-snap.socket",
    "-/var/lib/incus",
    "-/var/lib/lxd",
    "-/var/snap/lxd",
    // Another's time table, printer and terminal. What these hand on runs elsewhere.
    "-/var/spool/cron",
    "-/var/spool/at",
    "-/run/cups",
    "-/run/screen",
    // Ours.
    "-/run/loadline",
];

/// The one size at which the kernel starts no handler of core dumps: each would run in its root cgroup, and write to
/// production's disk what the worker had in memory. A person who lowers it to 0 gets the handler.
const NO_CORE_HANDLER: u64 = 1;

/// The kernel's number of EPERM.
const EPERM: i32 = 1;

/// The sandbox's properties. `private_devices` is false for workers with GPUs: it would hide `/dev/nvidia*`.
pub(super) fn properties(private_devices: bool) -> Vec<Property> {
    let strings = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<String>>();
    let mut list = vec![
        property("NoNewPrivileges", true),
        property("CapabilityBoundingSet", 0u64),
        property("AmbientCapabilities", 0u64),
        property("DevicePolicy", "closed"),
        property("PrivateDevices", private_devices),
        property("PrivateTmp", true),
        property("ProtectSystem", "strict"),
        property("ProtectProc", "invisible"),
        property("ProtectClock", true),
        property("ProtectHostname", true),
        property("ProtectKernelTunables", true),
        property("ProtectKernelModules", true),
        property("ProtectKernelLogs", true),
        property("ProtectControlGroups", true),
        property("RestrictSUIDSGID", true),
        property("RestrictRealtime", true),
        property("LockPersonality", true),
        property("KeyringMode", "private"),
        property("UMask", 0o077u32),
        property("SystemCallArchitectures", strings(&["native"])),
        property("SystemCallErrorNumber", EPERM),
        property("InaccessiblePaths", strings(&DAEMON_DOORS)),
        property("LimitCORE", NO_CORE_HANDLER),
        property("LimitCORESoft", NO_CORE_HANDLER),
    ];
    let (deny, allow) = (false, true);
    list.push(("SystemCallFilter", Value::new((deny, strings(&DENIED_CALLS)))));
    list.push((
        "RestrictAddressFamilies",
        Value::new((allow, strings(&ADDRESS_FAMILIES))),
    ));
    list
}
