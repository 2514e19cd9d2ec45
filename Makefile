# Every recipe is one step that a person can run by hand.
.PHONY: run install uninstall man deb test test-systemd test-package fuzz prove check ci bench-ping bench-journal bench-page
.PHONY: dashboards test-flux test-page screenshots

PREFIX ?= /usr
DESTDIR ?=
# What is installed; another program than a release build for who wants it.
BINARY ?= target/release/qosd

# Measures this very host; needs nothing else but iperf3, which is installed if that is allowed.
run:
	@command -v iperf3 >/dev/null || { [ "$$(id -u)" = 0 ] && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends iperf3; } \
		|| echo "no iperf3, so its rows will say tool_missing. Type: sudo apt-get install iperf3"
	cargo build --release
	target/release/qosd run --config config/demo.toml

# As a service, after `cargo build --release` and `make man`; a config that is there stays. DESTDIR=FOLDER for packages.
install:
	install -D -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/qosd
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(PREFIX)/share/doc/qosd/dropins
	sed 's|/usr/bin/qosd|$(PREFIX)/bin/qosd|' systemd/qosd.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/qosd.service
	install -D -m 644 systemd/qosd.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/qosd.conf
	install -D -m 644 systemd/qosd.sysctl $(DESTDIR)$(PREFIX)/lib/sysctl.d/10-qosd.conf
	install -m 644 systemd/datagram.conf systemd/networks.conf $(DESTDIR)$(PREFIX)/share/doc/qosd/dropins
	test ! -d target/man || { \
		install -D -m 644 target/man/qosd.8 $(DESTDIR)$(PREFIX)/share/man/man8/qosd.8 && \
		install -D -m 644 target/man/qosd.toml.5 $(DESTDIR)$(PREFIX)/share/man/man5/qosd.toml.5 && \
		install -D -m 644 target/completions/qosd $(DESTDIR)$(PREFIX)/share/bash-completion/completions/qosd && \
		install -D -m 644 target/completions/_qosd $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions/_qosd && \
		install -D -m 644 target/completions/qosd.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/qosd.fish; }
	test -e $(DESTDIR)/etc/qosd/qosd.toml || install -D -m 644 config/qosd.toml $(DESTDIR)/etc/qosd/qosd.toml
	test -n "$(DESTDIR)" || { systemd-sysusers qosd.conf && systemctl daemon-reload; }
	test -n "$(DESTDIR)" || /lib/systemd/systemd-sysctl --prefix=/net/core/rmem_max --prefix=/net/ipv4/ping_group_range || true

# Leaves config, journal and user.
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/qosd $(DESTDIR)$(PREFIX)/lib/systemd/system/qosd.service
	rm -f $(DESTDIR)$(PREFIX)/lib/sysusers.d/qosd.conf $(DESTDIR)$(PREFIX)/lib/sysctl.d/10-qosd.conf
	rm -f $(DESTDIR)$(PREFIX)/share/man/man8/qosd.8 $(DESTDIR)$(PREFIX)/share/man/man5/qosd.toml.5
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/qosd $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions/_qosd
	rm -f $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/qosd.fish
	rm -rf $(DESTDIR)$(PREFIX)/share/doc/qosd
	test -n "$(DESTDIR)" || systemctl daemon-reload

# Every test; those on real packets need root. Ends with the count.
test:
	tests/tools.sh
	tests/run.sh

# The unit as shipped, run by a real systemd in namespaces of its own, killed a hundred times; less often in `make test`.
test-systemd:
	tests/tools.sh
	QOSD_PROVE=1 cargo test --test net systemd

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
	cargo clippy --test browser -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps

# Man pages and completions of shells, into target/man and target/completions.
man:
	cargo run --quiet --example pages -- target

# The Debian package, into target/debian.
deb:
	packaging/deb.sh

# The dashboards for Grafana, into dashboards/; tests/it fails when they are not what this makes.
dashboards:
	cargo run --quiet --example dashboards -- dashboards

# Every query of the dashboards in Flux, read by Flux's own language server; needs node and npm.
test-flux:
	tests/tools.sh flux
	node tests/flux/check.js target/tools/flux-lsp-node

# The page in a real browser, without a window; needs root and npm.
test-page:
	tests/tools.sh browser
	tests/run.sh --test browser

# The same, but for the pictures in docs/screenshots.
screenshots:
	tests/tools.sh browser
	QOSD_SCREENSHOTS=docs/screenshots tests/run.sh --test browser screenshots

# Installs, upgrades, removes and purges it in a root of its own, beside what lintian says; needs root.
test-package: deb
	tests/package.sh target/debian/qosd_*.deb

# How true pings are and what they cost, beside other programs; half an hour, needs root.
bench-ping:
	benches/ping.sh

# What the journal takes and costs, and how fast a backlog reaches a real InfluxDB; a quarter of an hour, needs root.
bench-journal:
	benches/journal.sh

# How fast the page is with weeks in the journal, and whether measuring notices who looks at it; 20 minutes, needs root.
bench-page:
	benches/page.sh

# Everything that must hold before a merge.
ci:
	.ci/run
