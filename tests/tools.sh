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

# Makes target/tools/NAME: a package of the npm registry, unpacked, if it is the very one that is known.
provide_npm() {
    local name=$1 package=$2 sum=$3 archive
    [ -e "$tools/$name/package.json" ] && return
    command -v npm >/dev/null || give_up "no npm here: unpack $package into $tools/$name yourself"
    archive=$tools/debs/$(cd "$tools/debs" && npm pack --silent "$package") || give_up "cannot download $package"
    echo "$sum  $archive" | sha256sum --quiet --check || give_up "$package is not what it was"
    rm -rf "$tools/$name.new" && mkdir "$tools/$name.new"
    tar -xzf "$archive" -C "$tools/$name.new" --strip-components=1
    mv "$tools/$name.new" "$tools/$name"
}

# A browser without a window, its driver and its fonts, with every library that a bare Debian lacks. Whatever the host has,
# the pages look the same: the fonts are these alone.
provide_browser() {
    local libraries="libasound2 libasyncns0 libatk-bridge2.0-0 libatk1.0-0 libatspi2.0-0 libavahi-client3 libavahi-common3
        libblkid1 libbrotli1 libbsd0 libcairo2 libcap2 libcom-err2 libcups2 libdatrie1 libdav1d6 libdbus-1-3
        libdouble-conversion3 libdrm2 libexpat1 libffi8 libflac12 libfontconfig1 libfreetype6 libfribidi0 libgbm1 libgcrypt20
        libglib2.0-0 libgmp10 libgnutls30 libgpg-error0 libgraphite2-3 libgssapi-krb5-2 libharfbuzz-subset0 libharfbuzz0b
        libhogweed6 libidn2-0 libjpeg62-turbo libk5crypto3 libkeyutils1 libkrb5-3 libkrb5support0 liblcms2-2 liblz4-1 liblzma5
        libmd0 libminizip1 libmount1 libmp3lame0 libmpg123-0 libnettle8 libnspr4 libnss3 libogg0 libopenh264-7 libopenjp2-7
        libopus0 libp11-kit0 libpango-1.0-0 libpcre2-8-0 libpixman-1-0 libpng16-16 libpulse0 libselinux1 libsndfile1
        libsystemd0 libtasn1-6 libthai0 libudev1 libunistring2 libvorbis0a libvorbisenc2 libwayland-server0 libx11-6
        libx11-xcb1 libxau6 libxcb-render0 libxcb-shm0 libxcb1 libxcomposite1 libxdamage1 libxdmcp6 libxext6 libxfixes3 libxi6
        libxkbcommon0 libxnvctrl0 libxrandr2 libxrender1 libzstd1 zlib1g"
    local lib=$tools/root/usr/lib/$(uname -m)-linux-gnu name
    if [ ! -x "$tools/bin/chromium" ]; then
        # shellcheck disable=SC2086
        unpack chromium chromium-common chromium-driver fonts-dejavu-core $libraries
        cat >"$tools/fonts.conf" <<END
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>$tools/root/usr/share/fonts</dir><cachedir>$tools/fontcache</cachedir></fontconfig>
END
        for name in bin/chromedriver lib/chromium/chromium; do
            cat >"$tools/bin/${name##*/}.new" <<END
#!/bin/sh
export LD_LIBRARY_PATH="$lib:$lib/pulseaudio:$tools/root/lib/$(uname -m)-linux-gnu" FONTCONFIG_FILE="$tools/fonts.conf"
exec "$tools/root/usr/$name" "\$@"
END
            chmod +x "$tools/bin/${name##*/}.new"
            mv "$tools/bin/${name##*/}.new" "$tools/bin/${name##*/}"
        done
    fi
    provide_npm axe-core axe-core@4.14.1 e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745
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
# What looks at the page: `tests/tools.sh browser`, for `make test-page` and `make screenshots`.
if [ "${1:-}" = browser ]; then
    provide_browser
    try "$tools/bin/chromium" --version
    try "$tools/bin/chromedriver" --version
fi
# What reads Flux: `tests/tools.sh flux`, for `make test-flux`.
if [ "${1:-}" = flux ]; then
    provide_npm flux-lsp-node @influxdata/flux-lsp-node@0.8.40 e16077f567c9224d7e9f2ef32cb17103f41ea29af8c17eb645a05237c16583a9
    try node --version
fi

try "$tools/bin/promtool" --version
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
