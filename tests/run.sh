#!/usr/bin/env bash
# Runs every test and ends with one line that counts them all: "N passed, N failed". Arguments go to cargo test.
set -uo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --no-fail-fast "$@" 2>&1 | tee "$log"
status=${PIPESTATUS[0]}

# A test binary that ends before its "test result:" line makes cargo fail, so the status counts as well as the sum.
awk -v status="$status" '
    /^test result: / { passed += $4; failed += $6 }
    END {
        if (status != 0 && failed == 0) print "cargo test failed with status " status " outside of the tests"
        if (passed == 0) print "no test ran"
        printf "%d passed, %d failed\n", passed, failed
        exit (status != 0 || failed > 0 || passed == 0)
    }' "$log"
