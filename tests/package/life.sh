#!/usr/bin/env bash
# life.sh OLD.deb NEW.deb: the life of the package on the host where this runs: installed, upgraded, removed, installed
# again, purged. With systemd as PID 1 it runs the service as the unit says, else by hand as the unit's user.
set -euo pipefail

old=$1 new=$2
config=/etc/qosd/qosd.toml

fail() {
    echo "life.sh: $*" >&2
    if has_systemd; then
        systemctl --no-pager status qosd >&2 || true
        journalctl --no-pager --lines 60 >&2
    fi
    exit 1
}

# Says what holds, and fails unless a command agrees.
holds() {
    local sentence=$1
    shift
    "$@" >/dev/null || fail "does not hold: $sentence"
    echo "ok: $sentence"
}

not() {
    ! "$@"
}

install() {
    dpkg --force-confdef --force-confold -i "$1" >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log >&2 && fail "cannot install $1"; }
}

purge() {
    dpkg --purge qosd >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log >&2 && fail "cannot purge"; }
}

has_systemd() {
    [ -d /run/systemd/system ]
}

# Whom the unit makes of it, without systemd.
as_qosd=(env STATE_DIRECTORY=/var/lib/qosd RUNTIME_DIRECTORY=/run/qosd
    setpriv --reuid qosd --regid qosd --clear-groups "--inh-caps=-all,+net_raw" "--ambient-caps=+net_raw")

# Every row of ping is a measurement, not an excuse.
all_are_ok() {
    ! rows | grep -v 'result="ok"'
}

# Waits for a condition, a minute at most.
until_holds() {
    local sentence=$1 deadline=$((SECONDS + 60))
    shift
    until "$@"; do
        [ $SECONDS -lt $deadline ] || fail "a minute passed before: $sentence"
        sleep 0.1
    done
}

# Every row of ping in the journal, oldest first.
rows() {
    qosd export --since 1d --kind ping --data-dir /var/lib/qosd --format line 2>/dev/null
}

has_rows() {
    [ "$(rows | wc -l)" -ge "$1" ]
}

measure() {
    if ! has_systemd; then
        make_folders
        "${as_qosd[@]}" qosd run >/tmp/qosd.log 2>&1 &
        service=$!
    fi
    until_holds "three rows are in the journal" has_rows 3
}

# What systemd does before it starts the unit.
make_folders() {
    mkdir -p /var/lib/qosd /run/qosd
    chown qosd:qosd /var/lib/qosd /run/qosd
    chmod 700 /var/lib/qosd
}

stop() {
    kill "$service"
    wait "$service" || fail "qosd ended with $?: $(tail -n 3 /tmp/qosd.log)"
}

is_enabled() {
    [ "$(readlink /etc/systemd/system/multi-user.target.wants/qosd.service)" = /lib/systemd/system/qosd.service ] ||
        [ "$(readlink /etc/systemd/system/multi-user.target.wants/qosd.service)" = /usr/lib/systemd/system/qosd.service ]
}

is_active() {
    systemctl --quiet is-active qosd
}

main_pid() {
    systemctl show --property MainPID --value qosd
}

shipped() {
    dpkg-deb --fsys-tarfile "$1" | tar -xO ./etc/qosd/qosd.toml
}

installed_as_shipped() {
    [ -z "$(dpkg --verify qosd)" ]
}

mode() {
    stat -c '%a %U %G' "$1"
}

is() {
    [ "$1" = "$2" ] || { echo "it is: $1" >&2 && false; }
}

nothing_is_left() {
    ! id qosd 2>/dev/null && ! getent group qosd && [ ! -e /etc/qosd ] && [ ! -e /var/lib/qosd ] && [ ! -e /run/qosd ] &&
        [ ! -L /etc/systemd/system/multi-user.target.wants/qosd.service ] && [ ! -e /etc/systemd/system/qosd.service ]
}

