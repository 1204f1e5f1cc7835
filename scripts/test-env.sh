#!/bin/bash
# test-env.sh ours|debian ARCH
#
# Prints, for a shell to evaluate, what the tests are told about this machine:
#
#   BAKE_TEST_KERNEL   the kernel image that VMs boot; its bundle is the directory around it
#   BAKE_TEST_MODULES  the directory with its modules; empty for a kernel that has everything built in
#   BAKE_TEST_RUNC     a static runc
#   BAKE_TEST_KERNEL_ARM64  bake's own arm64 kernel, where it is compiled (make kernel-arm64) and QEMU runs it
#
# With ours, Debian's kernel stands in while bake's own is not compiled. With debian it is always that.
set -euo pipefail

want=${1:?usage: test-env.sh ours|debian ARCH} arch=$2
here=$(cd "$(dirname "$0")/.." && pwd)
store=${CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bake}/kernel

# The newest bundle that was imported for the architecture.
imported() {
	local file best=
	for file in "$store"/*/bundle.json; do
		grep -qs "\"arch\": \"$arch\"" "$file" || continue
		! grep -q '"source": "bake' "$file" || continue
		if [ -z "$best" ] || [ "$file" -nt "$best" ]; then best=$file; fi
	done
	[ -z "$best" ] || dirname "$best"
}

bundle=
if [ "$want" = ours ]; then
	bundle=$("$here/kernel/build.sh" "$arch" --print-dir 2>/dev/null) || bundle=
fi
[ -n "$bundle" ] || bundle=$(imported)
if [ -z "$bundle" ]; then
	echo "test-env: no kernel to test with in $store; run 'make kernel' or 'make kernel-debian'" >&2
	echo false # fails the shell that evaluates this
	exit 1
fi

image=$(sed -n 's/^  "image": "\(.*\)",$/\1/p' "$bundle/bundle.json")
modules=
[ ! -d "$bundle/modules" ] || modules=$bundle/modules
echo "== VMs boot $(sed -n 's/^  "version": "\(.*\)",$/Linux \1/p' "$bundle/bundle.json") from $bundle" >&2
printf 'export BAKE_TEST_KERNEL=%q BAKE_TEST_MODULES=%q BAKE_TEST_RUNC=%q\n' \
	"$bundle/$image" "$modules" "$here/bin/runc-$arch"
if arm64=$("$here/kernel/build.sh" arm64 --print-dir 2>/dev/null) && command -v qemu-system-aarch64 >/dev/null; then
	echo "== and arm64 VMs the one in $arm64" >&2
	printf 'export BAKE_TEST_KERNEL_ARM64=%q\n' "$arm64/Image"
fi
