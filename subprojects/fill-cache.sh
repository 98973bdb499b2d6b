#!/bin/sh
# Fills Meson's package cache (subprojects/packagecache/) with the sources that
# the wraps beside this script name, from Debian's source packages.
#
#   subprojects/fill-cache.sh [NAME...]        default: every *.wrap
#
# Each wrap's source_filename is <package>_<debian version>.tar: that exact
# version is fetched, Debian's (security) patches are applied, the parts that our
# overlay compiles are packed reproducibly, and the result must have the wrap's
# source_hash. Package lists live in a temporary directory and hold deb-src lines
# only, so nothing can be installed from the suites named here; apt verifies them
# with the system's Debian keyring. Needs no root. A source_filename that ends in
# .orig.tar.gz is upstream's archive, taken as it is from the wrap's addresses.
#
# When Debian replaces a version, raise it here: put the new version into the
# wrap's source_filename, run the script, and copy the hash it prints.
set -eu
export LC_ALL=C
umask 022

here=$(cd "$(dirname "$0")" && pwd)
cache=$here/packagecache
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
helper=/usr/lib/apt/apt-helper
# A day on which the pinned versions were current, for when they no longer are.
snapshot_day=20261120T000000Z

say() { printf 'fill-cache: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

wrap_value() { sed -n "s/^$2 *= *//p" "$here/$1.wrap"; }
hash_of() { sha256sum "$1" | cut -d' ' -f1; }

# What our overlays compile, plus the licence. The rest of a source package
# (certificates, documents, other build systems) stays out of the archive.
parts_of() {
    case $1 in
        wolfssl) echo "COPYING LICENSING README.md src wolfcrypt/src wolfssl" ;;
        liburing) echo "COPYING LICENSE README src" ;;
        *) die "$1: no list of parts; add one to parts_of()" ;;
    esac
}

is_cached() {
    archive=$cache/$(wrap_value "$1" source_filename)
    [ -f "$archive" ] && [ "$(hash_of "$archive")" = "$(wrap_value "$1" source_hash)" ]
}

private_apt() {
    tool=$1
    shift
    "$tool" -qq -o Dir::Etc::sourcelist="$work/debian.sources" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" \
        -o APT::Sandbox::User=root -o Acquire::Retries=3 "$@"
}

# Usage: source_stanza URI "SUITE ..." [extra line]
source_stanza() {
    printf 'Types: deb-src\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n%s\n\n' \
        "$1" "$2" "$keyring" "${3:-Enabled: yes}"
}

use_current_archive() {
    rm -rf "$work/lists" "$work/cache"
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    {
        source_stanza http://deb.debian.org/debian "trixie trixie-updates sid"
        source_stanza http://deb.debian.org/debian-security "trixie-security"
    } >"$work/debian.sources"
    private_apt apt-get update
}

use_snapshot_archive() {
    rm -rf "$work/lists" "$work/cache"
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    base=http://snapshot.debian.org/archive
    {
        source_stanza "$base/debian/$snapshot_day" "trixie trixie-updates sid" "Check-Valid-Until: no"
        source_stanza "$base/debian-security/$snapshot_day" "trixie-security" "Check-Valid-Until: no"
    } >"$work/debian.sources"
    private_apt apt-get update
}

download() {
    (cd "$work/$1" && private_apt apt-get source --download-only "$1=$2" >&2)
}

offered_versions() {
    private_apt apt-cache showsrc --only-source "$1" 2>/dev/null | sed -n 's/^Version: //p' | tr '\n' ' '
}

pack() {
    package=$1 directory=$2 archive=$3
    # shellcheck disable=SC2046 # the list of parts is meant to be split
    (cd "$work/$package" && tar --create --file "$archive" --format=gnu --sort=name \
        --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
        $(for part in $(parts_of "$package"); do echo "$directory/$part"; done))
}

fill() {
    package=$1
    filename=$(wrap_value "$package" source_filename)
    directory=$(wrap_value "$package" directory)
    version=${filename#"${package}"_}
    version=${version%.tar}

    say "$package $version: fetching Debian's source package"
    mkdir -p "$work/$package"
    if ! download "$package" "$version" 2>"$work/error"; then
        offered=$(offered_versions "$package")
        say "$package $version is not in the archive (offered: ${offered:-nothing}); trying snapshot.debian.org"
        if ! { use_snapshot_archive && download "$package" "$version"; } 2>>"$work/error"; then
            sed 's/^/fill-cache:   /' "$work/error" >&2
            die "$package $version cannot be had: raise the version in subprojects/$package.wrap, or configure with -D$package=system"
        fi
    fi
    (cd "$work/$package" && dpkg-source --no-check -x "${package}_${version#*:}.dsc" "$directory" >"$work/unpack" 2>&1) \
        || { cat "$work/unpack" >&2; die "$package $version does not unpack"; }

    pack "$package" "$directory" "$work/$filename"
    actual=$(hash_of "$work/$filename")
    expected=$(wrap_value "$package" source_hash)
    [ "$actual" = "$expected" ] \
        || die "$package $version: source_hash is $actual, but subprojects/$package.wrap says $expected"
    mkdir -p "$cache"
    mv "$work/$filename" "$cache/$filename.new" && mv "$cache/$filename.new" "$cache/$filename"
    say "$package $version: in the cache"
}

fill_as_is() {
    filename=$(wrap_value "$1" source_filename)
    expected=$(wrap_value "$1" source_hash)
    say "$1: fetching $filename"
    for url in $(wrap_value "$1" source_url) $(wrap_value "$1" source_fallback_url); do
        if $helper download-file "$url" "$work/$filename" "SHA256:$expected" >"$work/error" 2>&1; then
            mkdir -p "$cache"
            mv "$work/$filename" "$cache/$filename.new" && mv "$cache/$filename.new" "$cache/$filename"
            say "$1: in the cache"
            return
        fi
        sed 's/^/fill-cache:   /' "$work/error" >&2
    done
    die "$1: $filename cannot be had"
}

# Meson lays the overlay over a source tree only when it unpacks it.
refresh_overlay() {
    directory=$here/$(wrap_value "$1" directory)
    overlay=$here/packagefiles/$1
    [ -d "$directory" ] || return 0
    (cd "$overlay" && find . -type f) | while read -r file; do
        cmp -s "$overlay/$file" "$directory/$file" || cp "$overlay/$file" "$directory/$file"
    done
}

[ $# -gt 0 ] || set -- $(cd "$here" && ls -- *.wrap | sed 's/\.wrap$//')
missing=
for package; do
    [ -f "$here/$package.wrap" ] || die "$package: there is no subprojects/$package.wrap"
    is_cached "$package" || missing="$missing $package"
    refresh_overlay "$package"
done
[ -n "$missing" ] || exit 0

for tool in apt-get dpkg-source sha256sum $helper; do
    command -v $tool >/dev/null || die "$tool is missing (Debian: apt-get install dpkg-dev); without it configure with -Dwolfssl=system -Dliburing=system"
done
[ -r $keyring ] || die "$keyring is missing (Debian: apt-get install debian-archive-keyring)"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
listed=
for package in $missing; do
    case $(wrap_value "$package" source_filename) in
        *.orig.tar.gz) fill_as_is "$package"; continue ;;
    esac
    [ -n "$listed" ] || use_current_archive 2>"$work/error" || say "Debian's archive: $(tr '\n' ' ' <"$work/error")"
    listed=yes
    fill "$package"
done