holds "qosd is not here yet" not dpkg --status qosd 2>/dev/null

# A host that is left as it comes.
install "$old"
holds "0.0.9 is installed" is "$(dpkg-query -f '${Status} ${Version}' -W qosd)" "install ok installed 0.0.9-1"
holds "its files are as they were shipped" installed_as_shipped
holds "the program is root's, and runs for everybody" is "$(mode /usr/bin/qosd)" "755 root root"
holds "the config is root's, and can be read by the service" is "$(mode $config)" "644 root root"
holds "the user is of the system, without a shell" \
    is "$(getent passwd qosd | cut -d: -f6,7)" "/var/lib/qosd:/usr/sbin/nologin"
holds "its number is the system's" test "$(id -u qosd)" -lt 1000
holds "the unit is enabled" is_enabled
if has_systemd; then
    holds "the service runs" is_active
fi
holds "the shipped config is good" "${as_qosd[@]}" qosd check
holds "man finds qosd" man --warnings qosd
holds "man finds qosd.toml" man --warnings qosd.toml
install "$new"
holds "a config that nobody touched is upgraded" is "$(cat $config)" "$(shipped "$new")"
purge
holds "purged: nothing is left" nothing_is_left

# A host that somebody has set up.
install "$old"
number=$(id -u qosd)
sed -i 's/^interval = "60s"/interval = "1s"/; s/^count = 5/count = 1/; s/^spacing = "200ms"/spacing = "100ms"/' $config
echo "# ours" >>$config
chgrp qosd $config
chmod 640 $config
edited=$(cat $config)
if has_systemd; then
    systemctl restart qosd
fi
measure
holds "rows are measured" all_are_ok
if has_systemd; then
    before=$(main_pid)
else
    stop
fi
rows >/tmp/before
install "$new"
holds "the new version is there" not is "$(dpkg-query -f '${Version}' -W qosd)" "0.0.9-1" 2>/dev/null
holds "an edited config is kept" is "$(cat $config)" "$edited"
holds "its mode is kept" is "$(mode $config)" "640 root qosd"
holds "the new one lies beside it" is "$(cat $config.dpkg-dist)" "$(shipped "$new")"
holds "every row is kept, byte for byte" cmp /tmp/before <(rows | head -n "$(wc -l </tmp/before)")
holds "the user kept its number" is "$(id -u qosd)" "$number"
if has_systemd; then
    holds "the service runs" is_active
    holds "it was started again" not is "$(main_pid)" "$before" 2>/dev/null
else
    measure
fi
until_holds "measuring goes on" has_rows "$(($(wc -l </tmp/before) + 3))"
holds "rows are measured after the upgrade" all_are_ok
if ! has_systemd; then
    stop
fi

dpkg --remove qosd >/dev/null 2>&1
if has_systemd; then
    holds "removed: the service is stopped" not is_active
fi
holds "removed: the program and its unit are gone" test ! -e /usr/bin/qosd -a ! -e /usr/lib/systemd/system/qosd.service
holds "removed: the config stays" is "$(cat $config)" "$edited"
holds "removed: the journal stays" test -e /var/lib/qosd
holds "removed: the user stays" is "$(id -u qosd)" "$number"
install "$new"
holds "installed again: the rows are there" cmp /tmp/before <(rows | head -n "$(wc -l </tmp/before)")
holds "installed again: the config is there" is "$(cat $config)" "$edited"
holds "installed again: the unit is enabled" is_enabled

# What others put beside the config is theirs.
echo secret >/etc/qosd/influx_token
chown qosd:qosd /etc/qosd/influx_token
chmod 600 /etc/qosd/influx_token
purge
holds "purged: what is not the package's stays, with its owner" is "$(mode /etc/qosd/influx_token)" "600 qosd qosd"
holds "purged: the journal is gone" test ! -e /var/lib/qosd
rm /etc/qosd/influx_token
install "$new"
purge
holds "purged: nothing is left" nothing_is_left
