// Package hypervisortest is the suite that every hypervisor driver passes: see
// [Run]. Its guest is package testguest, which runs as the init of a real VM
// (package testinit, built by [Initrd]) or as a function in the fake driver.
package hypervisortest
