# One of LOADLINE_WORKERS parts of /usr: pack, compress, unpack again and compare with what lies there.
set -eu
out=$HOME/parts-$LOADLINE_JOB
mkdir -p "$out"
cd /
find usr -xdev -type f | LC_ALL=C sort | awk -v n="$LOADLINE_WORKERS" -v k="$LOADLINE_WORKER" 'NR % n == k' >"$out/$LOADLINE_WORKER.list"
tar --create --file=- --files-from="$out/$LOADLINE_WORKER.list" | zstd -q --fast=3 -f -o "$out/$LOADLINE_WORKER.tar.zst"
zstd -q -d -c "$out/$LOADLINE_WORKER.tar.zst" | tar --compare --file=- --directory=/
printf 'part %s: %s files verified, %s bytes compressed\n' "$LOADLINE_WORKER" "$(wc -l <"$out/$LOADLINE_WORKER.list")" "$(stat -c %s "$out/$LOADLINE_WORKER.tar.zst")"
