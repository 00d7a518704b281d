#!/bin/bash
# Turns a minimal Debian tree into a guest: kernel, accounts, keys, network. Called by mmdebstrap with the tree's path,
# while the tree still has its package lists. The tree stays stock Debian but for what is named here.
set -euo pipefail
root=$1
in_root() { chroot "$root" "$@"; }

# Kernel: the newest package of the suite that matches.
package=$(in_root apt-cache search --names-only "^$KERNEL\$" | awk '{print $1}' | sort -V | tail -1)
[ -n "$package" ] || { echo "no kernel package matches $KERNEL" >&2; exit 1; }
in_root sh -c "cd /tmp && apt-get -q download $package >/dev/null && dpkg -x $package*.deb /tmp/kernel && rm $package*.deb"
modules=$(find "$root/tmp/kernel" -maxdepth 4 -mindepth 3 -path '*/lib/modules/*' -type d -print -quit)
release=$(basename "$modules")
mkdir -p "$root/usr/lib/modules"
mv "$modules" "$root/usr/lib/modules/"
cp "$root/tmp/kernel/boot/vmlinuz-$release" "$root/boot/testbed-vmlinuz"
cp "$root/tmp/kernel/boot/config-$release" "$root/boot/"
rm -rf "$root/tmp/kernel"
in_root depmod "$release"
echo virtio_net >"$root/etc/modules-load.d/testbed.conf"

# Accounts: root by key only; two people without privilege.
in_root useradd --create-home --shell /bin/bash --uid 1000 alice
in_root useradd --create-home --shell /bin/bash --uid 1001 bob
install -d -m 700 "$root/root/.ssh"
ssh-keygen -q -t ed25519 -N '' -C loadline-testbed -f "$root/root/testbed-key"
mv "$root/root/testbed-key.pub" "$root/root/.ssh/authorized_keys"
chmod 600 "$root/root/.ssh/authorized_keys"

# Only the fast host key, and no look-ups: a login under emulation should cost what it must, no more.
rm -f "$root"/etc/ssh/ssh_host_{rsa,ecdsa}_key*
cat >"$root/etc/ssh/sshd_config.d/testbed.conf" <<'SSHD'
HostKey /etc/ssh/ssh_host_ed25519_key
UseDNS no
PrintMotd no
MaxSessions 200
MaxStartups 100
KexAlgorithms curve25519-sha256
SSHD


# A machine id that is there from the start: without one each boot would be a first boot. Guests get their own from
# the kernel command line.
echo 00000000000000000000000000000001 >"$root/etc/machine-id"
echo debian >"$root/etc/hostname"
: >"$root/etc/fstab"
# As on any machine that has booted before: without these, each boot would rerun ldconfig, sysusers and the catalogue.
touch "$root/etc/.updated" "$root/var/.updated"

cat >"$root/etc/systemd/system/testbed-guest.service" <<'UNIT'
[Unit]
Description=Addresses and names of this guest
DefaultDependencies=no
After=systemd-modules-load.service systemd-remount-fs.service
Before=network.target network-pre.target ssh.service
Wants=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/guest-setup
[Install]
WantedBy=sysinit.target
UNIT
chmod 755 "$root/usr/local/sbin/guest-setup" "$root/usr/local/sbin/guest-probe"
in_root systemctl -q enable testbed-guest.service ssh.service

# Production stand-ins, and the batch system of the benchmarks' image, start when a scenario says so.
for unit in nginx redis-server postgresql munge slurmctld slurmd; do
    if in_root systemctl -q is-enabled "$unit.service" 2>/dev/null; then
        in_root systemctl -q disable "$unit.service" 2>/dev/null
    fi
done
# What means nothing to a guest that lives for minutes: timers that would disturb measurements, consoles nobody reads,
# and mounts and modules that nothing here uses but each cost a fork or two of an emulated boot.
in_root systemctl -q mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer systemd-networkd-wait-online.service getty@tty1.service \
    serial-getty@ttyS0.service systemd-pstore.service systemd-binfmt.service \
    dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount \
    modprobe@drm.service modprobe@efi_pstore.service modprobe@fuse.service modprobe@loop.service modprobe@dm_mod.service

{
    echo "kernel $release ($package)"
    echo "systemd $(in_root dpkg-query -W -f '${Version}' systemd)"
} >"$root/root/testbed-versions"
