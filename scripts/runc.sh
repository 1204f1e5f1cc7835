#!/bin/bash
# runc.sh ARCH OUT
#
# Compiles the pinned runc (third_party/runc) statically for ARCH (amd64, arm64) to OUT. runc enters namespaces in C
# before Go starts, so this one needs cgo and a C compiler for ARCH. The result is cached by all that decides it.
set -euo pipefail

arch=$1 out=$2
here=$(cd "$(dirname "$0")/.." && pwd)
case $arch in
amd64) cc=x86_64-linux-gnu-gcc ;;
arm64) cc=aarch64-linux-gnu-gcc ;;
*)
	echo "runc: there is no runc for architecture '$arch'" >&2
	exit 2
	;;
esac

key=$({
	cat "$here"/third_party/runc/go.{mod,sum} "${BASH_SOURCE[0]}"
	(cd "$here/third_party/runc" && "${GO:-go}" env GOVERSION)
	"$cc" --version | head -n1
	echo "$arch"
} | sha256sum | cut -c1-32)
cached=${CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bake}/runc/$key

if [ ! -x "$cached" ]; then
	version=$(sed -n 's|^require github.com/opencontainers/runc v||p' "$here/third_party/runc/go.mod")
	echo "== compiling runc $version for $arch (under a minute)"
	mkdir -p "${cached%/*}"
	work=$(mktemp "$cached.XXXXXX")
	trap 'rm -f "$work"' EXIT
	(cd "$here/third_party/runc" && CGO_ENABLED=1 GOOS=linux GOARCH="$arch" CC="$cc" GOFLAGS=-mod=readonly \
		"${GO:-go}" build -trimpath -buildvcs=false -tags 'netgo osusergo runc_nocriu' \
		-ldflags '-s -w -buildid= -extldflags -static' -o "$work" github.com/opencontainers/runc)
	chmod 0755 "$work"
	mv "$work" "$cached"
	trap - EXIT
fi
mkdir -p "$(dirname "$out")"
cmp -s "$cached" "$out" || install -m 0755 "$cached" "$out"
