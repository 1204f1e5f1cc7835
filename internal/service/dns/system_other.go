//go:build !darwin

package dns

// system is nil: resolv.conf(5) tells all.
func system() systemResolver { return nil }
