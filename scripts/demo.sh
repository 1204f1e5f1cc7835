#!/bin/bash
# demo.sh
#
# From nothing to a database in a microVM: installs what is missing, builds bake, takes a kernel, packs a Debian with
# redis into one executable, runs it, talks to it, stops it. Prints what each step took.
set -euo pipefail
cd "$(dirname "$0")/.."
make=${MAKE:-make}
case $(uname -m) in
x86_64) arch=amd64 ;;
aarch64) arch=arm64 ;;
*)
	echo "demo: bake runs guests on x86-64 and arm64; this machine is $(uname -m)" >&2
	exit 1
	;;
esac

work=$(mktemp -d)
app=
cleanup() {
	[ -z "$app" ] || { kill -TERM "$app" && wait "$app"; } 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

began=$EPOCHREALTIME
since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f s", b - a }'; }
summary=$work/summary
step() { # NAME COMMAND...: run it, note how long it took
	local name=$1 start=$EPOCHREALTIME
	shift
	printf '\n==> %s\n' "$name"
	"$@"
	printf '%-38s %10s\n' "$name" "$(since "$start")" >>"$summary"
}
fail() {
	echo "demo: $*" >&2
	if [ -s "$work/app.log" ]; then
		echo "demo: what the app said:" >&2
		tail -n 40 "$work/app.log" >&2
	fi
	exit 1
}

make_rootfs() { rootfs=$(scripts/rootfs.sh redis-server); }
pack() {
	bin/bake build "$rootfs" -o ./redis-demo --entrypoint /usr/bin/redis-server
	ls -lh redis-demo | awk '{ print "redis-demo: " $5 }'
}
alive() { kill -0 "$app" 2>/dev/null; }
boot() {
	# A port that is free now; should somebody take it in between, the app says so.
	port=$((20000 + RANDOM % 20000))
	while (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
	echo "./redis-demo -p 127.0.0.1:$port:6379 -- --bind 127.0.0.1 --protected-mode no --save ''"
	./redis-demo -p "127.0.0.1:$port:6379" -- --bind 127.0.0.1 --protected-mode no --save '' >"$work/app.log" 2>&1 </dev/null &
	app=$!
	local deadline=$((SECONDS + 90))
	until [ "$(timeout 5 redis-cli -p "$port" ping 2>/dev/null)" = PONG ]; do
		alive || fail "the app ended before redis answered"
		[ $SECONDS -lt $deadline ] || fail "redis did not answer within 90 seconds"
		sleep 0.1
	done
	echo "redis-cli -p $port ping: PONG"
}
commands=5000
fill() {
	seq $commands | awk '{ print "SET key:" $1 " value-" $1 }' | timeout 60 redis-cli -p "$port" --pipe || fail "redis-cli --pipe failed"
	local size
	size=$(timeout 10 redis-cli -p "$port" dbsize)
	[ "$size" = $commands ] || fail "redis has $size keys after $commands SETs"
	[ "$(timeout 10 redis-cli -p "$port" get key:$commands)" = "value-$commands" ] || fail "redis gave back another value"
	echo "$size keys in the guest"
}
measure() { timeout 60 redis-benchmark -p "$port" -t set -n $commands -c 20 -q | tr '\r' '\n' | tail -n 2; }
stop() {
	local status=0
	kill -TERM "$app"
	wait "$app" || status=$?
	app=
	[ $status = 0 ] || fail "the app ended with status $status after SIGTERM; redis ends with 0"
	echo "SIGTERM to the app: redis shut down, exit status 0"
}

step 'install what is missing' "$make" --no-print-directory deps-demo "deps-runc-$arch"
step 'build bake, carrier, agent, runc' "$make" --no-print-directory bin/bake "bin/bake-app-linux-$arch" "bin/initrd-$arch.cpio"
step 'get a kernel' "$make" --no-print-directory kernel-any
step 'make a Debian with redis' make_rootfs
step 'pack it into ./redis-demo' pack
step 'boot until redis answers' boot
step "$commands SETs through one connection" fill
step "$commands SETs through 20 connections" measure
step 'stop it' stop

printf '\n'
cat "$summary"
printf '%-38s %10s\n' 'all' "$(since "$began")"
