package hypervisor

import (
	"io"
	"os"
)

// A Config is the machine to make.
type Config struct {
	// Arch is the guest's architecture, a GOARCH: amd64 or arm64.
	Arch string
	// Kernel is an uncompressed image: an ELF vmlinux with a PVH note
	// (amd64) or an Image (arm64).
	Kernel Resource
	Initrd Resource
	// CommandLine is the kernel command line. The driver adds what its machine
	// cannot do without (the console device, the way to reboot, the clock)
	// unless CommandLine sets it.
	CommandLine string
	// CPUs is at least 1. EmulatedCPUs, if it is not 0, takes its place where
	// the driver emulates the processor.
	CPUs         int
	EmulatedCPUs int
	MemoryMiB    int
	// Disks become /dev/vda, /dev/vdb, … in this order.
	Disks []Disk
	// Shares are what the guest mounts with virtiofs, by their tags.
	Shares []Share
	// Dir is a private directory, mode 0700 and short enough for socket names
	// in it, for everything that the driver must have a path for. The caller
	// removes it after Close.
	Dir string
	// Console receives what the guest's kernel writes to its console. It may
	// be nil. The driver makes one Write at a time.
	Console io.Writer
}

// A Disk is a virtio block device.
type Disk struct {
	Resource Resource
	ReadOnly bool
	// Durable: what the guest flushes reaches the host's disk. Without it, the
	// contents are thrown away with the VM and no flush waits for anything.
	Durable bool
}

// A Share is a virtio file system device (virtio 1.2, 5.11). Who serves its
// files depends on the driver: see [Capabilities].
type Share struct {
	// Tag is what the guest mounts: 1 to 36 bytes, no two alike.
	Tag string
	// Socket, with VhostUserFS, is one end of a pair of connected Unix stream
	// sockets. A vhost-user back end has the other end, and sees it hang up
	// when the VM is gone. The VM keeps a descriptor of its own from New on, so
	// that the caller must close Socket to let that happen.
	Socket *os.File
	// Dir, with VirtioFS, is the directory of the host that the hypervisor
	// shares itself; ReadOnly lets the guest change nothing in it.
	Dir      string
	ReadOnly bool
}

// A Resource is the contents of something that a VM needs: a window of an open
// file, or bytes. The VM uses it until it is closed; the file remains the
// caller's to close, after that.
type Resource struct {
	// Name is for error messages and file names: kernel, initrd, rootfs.
	Name string
	// File holds the contents at Offset for Size bytes; Size -1 means to the
	// end. If File is nil, Bytes are the contents.
	File   *os.File
	Offset int64
	Size   int64
	Bytes  []byte
}

// A Description is the machine that a Config makes with a driver. It is what
// BAKE_DRY_RUN=1 prints as JSON.
type Description struct {
	Hypervisor  string `json:"hypervisor"`
	Accelerator string `json:"accelerator,omitempty"`
	Machine     string `json:"machine,omitempty"`
	Arch        string `json:"arch"`
	CPUs        int    `json:"cpus"`
	MemoryMiB   int    `json:"memoryMiB"`
	// ReturnsMemory is as [Capabilities] has it, of this machine.
	ReturnsMemory bool            `json:"returnsMemory"`
	CommandLine   string          `json:"commandLine"`
	Disks         []DescribedDisk `json:"disks"`
	// Shares are the tags of the file system devices.
	Shares []string `json:"shares,omitempty"`
	// Command is the hypervisor's argument vector, where it has one.
	Command []string `json:"command,omitempty"`
}

// A DescribedDisk is one disk of a [Description].
type DescribedDisk struct {
	Name     string `json:"name"`
	Path     string `json:"path,omitempty"`
	Offset   int64  `json:"offset"`
	Size     int64  `json:"size"`
	ReadOnly bool   `json:"readOnly"`
}
