#!/bin/sh
# Installs what building Loadline and booting its guests need on a Debian machine; does nothing when all is there.
# Works before anything is built. Says each change it makes. Needs root or sudo only when something is missing.
#
# QEMU comes from the backports suite: images of build machines often hold its qemu-utils already, and the
# stable qemu-system conflicts with that.
set -eu

build_packages="gcc libc6-dev libsystemd-dev pkg-config"
guest_packages="mmdebstrap e2fsprogs openssh-client qemu-utils util-linux ca-certificates"
qemu_package="qemu-system-x86"

say() { echo "setup: $*"; }

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing_of() {
    for package in "$@"; do
        installed "$package" || printf '%s ' "$package"
    done
}

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "setup: this script knows Debian only; install by hand: $build_packages $guest_packages $qemu_package" >&2
    exit 1
fi

# shellcheck disable=SC2086 # word lists on purpose
plain=$(missing_of $build_packages $guest_packages)
qemu=$(missing_of $qemu_package)
if [ -z "$plain$qemu" ]; then
    exit 0
fi

as_root=""
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "setup: missing packages: $plain$qemu- run this as root, or install sudo" >&2
        exit 1
    fi
    as_root="sudo"
fi

# The site's own mirror is kept: the backports suite is read from the same address as the configured Debian archive.
mirror() {
    apt-get indextargets --format '$(SITE) $(CODENAME)' 'Created-By: Packages' 'Component: main' 2>/dev/null |
        awk -v suite="$1" '$2 == suite { print $1; exit }'
}

apt_install() {
    say "apt-get install $*"
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "$@" >/dev/null
}

refreshed=""
refresh() {
    if [ -z "$refreshed" ]; then
        say "apt-get update"
        $as_root apt-get -q update >/dev/null
        refreshed=yes
    fi
}

if [ -n "$plain" ]; then
    refresh
    # shellcheck disable=SC2086
    apt_install $plain
fi

if [ -n "$qemu" ]; then
    # shellcheck disable=SC1091
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    case "$codename" in
    bookworm)
        suite="$codename-backports"
        list=/etc/apt/sources.list.d/loadline-backports.sources
        if [ -z "$(mirror "$suite")" ] && [ ! -e "$list" ]; then
            site=$(mirror "$codename")
            : "${site:=http://deb.debian.org/debian}"
            say "adding $suite from $site ($list)"
            printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' \
                "$site" "$suite" /usr/share/keyrings/debian-archive-keyring.gpg |
                $as_root tee "$list" >/dev/null
            refreshed=""
        fi
        refresh
        apt_install -t "$suite" $qemu_package
        ;;
    *)
        refresh
        apt_install $qemu_package
        ;;
    esac
fi
say "done"
