#!/bin/bash
# kernel-debian.sh ARCH
#
# Imports Debian's cloud kernel for ARCH (amd64, arm64) into bake's store. The package is downloaded and unpacked, not
# installed, so any user can do it.
set -euo pipefail

arch=${1:?usage: kernel-debian.sh amd64|arm64}
here=$(cd "$(dirname "$0")/.." && pwd)
cache=${CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bake}/debian
mkdir -p "$cache"
apt=(-o "APT::Architecture=$arch" -o "APT::Architectures=$arch" -o Acquire::Retries=3)
# apt drops its privileges to a user who cannot write into root's cache.
[ "$(id -u)" != 0 ] || apt+=(-o APT::Sandbox::User=root)
meta=linux-image-cloud-$arch

current() { { apt-cache "${apt[@]}" depends "$meta" 2>/dev/null || true; } | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p'; }
package=$(current)
if [ -z "$package" ]; then
	# No lists for this architecture: ones of our own, which need no root.
	echo "== reading Debian's package lists"
	mkdir -p "$cache/lists-$arch/partial" "$cache/archives/partial"
	apt+=(-o "Dir::State::lists=$cache/lists-$arch" -o "Dir::Cache=$cache" -o Debug::NoLocking=1)
	apt-get "${apt[@]}" -qq update
	package=$(current)
fi
if [ -z "$package" ]; then
	echo "kernel-debian: apt offers no $meta; this needs Debian's package sources" >&2
	exit 1
fi
version=$(apt-cache "${apt[@]}" policy "$package" | sed -n 's/^ *Candidate: //p')
tree=$cache/${package}_${version//:/%3a}

if [ ! -d "$tree" ]; then
	echo "== downloading $package $version"
	work=$(mktemp -d "$cache/.unpack-XXXXXX")
	trap 'rm -rf "$work"' EXIT
	(cd "$work" && apt-get "${apt[@]}" -qq download "$package")
	dpkg-deb -x "$work"/*.deb "$work/tree"
	mv -T "$work/tree" "$tree" 2>/dev/null || [ -d "$tree" ]
	rm -rf "$work"
	trap - EXIT
fi
echo "== importing $package $version"
"$here/bin/bake" kernel import "$tree"/boot/vmlinuz-* --modules "$tree" --source "Debian $package $version" >/dev/null
