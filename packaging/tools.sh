#!/bin/sh
# Installs a pinned cargo tool outside the tree and prints the folder it lies in: tools.sh NAME
# The folder is shared by all checkouts of this machine: $LOADLINE_CACHE/tools, or /var/cache/loadline/tools.
set -eu
case "${1:-}" in
cargo-deb) version=3.8.0 ;;
cargo-deny) version=0.20.2 ;;
cargo-generate-rpm) version=0.21.1 ;;
*)
    echo "tools: which tool? cargo-deb, cargo-deny or cargo-generate-rpm" >&2
    exit 2
    ;;
esac
cache=${LOADLINE_CACHE:-/var/cache/loadline}
root=$cache/tools/$1-$version
if [ ! -x "$root/bin/$1" ]; then
    if ! mkdir -p "$root" 2>/dev/null; then
        echo "tools: cannot write $cache; set LOADLINE_CACHE to a folder that you may write" >&2
        exit 1
    fi
    exec 9>"$cache/tools/lock"
    flock 9
    echo "tools: building $1 $version into $root (once)" >&2
    # It runs for seconds: building it fast counts for more than running it fast.
    env CARGO_TARGET_DIR="$cache/tools/build" cargo install --locked --quiet "$1@$version" --root "$root" \
        --config profile.release.lto=false --config profile.release.opt-level=1 >&2
    rm -rf "$cache/tools/build"
fi
echo "$root/bin"
