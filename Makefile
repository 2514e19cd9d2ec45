# Every recipe is one step that a person can run by hand.
.PHONY: run test fuzz prove check ci bench-ping

# Measures this very host; needs nothing else but iperf3, which is installed if that is allowed.
run:
	@command -v iperf3 >/dev/null || { [ "$$(id -u)" = 0 ] && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends iperf3; } \
		|| echo "no iperf3, so its rows will say tool_missing. Type: sudo apt-get install iperf3"
	cargo build --release
	target/release/qosd run --config config/demo.toml

# Every test; those on real packets need root. Ends with the count.
test:
	tests/tools.sh
	tests/run.sh

# What comes from the network, a minute for each parser.
fuzz:
	fuzz/run.sh 60

# The same with the long versions of the tests, after ten minutes for each parser.
prove:
	tests/tools.sh
	fuzz/run.sh 600
	QOSD_PROVE=1 tests/run.sh

# What is quick: format, lints, docs.
check:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps

.PHONY: man deb test-package

# Man pages and completions of shells, into target/man and target/completions.
man:
	cargo run --quiet --example pages -- target

# The Debian package, into target/debian.
deb:
	packaging/deb.sh

# Installs, upgrades, removes and purges it in a root of its own, beside what lintian says; needs root.
test-package: deb
	tests/package.sh target/debian/qosd_*.deb

# How true pings are and what they cost, beside other programs; half an hour, needs root.
bench-ping:
	benches/ping.sh

# Everything that must hold before a merge.
ci:
	.ci/run
