#!/bin/bash
# fuzz.sh TIME
#
# Runs every fuzz target of the module for TIME. go test fuzzes one target of one package at a time.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}
time=${1:-10s}

# Not 'go list': asking a package for its targets compiles it and runs its TestMain.
grep -rl --include='*_test.go' '^func Fuzz' . | xargs -r -n1 dirname | sort -u | while read -r package; do
	for target in $("$go" test -list '^Fuzz' "$package" | grep '^Fuzz'); do
		echo "== fuzzing $package $target for $time"
		"$go" test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package" </dev/null
	done
done
