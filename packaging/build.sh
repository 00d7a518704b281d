#!/usr/bin/env bash
# Builds the release programs once and packs them: packaging/build.sh
# Result: target/packages/*.deb below the repository, whatever CARGO_TARGET_DIR says. cargo-deb is taken from
# packaging/tools.sh, pinned, outside the tree.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$(sh packaging/tools.sh cargo-deb)
target=${CARGO_TARGET_DIR:-$PWD/target}
out=$PWD/target/packages

echo "packages: building the programs"
cargo build --locked --release --quiet -p loadline-node -p loadline-fleet -p loadline-cli

# One commit, one package: the time stamps inside are the commit's. Only from here: C libraries, and with them nearly
# everything, are compiled anew by cargo whenever this variable is another.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1767225600)}
export SOURCE_DATE_EPOCH

# Packing and checking take longer than a build of nothing new: the same programs and files make the same packages.
made_of=$(
    {
        echo "$SOURCE_DATE_EPOCH $tools"
        sha256sum "$target"/release/{loadline-warden,loadline-agent,fleetd,fleet}
        find packaging systemd {.,agent,fleet,fleet/cli}/Cargo.toml agent/src/prove/report/report.schema.json -type f -print0 |
            LC_ALL=C sort -z | xargs -0 sha256sum
    } | sha256sum
)
if [ "$(cat "$out/MADE_OF" 2>/dev/null)" = "$made_of" ] && (cd "$out" && sha256sum --quiet -c SHA256SUMS); then
    echo "packages: as they are in $out"
    exit 0
fi

# The support floor is glibc 2.34 (design: Debian 12/13, RHEL 9, Ubuntu 24.04). The newest symbol decides.
for program in loadline-warden loadline-agent fleetd fleet; do
    newest=$(objdump -T "$target/release/$program" | grep -o 'GLIBC_2\.[0-9]*' | sort -uV | tail -1)
    case "$newest" in
    GLIBC_2.[0-9] | GLIBC_2.[12][0-9] | GLIBC_2.3[0-4]) ;;
    *) echo "packages: warning: $program needs $newest, beyond the floor of glibc 2.34" >&2 ;;
    esac
done

# Manual pages and completions of the command line come from its own definition.
extra=$target/release/packaging
rm -rf "$extra"
"$target/release/fleet" generate man "$extra/man"
gzip -9n "$extra"/man/*.1
"$target/release/fleet" generate completions "$extra/completions"

rm -rf "$out"
mkdir -p "$out"
for crate in loadline-node loadline-fleet loadline-cli; do
    "$tools/cargo-deb" deb --quiet --locked --no-build -p "$crate" --output "$out/"
done
(cd "$out" && sha256sum -- *.deb >SHA256SUMS)

# Warnings are shown; what is meant to be as it is stands in packaging/lintian, with the reason.
lintian_flags=(--fail-on error)
if [ "$(id -u)" -eq 0 ]; then lintian_flags+=(--allow-root); fi
lintian "${lintian_flags[@]}" "$out"/*.deb
ls -l "$out"
echo "$made_of" >"$out/MADE_OF"
