#!/bin/bash
# rootfs.sh PACKAGE...|net|volumes|copy
#
# Makes a tar of a minimal Debian 12 with the packages and prints its path. Files belong to root in it, whoever runs
# this: mmdebstrap works as root, in a user namespace, or with fakechroot. Cached by what goes in.
#
# net stands for the programs that the tests of the network and of SSH, and the benchmarks, run in the guest, volumes
# for those of the tests of volumes, without what only people read and without the compiler of PostgreSQL's JIT, and copy for
# what the tests of copying need there.
set -euo pipefail

if [ "$*" = net ]; then
	set -- ca-certificates curl dnsutils iperf3 iproute2 iputils-ping netcat-openbsd nginx-light openssl \
		openssh-client python3 redis-server redis-tools rsync wget wireguard-tools
elif [ "$*" = volumes ]; then
	lean=1
	set -- attr fio git npm postgresql sqlite3
elif [ "$*" = copy ]; then
	lean=1
	set -- attr rsync
fi
lean=${lean:-}

suite=bookworm
cache=${CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bake}/rootfs
include=$(IFS=,; echo "$*")
key=$(echo "1 $suite $(dpkg --print-architecture) $include${lean:+ lean}" | sha256sum | cut -c1-32)
tar=$cache/$key.tar
mkdir -p "$cache"

# One at a time: two take longer together than one after the other.
exec 9>"$cache/.lock"
flock 9
if [ ! -f "$tar" ]; then
	echo "== making a Debian root filesystem with $include (about a minute)" >&2
	work=$(mktemp -d "$cache/.make-XXXXXX")
	trap 'rm -rf "$work"' EXIT
	chmod 0755 "$work"
	# The machine's own sources when it runs the same Debian: they may name a mirror that is nearer or the only one.
	sources=()
	if grep -qs "^VERSION_CODENAME=$suite" /etc/os-release; then
		for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
			if grep -qsE "^(Suites:|deb ).*$suite" "$file"; then
				sources=("$file")
				break
			fi
		done
	fi
	options=()
	if [ -n "$lean" ]; then
		for path in doc info lintian locale man; do
			options+=("--dpkgopt=path-exclude=/usr/share/$path/*")
		done
		options+=("--customize-hook=rm -f \"\$1\"/usr/lib/*/libLLVM-*.so*")
	fi
	if ! mmdebstrap --quiet --mode=auto --variant=minbase --include="$include" \
		--aptopt='Acquire::Retries "3"' --aptopt='APT::Install-Recommends "false"' "${options[@]}" \
		"$suite" "$work/rootfs.tar" "${sources[@]}" >"$work/log" 2>&1; then
		echo "rootfs: mmdebstrap failed:" >&2
		tail -n 20 "$work/log" >&2
		exit 1
	fi
	mv "$work/rootfs.tar" "$tar"
fi
echo "$tar"
