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

/// Doors to daemons that would fork on the worker's behalf, outside its slice and its limits.
const DAEMON_DOORS: [&str; 12] = [
    "-/run/user",
    "-/run/dbus",
    "-/run/systemd/private",
    "-/run/docker.sock",
    "-/run/docker",
    "-/run/podman",
    "-/run/containerd",
    "-/run/crio",
    "-/run/libvirt",
    "-/run/loadline",
    "-/var/spool/cron",
    "-/var/spool/at",
];

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
    ];
    let (deny, allow) = (false, true);
    list.push(("SystemCallFilter", Value::new((deny, strings(&DENIED_CALLS)))));
    list.push((
        "RestrictAddressFamilies",
        Value::new((allow, strings(&ADDRESS_FAMILIES))),
    ));
    list
}
