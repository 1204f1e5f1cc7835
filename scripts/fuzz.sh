#!/bin/bash
# fuzz.sh TIME
#
# Runs every fuzz target of the module for TIME. go test fuzzes one target of one package at a time.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}
time=${1:-10s}

for package in $("$go" list ./...); do
	targets=$("$go" test -list '^Fuzz' "$package" | grep '^Fuzz' || true)
	for target in $targets; do
		echo "== fuzzing $package $target for $time"
		"$go" test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package"
	done
done
