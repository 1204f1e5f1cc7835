package wire

import (
	"fmt"
	"io"
)

// ManifestVersion is the version of the [BootManifest] that this build speaks.
const ManifestVersion = 1

// ManifestLimit bounds the encoded manifest, in bytes. An environment and
// arguments of the size that execve(2) allows (2 MiB together) fit.
const ManifestLimit = 8 << 20

// A BootManifest is all that the agent needs to know to prepare the guest and
// run the container. The host serves it once, on [PortManifest].
type BootManifest struct {
	Version  int    `json:"version"`
	Hostname string `json:"hostname"`
	// UnixNano is the host's clock when it served the manifest, in
	// nanoseconds; the agent steps the guest's clock to it when they differ.
	UnixNano  int64     `json:"unixNano"`
	Rootfs    Rootfs    `json:"rootfs"`
	Ephemeral Ephemeral `json:"ephemeral"`
	Process   Process   `json:"process"`
	// Volumes are mounted in this order, see [CheckVolumes].
	Volumes []Volume `json:"volumes,omitempty"`
	// Network is nil in a guest that has its loopback interface only.
	Network *Network `json:"network,omitempty"`
	// Datagrams says that the host serves [PortUDP]: for the network, or for
	// published UDP ports alone.
	Datagrams bool `json:"datagrams,omitempty"`
	// Resolver is nil where there is nobody to ask.
	Resolver *Resolver `json:"resolver,omitempty"`
	// Hosts are lines of /etc/hosts beside those of the guest itself.
	Hosts []HostEntry `json:"hosts,omitempty"`
	// WireGuard, if there is one, is a tunnel that leaves over Network.
	WireGuard *WireGuard `json:"wireguard,omitempty"`
	// SSH is nil in a guest that nobody logs in to: it has no server then.
	SSH *SSH `json:"ssh,omitempty"`
	// Health is nil where nothing is tested.
	Health *Health `json:"health,omitempty"`
	// Verbose asks the agent to say on the kernel console what it does.
	Verbose bool `json:"verbose,omitempty"`
	// NoReboot keeps the finished guest running for debugging.
	NoReboot bool `json:"noReboot,omitempty"`
}

// Rootfs says where the image's read-only filesystem is.
type Rootfs struct {
	// Device is the block device's path in the guest, such as /dev/vda.
	Device string `json:"device"`
	// Type is erofs, squashfs or ext4.
	Type string `json:"type"`
	// Offset and Size are the filesystem's window in the device, in bytes and
	// multiples of 512; Size 0 means the whole device. With a window the agent
	// maps it with dm-linear.
	Offset int64 `json:"offset,omitempty"`
	Size   int64 `json:"size,omitempty"`
}

// Ephemeral is the writable disk that holds the overlay's upperdir and the
// container's /tmp, and that is thrown away with the VM.
type Ephemeral struct {
	// Device is the block device's path in the guest. Empty means that there
	// is none and the upperdir is on a tmpfs.
	Device string `json:"device,omitempty"`
	// Type is the filesystem that the host made on it, ext4.
	Type string `json:"type,omitempty"`
}

// A Process is what runs in the container.
type Process struct {
	// Args is the whole argument vector, entrypoint and command joined.
	Args []string `json:"args"`
	// Env is KEY=VALUE, each key once.
	Env []string `json:"env,omitempty"`
	// Cwd is the working directory; the agent creates it if it is missing, as
	// the OCI image specification has it. Empty means /.
	Cwd string `json:"cwd,omitempty"`
	// User is an image's User: name or number, with an optional :group. It is
	// looked up in the rootfs. UID and GID, if set, win over it.
	User string  `json:"user,omitempty"`
	UID  *uint32 `json:"uid,omitempty"`
	GID  *uint32 `json:"gid,omitempty"`
	// Terminal asks for one pseudoterminal in place of three streams; Rows and
	// Cols are its first size in characters.
	Terminal bool   `json:"terminal,omitempty"`
	Rows     uint16 `json:"rows,omitempty"`
	Cols     uint16 `json:"cols,omitempty"`
}

// WriteManifest writes m as one frame, and refuses volumes that ReadManifest
// would not take.
func WriteManifest(w io.Writer, m *BootManifest) error {
	if err := CheckVolumes(m.Volumes); err != nil {
		return fmt.Errorf("write the boot manifest: %w", err)
	}
	return WriteJSON(w, m, ManifestLimit)
}

// ReadManifest reads one manifest and refuses one of another version, or with
// volumes that CheckVolumes refuses.
func ReadManifest(r io.Reader) (*BootManifest, error) {
	var m BootManifest
	if err := ReadJSON(r, &m, ManifestLimit); err != nil {
		return nil, fmt.Errorf("read the boot manifest: %w", err)
	}
	if m.Version != ManifestVersion {
		return nil, fmt.Errorf("the boot manifest has version %d and this agent speaks version %d: build the app again so that carrier and initrd come from one bake", m.Version, ManifestVersion)
	}
	if err := CheckVolumes(m.Volumes); err != nil {
		return nil, fmt.Errorf("the boot manifest: %w", err)
	}
	return &m, nil
}
