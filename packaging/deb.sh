#!/usr/bin/env bash
# Makes the Debian package in target/debian with cargo-deb, which is built once into target/tools. Arguments go to cargo-deb.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ ! -x target/tools/bin/cargo-deb ]; then
    # Unoptimised: it copies files, and compresses with the system's xz.
    cargo install --quiet --locked cargo-deb --version 3.8.0 --no-default-features --profile dev --root target/tools
fi
make --no-print-directory man
# Of an older version nothing may be taken for this one.
rm -f target/debian/qosd_*.deb
target/tools/bin/cargo-deb --locked "$@"
