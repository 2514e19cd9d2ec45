#!/usr/bin/env bash
# tests/package.sh PACKAGE.deb: what the Debian package does to a host, seen in a copy of this host's root that is thrown
# away. Needs root, and apt-get for lintian and the shells whose completions are tried. Touches nothing outside of its own
# namespaces but target/tools.
set -euo pipefail
cd "$(dirname "$0")/.."

readers=(lintian mandoc zsh fish)

give_up() {
    echo "tests/package.sh: $*" >&2
    exit 1
}

# Downloads the programs that read the package, with what they depend on.
download_readers() {
    local debs=$1
    mkdir -p "$debs/partial"
    local fetch=(apt-get install -qy --download-only --no-install-recommends -o "Dir::Cache::archives=$debs" -o APT::Sandbox::User=root)
    "${fetch[@]}" "${readers[@]}" >/dev/null && return
    # Lists that are empty, or older than the mirror, make the first try fail.
    apt-get update -q >/dev/null || give_up "apt-get update failed (it needs a network)"
    "${fetch[@]}" "${readers[@]}" >/dev/null || give_up "cannot download ${readers[*]}"
}

# A root like this host's, in which whatever is changed is changed in FOLDER/upper alone.
make_root() {
    local folder=$1
    mkdir -p "$folder/upper" "$folder/work" "$folder/root"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" "$folder/root"
    mount -t tmpfs tmpfs "$folder/root/run"
    mount -t tmpfs tmpfs "$folder/root/tmp"
    chmod 1777 "$folder/root/tmp"
}

# The same package under an older version, with another config in it: what it is upgraded from.
make_older() {
    local package=$1 older=$2 folder
    folder=$older.d
    dpkg-deb --raw-extract "$package" "$folder"
    sed -i 's/^Version: .*/Version: 0.0.9-1/' "$folder/DEBIAN/control"
    sed -i '1i # As 0.0.9 shipped it.' "$folder/etc/qosd/qosd.toml"
    dpkg-deb --build --root-owner-group -Znone "$folder" "$older" >/dev/null
    rm -r "$folder"
}

# A host that runs: systemd as PID 1 of a root, which begins with life.sh and ends with it.
boot() {
    local root=$1 name
    mount -t tmpfs tmpfs "$root/dev"
    for name in null zero full random urandom tty; do
        touch "$root/dev/$name"
        mount --bind "/dev/$name" "$root/dev/$name"
    done
    ln -s null "$root/dev/console"
    mkdir "$root/dev/shm" "$root/dev/pts"
    mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    mount -t proc proc "$root/proc"
    # Settings of the kernel are the real host's.
    mount --bind "$root/proc/sys" "$root/proc/sys"
    mount -o remount,bind,ro "$root/proc/sys"
    # An image for containers forbids packages to start services.
    rm -f "$root/usr/sbin/policy-rc.d"
    mkdir -p "$root/run/systemd/system"
    cat >"$root/run/systemd/system/life.service" <<END
[Unit]
SuccessAction=exit
FailureAction=exit
FailureActionExitStatus=1
[Service]
Type=oneshot
TimeoutStartSec=10min
Environment=LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
ExecStart=/bin/bash /run/package/life.sh /run/package/old.deb /run/package/new.deb
StandardOutput=append:/run/package/said
StandardError=inherit
END
    cd "$root"
    pivot_root . .
    umount --lazy .
    mount --make-rshared /
    exec env -i container=lxc /lib/systemd/systemd --system --unit=life.service --log-target=journal --show-status=false
}

# A copy of the host with both versions of the package.
make_host() {
    local folder=$1 package=$2
    make_root "$folder"
    mkdir "$folder/root/run/package"
    cp "$package" "$folder/root/run/package/new.deb"
    make_older "$package" "$folder/root/run/package/old.deb"
    cp tests/package/life.sh "$folder/root/run/package/"
}

# A command in a root, with nothing of our environment.
within() {
    local root=$1
    shift
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive chroot "$root" "$@"
}

inside() {
    local package=$1 debs=$2 base=$3
    mount --make-rprivate /
    mount -t tmpfs tmpfs "$base"
    ip link set lo up

    printf '\n== on a host without systemd, such as an image in the making\n'
    make_host "$base/host" "$package"
    mount -t proc proc "$base/host/root/proc"
    mount --rbind /dev "$base/host/root/dev"
    within "$base/host/root" bash /run/package/life.sh /run/package/old.deb /run/package/new.deb
    tests/package/left.sh "$base/host/upper"

    printf '\n== on a host with systemd\n'
    make_host "$base/booted" "$package"
    local status=0
    unshare --mount --pid --fork --kill-child --cgroup --ipc --uts "$0" --boot "$base/booted/root" || status=$?
    cat "$base/booted/root/run/package/said" || give_up "systemd did not start"
    [ "$status" = 0 ] || give_up "on a host with systemd: status $status"

    printf '\n== what reads it\n'
    make_root "$base/readers"
    mount -t proc proc "$base/readers/root/proc"
    mount --rbind /dev "$base/readers/root/dev"
    mkdir "$base/readers/root/run/package"
    find "$debs" -maxdepth 1 -name '*.deb' -exec cp -t "$base/readers/root/run/package" {} +
    cp "$package" tests/package/read.sh "$base/readers/root/run/package/"
    within "$base/readers/root" bash /run/package/read.sh "/run/package/$(basename "$package")"
    echo "tests/package.sh: the package keeps its promises"
}

case ${1:-} in
--inside)
    inside "$2" "$3" "$4"
    exit
    ;;
--boot) boot "$2" ;;
esac
[ -f "${1:-}" ] || give_up "which package? (make deb builds one)"
[ "$(id -u)" = 0 ] || give_up "needs root, for namespaces and dpkg"
download_readers "$PWD/target/tools/debs/readers"

# A group of our own, which systemd takes for the whole tree.
unified=$(findmnt --noheadings --first-only --output TARGET --types cgroup2) || give_up "no cgroup2 is mounted here"
group=$unified/qosd-package-$$
mkdir "$group"
# Where roots are mounted, in a namespace that ends with them.
base=$(mktemp -d)
trap 'rmdir "$base"; find "$group" -depth -type d -exec rmdir {} +' EXIT
(
    echo "$BASHPID" >"$group/cgroup.procs"
    exec unshare --mount --pid --fork --kill-child --net --ipc --uts "$0" \
        --inside "$(realpath "$1")" "$PWD/target/tools/debs/readers" "$base"
)
