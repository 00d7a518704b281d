#!/bin/sh
# Installs what building and checking the packages needs on a Debian machine, beside tests/setup.sh; does nothing when
# all is there. Says each change it makes. Needs root or sudo only when something is missing.
set -eu

say() { echo "setup: $*"; }

as_root=""
if [ "$(id -u)" -ne 0 ]; then
    as_root=sudo
fi

apt() {
    command -v apt-get >/dev/null || { echo "setup: this script knows Debian only; install by hand: $*" >&2; exit 1; }
    if [ -n "$as_root" ] && ! command -v sudo >/dev/null; then
        echo "setup: missing: $*; run this as root, or install sudo" >&2
        exit 1
    fi
    say "apt-get install $*"
    $as_root apt-get -q update >/dev/null
    # shellcheck disable=SC2068
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends $@ >/dev/null
}

wanted=""
need() { # need PROGRAM PACKAGE
    command -v "$1" >/dev/null || wanted="$wanted $2"
}
need git git
need objdump binutils
need dpkg-shlibdeps dpkg-dev
need lintian lintian
need flock util-linux
need python3 python3
[ -z "$wanted" ] || apt "$wanted"

# Rust: rustup where it is, else what Debian ships. The workspace needs 1.89; Debian 12's rustc-web is newer, Debian
# 13 has rustup itself.
if ! command -v cargo >/dev/null; then
    $as_root apt-get -q update >/dev/null
    if apt-cache policy rustup | grep -q 'Candidate: [0-9]'; then
        apt rustup
        say "rustup fetches the toolchain that rust-toolchain.toml names"
    else
        apt rustc-web cargo-web rustfmt-web rust-web-clippy
    fi
fi

# One cache for tools, images and kernels, outside every checkout.
cache=${LOADLINE_CACHE:-/var/cache/loadline}
if ! mkdir -p "$cache" 2>/dev/null || [ ! -w "$cache" ]; then
    say "making $cache for $(id -un)"
    $as_root install -d -o "$(id -u)" -g "$(id -g)" "$cache"
fi
