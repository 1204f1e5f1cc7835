#!/bin/bash
# check-symbols.sh CONFIG FRAGMENT...
#
# Every symbol that a fragment asks for must be in CONFIG with that value, and every symbol that one refuses
# must be off. Kconfig drops what it cannot satisfy without a word; this turns the loss into an error.
set -euo pipefail

config=$1
shift
lost=0

while IFS= read -r line; do
	case $line in
	'# CONFIG_'*' is not set')
		symbol=${line#\# }
		symbol=${symbol%% *}
		want=n
		;;
	CONFIG_*=*)
		symbol=${line%%=*}
		want=${line#*=}
		;;
	*) continue ;;
	esac
	have=$(grep -m1 "^$symbol=" "$config" || true)
	have=${have#*=}
	if [ "${have:-n}" != "$want" ]; then
		echo "check-symbols: $symbol: asked for $want, got ${have:-n}" >&2
		lost=1
	fi
done < <(cat -- "$@")

exit "$lost"
