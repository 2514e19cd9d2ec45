#!/usr/bin/env bash
# left.sh UPPER: whatever the life of a package left in the upper folder of an overlay over /, but what dpkg and others keep
# as their own records. Fails if that is anything.
set -euo pipefail

upper=$1

# Records of package management, its log, backups of the lists of users and groups, caches that are made anew.
is_a_record() {
    case $1 in
    /var/lib/dpkg/* | /var/log/* | /var/cache/* | /etc/*- | /etc/.pwd.lock | /tmp | /run) true ;;
    *) false ;;
    esac
}

left=0
while IFS= read -r path; do
    is_a_record "$path" && continue
    if [ -d "$upper$path" ] && [ -d "$path" ]; then
        continue
    elif [ -f "$upper$path" ] && [ -f "$path" ] && cmp -s "$upper$path" "$path"; then
        continue
    fi
    echo "left: $path" >&2
    left=$((left + 1))
done < <(find "$upper" -mindepth 1 -printf '/%P\n')
[ "$left" = 0 ] || exit 1
echo "ok: the root is as it was"
