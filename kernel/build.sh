#!/bin/bash
# build.sh ARCH [--print-dir]
#
# Compiles the guest kernel for ARCH (amd64 or arm64) once per recipe and prints the directory of its bundle.
# With --print-dir only says where that bundle is or would be; exit 1 when it is not there yet.
#
# The bundle lies in ${XDG_CACHE_HOME:-~/.cache}/bake/kernel/HASH, where HASH covers the recipe, the version of
# the source package and the architecture. It appears there by a rename: a build that was cut off leaves
# nothing under that name. A lock keeps two builds of one kernel from running side by side: the second waits
# and finds the result of the first.
#
# JOBS   compilers at once (default: one a processor)
set -euo pipefail

# All in a function: bash reads a script as it goes, and this one runs for many minutes.
main() {
	arch=${1:?usage: build.sh amd64|arm64 [--print-dir]}
	here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
	package=linux-source-6.12
	tarball=/usr/src/$package.tar.xz
	store=${XDG_CACHE_HOME:-$HOME/.cache}/bake/kernel

	case $arch in
	amd64) karch=x86_64 ;;
	arm64) karch=arm64 ;;
	*)
		echo "kernel: no guest kernel for architecture '$arch' (there are amd64 and arm64)" >&2
		exit 2
		;;
	esac

	# The version that is installed, or that would be: a kernel from the cache does not need the source.
	version=$(dpkg-query -W -f '${Version}' "$package" 2>/dev/null || true)
	if [ -z "$version" ]; then
		version=$(apt-cache policy "$package" 2>/dev/null | sed -n 's/^ *Candidate: //p')
	fi
	if [ -z "$version" ] || [ "$version" = "(none)" ]; then
		echo "kernel: apt knows no $package; this needs Debian 12 with its security updates, and 'apt-get update'" >&2
		exit 1
	fi

	hash=$({
		cd "$here"
		echo "$arch $package $version"
		sha256sum common.config "$karch.config" check-symbols.sh compile.sh patches/*.patch
	} | sha256sum | cut -c1-32)
	bundle=$store/$hash

	if [ "${2:-}" = --print-dir ]; then
		echo "$bundle"
		[ -f "$bundle/bundle.json" ]
		exit
	fi

	say() { echo "kernel: $*" >&2; }

	if [ -f "$bundle/bundle.json" ]; then
		say "$arch is built already: $bundle"
		echo "$bundle"
		exit 0
	fi

	if [ ! -r "$tarball" ]; then
		say "$tarball is missing: install $package ('make kernel-$arch' does, with the compilers)"
		exit 1
	fi

	mkdir -p "$store"
	exec 9>"$store/.lock-$hash"
	if ! flock -n 9; then
		say "another build of the $arch kernel is running; waiting for it"
		flock 9
	fi
	if [ -f "$bundle/bundle.json" ]; then
		say "the other build made it: $bundle"
		echo "$bundle"
		exit 0
	fi

	# Whoever holds the lock owns every scratch directory of this hash: those of builds that were killed go first.
	rm -rf "$store/.work-$hash".*
	work=$(mktemp -d "$store/.work-$hash.XXXXXX")
	log=$store/build-$arch.log
	compile=
	cleanup() {
		[ -z "$compile" ] || kill -- "-$compile" 2>/dev/null || true
		rm -rf "$work"
	}
	trap cleanup EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP

	say "compiling Linux from $package $version for $arch with ${JOBS:-$(nproc)} jobs: about 20 CPU-minutes, 10 minutes on two free processors"
	say "log: $log"
	started=$SECONDS
	# Its own process group, so that an interrupted build takes make and its compilers along; the lock stays with us.
	set -m
	"$here/compile.sh" "$arch" "$tarball" "$version" "$work" "$work/bundle" >"$log" 2>&1 9>&- </dev/null &
	compile=$!
	set +m
	said=$SECONDS
	while kill -0 "$compile" 2>/dev/null; do
		sleep 2
		if [ $((SECONDS - said)) -ge 60 ]; then
			said=$SECONDS
			say "$(((SECONDS - started) / 60)) min: $(grep -cE '^ +(CC|AS) ' "$log" || true) files compiled"
		fi
	done
	status=0
	wait "$compile" || status=$?
	compile=
	if [ "$status" != 0 ]; then
		say "the build failed (status $status); the last lines of $log:"
		tail -n 25 "$log" >&2
		exit 1
	fi

	mv -T "$work/bundle" "$bundle"
	rm -f "$store/.lock-$hash"
	say "done in $((SECONDS - started)) s: $bundle"
	echo "$bundle"
}

main "$@"
exit
