#!/bin/bash
# soak.sh ROUNDS [KIND...]
#
# Works on files of each kind of volume (9p, virtiofs, ext4) and checks all that is read: a round is 10,000 random
# operations of an exerciser that knows what the file must hold (test/posix fsx), and fio with --verify, through the
# page cache, by memory, and with fsync. The seeds are 1 to ROUNDS, so that a failure can be had again. One VM at a time,
# with one CPU. Prints what was done; ends at the first difference.
set -euo pipefail

rounds=${1:?usage: soak.sh ROUNDS [9p|virtiofs|ext4 ...]}
shift
[ $# -gt 0 ] || set -- 9p virtiofs ext4
here=$(cd "$(dirname "$0")/.." && pwd)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/tools" "$work/run"
(cd "$here" && CGO_ENABLED=0 go build -trimpath -o "$work/tools/posix" ./test/posix)
cp "$here/scripts/soak-guest.sh" "$work/tools/soak"
BAKE_BUILD_KERNEL=$(dirname "$BAKE_TEST_KERNEL") \
	"$here/bin/bake" build "$("$here/scripts/rootfs.sh" volumes)" -o "$work/app" --entrypoint /bin/sh

# Named volumes and sockets are this run's own.
export XDG_DATA_HOME=$work/data XDG_RUNTIME_DIR=$work/run
for kind; do
	case $kind in
	9p | virtiofs) volume=(--volume-mode "$kind" -v "$work/$kind:/files:create") ;;
	ext4) volume=(-v soak:/files) ;;
	*)
		echo "soak: there is no kind of volume $kind, only 9p, virtiofs and ext4" >&2
		exit 2
		;;
	esac
	echo "== $kind, $rounds rounds from $(date +%T)"
	"$work/app" --memory 512m --cpus 1 "${volume[@]}" -v "$work/tools:/tools:ro" -- -e /tools/soak "$rounds" /files
done
echo "== nothing differed, $(date +%T)"
