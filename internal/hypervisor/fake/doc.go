// Package fake is a hypervisor without VMs: its guest is a Go function in this
// process. It is for tests of what stands above a driver, and passes the same
// suite as the real ones.
package fake
