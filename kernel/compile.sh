#!/bin/bash
# compile.sh ARCH SOURCE-TARBALL SOURCE-VERSION WORK OUT
#
# The recipe of the guest kernel: unpacks the source into WORK, configures and compiles it for ARCH (amd64 or
# arm64) and leaves a kernel bundle in OUT. Everything that decides the result is in this file, in the fragments,
# the patches and check-symbols.sh; build.sh hashes these to name the result, and keeps caching and progress to itself.
#
# The same inputs give the same bytes: build time, user, host and number are fixed, and the tree is compiled
# in place so that no path of this machine is part of the command lines.
set -euo pipefail
export LC_ALL=C TZ=UTC
umask 022

arch=$1 tarball=$2 version=$3 work=$4 out=$5
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
jobs=${JOBS:-$(nproc)}

case $arch in
amd64) karch=x86_64 prefix=x86_64-linux-gnu- target=vmlinux image=vmlinux ;;
arm64) karch=arm64 prefix=aarch64-linux-gnu- target=Image image=Image ;;
*)
	echo "compile.sh: no guest kernel for architecture '$arch' (amd64, arm64)" >&2
	exit 2
	;;
esac
fragments=("$here/common.config" "$here/$karch.config")

export KBUILD_BUILD_TIMESTAMP='2025-01-01 00:00:00 UTC'
export KBUILD_BUILD_USER=bake KBUILD_BUILD_HOST=bake KBUILD_BUILD_VERSION=1
export ARCH=$karch CROSS_COMPILE=$prefix
# Nothing of the caller's make or compiler flags may reach the kernel's.
unset MAKEFLAGS MFLAGS MAKELEVEL CFLAGS LDFLAGS KCFLAGS KCPPFLAGS LOCALVERSION

echo "== unpacking $tarball"
mkdir -p "$work/linux" "$out"
tar -xf "$tarball" -C "$work/linux" --strip-components=1 --no-same-owner
for p in "$here"/patches/*.patch; do
	echo "== applying ${p##*/}"
	patch -d "$work/linux" -p1 -i "$p"
done

echo "== configuring"
cat "${fragments[@]}" >"$work/all.config"
cd "$work/linux"
make KCONFIG_ALLCONFIG="$work/all.config" allnoconfig
"$here/check-symbols.sh" .config "${fragments[@]}"
release=$(make -s kernelrelease)

echo "== compiling $release"
make -j"$jobs" "$target"

echo "== installing into $out"
case $arch in
amd64) "${prefix}strip" --strip-all -o "$out/$image" vmlinux ;;
arm64) install -m 0644 arch/arm64/boot/Image "$out/$image" ;;
esac
chmod 0644 "$out/$image"
install -m 0644 .config "$out/config"
install -m 0644 COPYING "$out/COPYING"
install -m 0644 LICENSES/preferred/GPL-2.0 "$out/GPL-2.0"
install -m 0644 "$here"/patches/*.patch "$out"
cat >"$out/SOURCE" <<NOTE
Linux $release for $arch, compiled by bake with $("${prefix}gcc" --version | head -n1).

Source: the Debian package linux-source-6.12, version $version, with the patches
        (*.patch) beside this file.
        https://snapshot.debian.org/package/linux/$version/
Configuration: the file "config" beside this one.

Linux is licensed under the GNU General Public License, version 2 (COPYING, GPL-2.0). Whoever passes this
binary on has to offer that source, the patches and that configuration with it.
NOTE

sha=$(sha256sum "$out/$image" | cut -d' ' -f1)
cat >"$out/bundle.json" <<JSON
{
  "format": 1,
  "arch": "$arch",
  "version": "$release",
  "source": "bake, from linux-source-6.12 $version",
  "image": "$image",
  "image_sha256": "$sha"
}
JSON
echo "== done"
