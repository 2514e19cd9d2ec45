#!/usr/bin/env bash
# read.sh PACKAGE.deb: those who read the package, unpacked beside it, find nothing wrong: lintian, man, mandoc, and the
# shells its completions.
set -euo pipefail

package=$1

fail() {
    echo "read.sh: $*" >&2
    exit 1
}

cd "$(dirname "$package")"
dpkg --force-confdef -i ./*.deb >/tmp/dpkg.log 2>&1 || { tail -n 20 /tmp/dpkg.log >&2 && fail "cannot install what reads"; }

lintian --allow-root --fail-on error "$package" || fail "lintian finds errors"
echo "ok: lintian finds no error"

for page in /usr/share/man/man8/qosd.8.gz /usr/share/man/man5/qosd.toml.5.gz; do
    said=$(man --warnings --local-file "$page" 2>&1 >/dev/null)
    # The same sources give the same page: it has no date.
    said+=$(zcat "$page" | mandoc -T lint -W warning | grep -v 'missing date, using ""' || true)
    [ -z "$said" ] || fail "$page: $said"
done
whatis qosd qosd.toml >/dev/null || fail "whatis does not know the pages"
echo "ok: man and mandoc read the pages"

# What a shell offers for a beginning.
offers() {
    local shell=$1 expected=$2 offered=$3
    [[ $offered == *"$expected"* ]] || fail "$shell does not offer $expected, but: $offered"
    echo "ok: $shell offers $expected"
}

offers bash --count "$(bash --norc -c '. /usr/share/bash-completion/completions/qosd
    COMP_WORDS=(qosd ping --c); COMP_CWORD=2; _qosd qosd --c ping; echo "${COMPREPLY[@]}"')"
offers fish --count "$(HOME=/tmp fish --no-config -c '. /usr/share/fish/vendor_completions.d/qosd.fish; complete -C "qosd ping --c"')"
offers fish requeue "$(HOME=/tmp fish --no-config -c '. /usr/share/fish/vendor_completions.d/qosd.fish; complete -C "qosd re"')"
zsh -f -n /usr/share/zsh/vendor-completions/_qosd || fail "zsh cannot read its completions"
offers zsh _qosd "$(zsh -f -c 'autoload -Uz compinit && compinit -D -u && echo $_comps[qosd]')"
