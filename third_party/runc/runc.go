//go:build tools

// Package runc holds the version of runc that scripts/runc.sh compiles. Nothing imports it.
package runc

import _ "github.com/opencontainers/runc"
