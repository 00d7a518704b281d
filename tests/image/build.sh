#!/bin/bash
# Builds one guest image: build.sh SUITE KERNEL_PATTERN OUT_DIR MIRROR [PACKAGE]…
#   SUITE           bookworm or trixie
#   KERNEL_PATTERN  the distribution's own kernel package, as a regular expression
#   OUT_DIR         gets disk.img, vmlinuz, id_ed25519, versions
#   PACKAGE         what this image has beyond the others
# Run as root by the testbed, which caches the result under the hash of this folder.
#
# No initrd: Debian's cloud kernels have NVMe and ext4 built in. The kernel package is unpacked, not installed,
# since installing it would pull in and run an initramfs generator.
set -euo pipefail
suite=$1 kernel_pattern=$2 out=$3 mirror=$4
shift 4
here=$(cd "$(dirname "$0")" && pwd)
root=$out/root

packages=(
    systemd systemd-sysv dbus udev kmod libsystemd0 iproute2 openssh-server
    nginx-light stress-ng procps psmisc util-linux zstd xz-utils curl nftables
    ca-certificates acl python3-minimal sqlite3 adduser "$@"
)

mmdebstrap --quiet --variant=minbase --mode=root --components=main \
    --include="$(IFS=, && echo "${packages[*]}")" \
    --customize-hook="cp '$here/guest-setup' '$here/guest-probe' \"\$1/usr/local/sbin/\"" \
    --customize-hook="env KERNEL='$kernel_pattern' bash '$here/customize.sh' \"\$1\"" \
    "$suite" "$root" "$mirror"

mv "$root/boot/testbed-vmlinuz" "$out/vmlinuz"
mv "$root/root/testbed-key" "$out/id_ed25519"
mv "$root/root/testbed-versions" "$out/versions"
mke2fs -q -t ext4 -E lazy_itable_init=1,nodiscard -O ^metadata_csum_seed -L root -d "$root" "$out/disk.img" 6G
rm -rf "$root"
# Built through sudo, the result still belongs to the person who asked.
if [ -n "${SUDO_UID:-}" ]; then
    chown -R "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$out"
fi
