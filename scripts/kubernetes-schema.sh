#!/bin/bash
# kubernetes-schema.sh
#
# Puts kubernetes-validate, which has the schemas of Kubernetes' API with it, into a virtual environment in bake's
# cache, and prints the directory. It is for the tests of what apps print for Kubernetes.
set -euo pipefail

version=1.37.0
dir=${CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bake}/kubernetes-schema-$version
if [ ! -e "$dir/complete" ]; then
	echo "== installing kubernetes-validate $version" >&2
	rm -rf "$dir"
	mkdir -p "$(dirname "$dir")"
	python3 -m venv "$dir" >&2
	"$dir/bin/pip" install --quiet --disable-pip-version-check "kubernetes-validate==$version" >&2
	touch "$dir/complete"
fi
# Tests name it without the version.
ln -sfn "$(basename "$dir")" "$(dirname "$dir")/kubernetes-schema"
echo "$dir"
