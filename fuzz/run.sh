#!/usr/bin/env bash
# Fuzzes readers and keeps what was learned: fuzz/run.sh SECONDS [TARGET...]
#
# Needs a nightly toolchain and `cargo install cargo-fuzz`. Unpacks the stored corpus, fuzzes each target for so many
# seconds, reduces the corpus to what adds coverage and packs it again. A finding ends the run; its input is in
# fuzz/artifacts/TARGET.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:?seconds for each target}
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo +nightly fuzz list)
# Readers read files: keep them in memory where there is such a place.
[ -d /dev/shm ] && export TMPDIR=/dev/shm
work=$(mktemp -d)
trap 'rm -rf "$work" "${TMPDIR:-/tmp}"/robust-fuzz-*' EXIT
for target in "${targets[@]}"; do
    packed=fuzz/corpus/$target.tar.gz
    mkdir -p "$work/$target" "$work/$target.small"
    [ -f "$packed" ] && tar -xzf "$packed" -C "$work/$target"
    cargo +nightly fuzz run -s none "$target" "$work/$target" -- \
        -max_total_time="$seconds" -max_len=65536 -timeout=30 -rss_limit_mb=2048 -print_final_stats=1
    cargo +nightly fuzz run -s none "$target" -- -merge=1 -max_len=16384 "$work/$target.small" "$work/$target"
    tar -C "$work/$target.small" --sort=name --owner=0 --group=0 --mtime=@0 -cf - . | gzip -9n > "$packed"
done
