#!/usr/bin/env bash
# Fetches the programs that the tests on real packets need into target/tools/bin. Starts and installs nothing on the
# host: packages are downloaded and unpacked, never configured. Idempotent: what is there already is left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$PWD/target/tools
mkdir -p "$tools/bin" "$tools/debs"

give_up() {
    echo "tests/tools.sh: $*" >&2
    exit 1
}

download() {
    (cd "$tools/debs" && apt-get download -q "$@" >&2)
}

# Downloads packages and unpacks them below target/tools/root.
unpack() {
    command -v apt-get >/dev/null || give_up "no apt-get here: put $* into $tools/bin yourself"
    # Lists that are empty, or older than the mirror, make the first try fail.
    if ! download "$@"; then
        apt-get update -q >&2 || give_up "apt-get update failed (it needs root and a network)"
        download "$@" || give_up "cannot download $*"
    fi
    local package
    for package in "$@"; do
        dpkg-deb -x "$(ls -t "$tools/debs/${package}"_*.deb | head -n 1)" "$tools/root"
    done
}

# Makes target/tools/bin/NAME: a program of the host if there is one, else the one in the packages, with their libraries.
provide() {
    local name=$1 inside=$2 arch found
    arch=$(uname -m)-linux-gnu
    shift 2
    if [ -x "$tools/bin/$name" ]; then
        return
    fi
    if found=$(PATH=$PATH:/usr/sbin:/sbin command -v "$name"); then
        ln -sf "$found" "$tools/bin/$name"
        return
    fi
    unpack "$@"
    cat >"$tools/bin/$name.new" <<END
#!/bin/sh
LD_LIBRARY_PATH="$tools/root/usr/lib/$arch:$tools/root/lib/$arch" exec "$tools/root/$inside" "\$@"
END
    chmod +x "$tools/bin/$name.new"
    mv "$tools/bin/$name.new" "$tools/bin/$name"
}

# Makes target/tools/bin/NAME: a library of a package, for programs that are to be deceived.
provide_library() {
    local name=$1 inside=$2 package=$3
    [ -e "$tools/bin/$name" ] && return
    unpack "$package"
    ln -sf "$tools/root/$inside" "$tools/bin/$name"
}

# Fails unless a program runs.
try() {
    "$@" >/dev/null 2>"$tools/error" || give_up "$* does not work: $(cat "$tools/error")"
}

provide influxd usr/bin/influxd influxdb
provide victoria-metrics usr/bin/victoria-metrics victoria-metrics
provide nft usr/sbin/nft nftables libnftables1 libnftnl11 libmnl0 libjansson4 libxtables12 libedit2 libbsd0
provide iperf3 usr/bin/iperf3 iperf3 libiperf0 libsctp1
provide nginx usr/sbin/nginx nginx libpcre2-8-0 libssl3 zlib1g libcrypt1
provide ip bin/ip iproute2 libbpf1 libelf1 libmnl0 libbsd0 libmd0 libcap2
provide strace usr/bin/strace strace libunwind8 liblzma5
provide tc sbin/tc iproute2 libbpf1 libelf1 libmnl0 libbsd0 libmd0 libcap2 libxtables12
provide mkfs.ext4 sbin/mkfs.ext4 e2fsprogs libext2fs2 libcom-err2 libss2 libblkid1 libuuid1
provide mount bin/mount mount libmount1 libblkid1 libselinux1 libpcre2-8-0
provide fsfreeze sbin/fsfreeze util-linux
provide promtool usr/bin/promtool prometheus
provide_library libeatmydata.so "usr/lib/$(uname -m)-linux-gnu/libeatmydata.so" libeatmydata1
provide_library libfaketimeMT.so.1 "usr/lib/$(uname -m)-linux-gnu/faketime/libfaketimeMT.so.1" libfaketime
# What qosd is compared with: `tests/tools.sh peers`, for benches/ping.sh.
if [ "${1:-}" = peers ]; then
    provide fping usr/bin/fping fping
    provide ping bin/ping iputils-ping libcap2 libidn2-0 libunistring2
    try "$tools/bin/fping" -v
    try "$tools/bin/ping" -V
fi

try "$tools/bin/influxd" version
try "$tools/bin/victoria-metrics" -version
try "$tools/bin/iperf3" --version
try "$tools/bin/nginx" -v
try "$tools/bin/promtool" --version
try "$tools/bin/ip" -Version
try "$tools/bin/strace" -V
try "$tools/bin/tc" -Version
try "$tools/bin/nft" --version
try "$tools/bin/mkfs.ext4" -V
try "$tools/bin/mount" -V
try "$tools/bin/fsfreeze" -V
try test -z "$(LD_PRELOAD=$tools/bin/libeatmydata.so true 2>&1)"
# A library that cannot be loaded is only complained about.
try test "$(LD_PRELOAD=$tools/bin/libfaketimeMT.so.1 FAKETIME='@2001-01-01 00:00:00' date +%Y)" = 2001
if [ "$(id -u)" = 0 ]; then
    # In a namespace of its own, as the tests use it.
    try unshare --net "$tools/bin/nft" 'add table inet t; add chain inet t c { type filter hook output priority 0; }; add rule inet t c icmp type echo-request numgen inc mod 10 0 drop'
fi
