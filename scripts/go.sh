#!/bin/bash
# go.sh
#
# Makes sure that there is a Go. Any since 1.21 is enough, because it fetches the version that go.mod names by itself;
# where there is none, that version is taken from the Go module proxy into bake's cache, which the Makefile has on PATH.
set -euo pipefail

version=1.26.8
case $(uname -m) in
x86_64) arch=amd64 sha256=30c2b1bf7dcc88d3eb0a1364e47ddd9128edb3110a30e8a0ef61cd5856b31de7 ;;
aarch64) arch=arm64 sha256=02b36b6787b3ac767668f630e2998df45a3b1f9ffee08d1bf3ef6487cd658d99 ;;
*) arch=$(uname -m) sha256= ;;
esac

have=$(go env GOVERSION 2>/dev/null || true)
have=${have#go}
if [ -n "$have" ] && [ "$(printf '%s\n' 1.21 "$have" | sort -V | head -n1)" = 1.21 ]; then
	exit 0
fi
if [ -z "$sha256" ] || [ "$(uname -s)" != Linux ]; then
	echo "go: Go 1.26 or newer is missing; install it from https://go.dev/dl" >&2
	exit 1
fi
if [ -n "$have" ]; then
	echo "go: the Go on PATH is $have and comes first; bake needs 1.21 or newer: remove it (apt-get remove golang-go) or put another before it" >&2
	exit 1
fi

root=${CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bake}/go
name=v0.0.1-go$version.linux-$arch
proxy=${GOPROXY:-https://proxy.golang.org}
proxy=${proxy%%[,|]*}
echo "== no Go here: fetching $version from $proxy"
"$(dirname "$0")/deps.sh" go-fetch
mkdir -p "$root"
work=$(mktemp -d "$root/.fetch-XXXXXX")
trap 'rm -rf "$work"' EXIT
curl -fsSL --retry 3 -o "$work/go.zip" "$proxy/golang.org/toolchain/@v/$name.zip"
echo "$sha256  $work/go.zip" | sha256sum -c --quiet -
unzip -q "$work/go.zip" -d "$work"
tree=$work/golang.org/toolchain@$name
# A module archive has no file modes.
chmod -R u+w "$tree"
chmod +x "$tree"/bin/* "$tree"/pkg/tool/*/*
rm -rf "${root:?}/$version"
mv -T "$tree" "$root/$version"
ln -sfn "$version" "$root/current"
