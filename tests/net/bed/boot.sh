#!/bin/sh
# boot.sh FOLDER SOURCES: makes a host of its own out of this one and becomes its systemd. To be run in new namespaces of all
# kinds. What the new host writes stays in a file system in memory below FOLDER; SOURCES, this repository, are found there in /opt/qosd.
set -eu
place=$1
sources=$2

mount -t tmpfs -o mode=755 tmpfs "$place"
mkdir "$place/upper" "$place/work" "$place/root"
root=$place/root
mount -t overlay -o "lowerdir=/,upperdir=$place/upper,workdir=$place/work" overlay "$root"

mount -t proc proc "$root/proc"
# Kernel parameters are this host's, but for those of the network namespace.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
# None of the services that are enabled on this host.
for folder in run tmp var/lib var/log etc/systemd/system; do
    mount -t tmpfs -o mode=755 tmpfs "$root/$folder"
done
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty; do
    touch "$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/shm" "$root/dev/pts"
ln -s /proc/self/fd "$root/dev/fd"
ln -s pts/ptmx "$root/dev/ptmx"
mkdir -p "$root/opt/qosd"
mount --bind "$sources" "$root/opt/qosd"

cat >"$root/etc/systemd/system/test.target" <<END
[Unit]
Requires=basic.target
After=basic.target
AllowIsolate=yes
END

cd "$root"
mkdir -p old
pivot_root . old
umount -l /old
# Else a unit's credentials are not seen in its own mount namespace.
mount --make-rshared /
exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=test.target --show-status=no
