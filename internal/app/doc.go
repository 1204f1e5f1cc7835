// Package app is the run role: what a packed app does when somebody runs it.
//
// It takes an opened payload and the user's options, plans the VM
// ([Options], the process, the disks, the command line), starts the services
// that the guest will ask for, boots the VM, joins the container's streams and
// signals to the app's own, and turns the way it ended into an exit code.
//
// It chooses a hypervisor driver and then knows it only through
// [hypervisor.VM]. It parses no flags (internal/cli does) and builds nothing
// (internal/builder does).
package app
