#!/bin/bash
# Fetches the source of the installed strongSwan for its headers: headers.sh FOLDER
#
# apt gets source entries of the repositories that have strongSwan, in a folder of its own: the machine's are neither used nor changed. A
# repository may have lost the source of what it still gives out (a security update that has been replaced): then the source of another
# Debian revision of the same release does. What the plugin is compiled for stays the installed build (abi.c).
set -euo pipefail

folder="$(realpath -m "$1")"
fail() {
    printf 'headers: error: %s\n' "$*" >&2
    exit 1
}

version="$(dpkg-query -W -f '${Version}' strongswan-libcharon 2>/dev/null)" || fail "strongSwan is not installed: run deploy/setup.sh interop"
[ "$(cat "$folder/version" 2>/dev/null)" != "$version" ] || exit 0
rm -rf "$folder"
mkdir -p "$folder/apt/lists/partial" "$folder/apt/parts" "$folder/source"

# The key that the machine's entry of a repository names, if it names one.
signed_by() {
    local file
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        grep -qsF "$1" "$file" || continue
        sed -nE 's/^.*[Ss]igned-[Bb]y[:=] *([^] ]+).*$/\1/p' "$file" | sed -n 1p
        return
    done
}

# The repositories are those of the packages; each has signed by what the machine takes it to be signed by.
apt-cache madison strongswan-libcharon | sort -u | while IFS='| ' read -r _ _ uri place _; do
    name="${place%%/*}" component="${place#*/}"
    key="$(signed_by "${uri#*//}")"
    printf 'deb-src %s%s %s %s\n' "${key:+[signed-by=$key] }" "$uri" "$name" "$component"
done | sort -u >"$folder/apt/sources.list"
[ -s "$folder/apt/sources.list" ] || fail "no repository of apt has strongSwan: run apt-get update"

apt=(apt-get -q -o "Dir::Etc::SourceList=$folder/apt/sources.list" -o "Dir::Etc::SourceParts=$folder/apt/parts"
    -o "Dir::State::Lists=$folder/apt/lists" -o "APT::Sandbox::User=root")
log="$folder/apt/log"
"${apt[@]}" update >"$log" 2>&1 || { tail -20 "$log" >&2; fail "apt-get update failed"; }

get() {
    (cd "$folder/source" && "${apt[@]}" source "strongswan=$1") >>"$log" 2>&1
}
if ! get "$version"; then
    release="${version%-*}" found=
    for other in $("${apt[@]/#apt-get/apt-cache}" showsrc strongswan 2>/dev/null | sed -n 's/^Version: //p' | sort -ruV); do
        if [ "${other%-*}" = "$release" ] && [ "$other" != "$version" ] && get "$other"; then
            found="$other"
            break
        fi
    done
    [ -n "$found" ] || { tail -20 "$log" >&2; fail "no source of strongSwan $release to be had"; }
    printf 'headers: the source of %s is gone, the headers are those of %s\n' "$version" "$found"
fi

source="$(echo "$folder"/source/strongswan-*/)"
grep -q -- --enable-mediation "$source/debian/rules" || fail "Debian configures strongSwan differently now: see config.h"
mv "$source/src" "$folder/include"
rm -rf "$folder/source" "$folder/apt"
echo "$version" >"$folder/version"
