#!/bin/bash
# deps.sh GROUP...
#
# Installs the Debian packages of the groups, only those that are missing, as root or with sudo. When neither is
# possible it says the one command to run and fails.
set -euo pipefail

packages() {
	local native
	native=$(dpkg --print-architecture)
	case $1 in
	go-fetch) echo ca-certificates curl unzip ;;
	runc-amd64 | runc-arm64)
		echo gcc libc6-dev
		cross "${1#runc-}" "$native" --libc
		;;
	kernel-amd64 | kernel-arm64)
		echo linux-source-6.12 make gcc libc6-dev flex bison bc libelf-dev libssl-dev xz-utils kmod cpio patch
		cross "${1#kernel-}" "$native"
		;;
	demo)
		qemu "$native"
		echo mmdebstrap debian-archive-keyring redis-tools
		# What mmdebstrap needs to make root-owned files as a plain user.
		[ "$(id -u)" = 0 ] || echo uidmap fakeroot fakechroot
		;;
	test)
		qemu "$native"
		echo gcc libc6-dev binutils llvm busybox-static zstd xz-utils erofs-utils e2fsprogs squashfs-tools mmdebstrap debian-archive-keyring redis-tools
		# What the tests of the network run on the host, and the namespaces that they run in.
		echo iproute2 iputils-ping util-linux curl dnsutils iperf3 netcat-openbsd wrk apt-utils
		# What logs in to running apps, and copies.
		echo openssh-client rsync ansible-core sshfs attr
		# What reads units: systemd-analyze, a parser of property lists, the schemas of Kubernetes, and of images.
		echo systemd python3 python3-venv skopeo
		# What looks at volumes from the host.
		echo git
		;;
	bench) echo erofs-utils squashfs-tools ;;
	*)
		echo "deps: there is no group '$1'" >&2
		exit 2
		;;
	esac
}

# cross TARGET NATIVE [--libc]: the compiler for TARGET where that is another architecture
cross() {
	[ "$1" != "$2" ] || return 0
	echo "gcc-$(if [ "$1" = arm64 ]; then echo aarch64; else echo x86-64; fi)-linux-gnu"
	[ "${3:-}" != --libc ] || echo "libc6-dev-$1-cross"
}

qemu() { if [ "$1" = arm64 ]; then echo qemu-system-arm; else echo qemu-system-x86; fi; }

installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

if ! command -v dpkg-query >/dev/null; then
	echo "deps: this is no Debian; please see to it that what scripts/deps.sh lists for '$*' is installed" >&2
	exit 0
fi

missing=()
for group in "$@"; do
	names=$(packages "$group")
	for name in $names; do
		case " ${missing[*]-} " in *" $name "*) continue ;; esac
		installed "$name" || missing+=("$name")
	done
done
[ ${#missing[@]} -gt 0 ] || exit 0

# Another apt or dpkg that is at work is waited for.
apt=(apt-get -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3)
as_root=()
if [ "$(id -u)" != 0 ]; then
	# Without a terminal there is nobody to type a password.
	if command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
		as_root=(sudo)
	else
		echo "deps: these packages are missing and only root can install them. Run this once, then again what you ran:" >&2
		echo "    apt-get update && apt-get install -y --no-install-recommends ${missing[*]}" >&2
		exit 1
	fi
fi

echo "== installing: ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
run() {
	if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "$@" >"$log" 2>&1 </dev/null; then
		echo "deps: '$*' failed:" >&2
		tail -n 20 "$log" >&2
		exit 1
	fi
}
run "${apt[@]}" update
run "${apt[@]}" install -y --no-install-recommends "${missing[@]}"
