#!/usr/bin/env bash
# Installs the headless browser that `cargo test --test cli report` opens reports in; without one these tests skip.
set -euo pipefail
if command -v chromium-headless-shell chromium >/dev/null; then exit 0; fi
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
"${as_root[@]}" apt-get update
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium-headless-shell
