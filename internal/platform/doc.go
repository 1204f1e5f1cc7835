// Package platform is what differs between operating systems and is not worth
// an interface: memory files, child processes that die with their parent,
// private run directories and files for ephemeral disks.
//
// It knows no hypervisor, no payload and no service, and it keeps nothing: all
// that it makes belongs to the caller.
package platform
