package wire

// The vsock ports, the same on every hypervisor. All but [PortSSH], and the
// guest's side of [PortSOCKS], are listened on by the host.
const (
	// PortSOCKS carries SOCKS5 (RFC 1928). Guest to host it is the way out;
	// host to guest it is the way in: CONNECT 127.0.0.1:PORT reaches a server
	// that listens in the guest.
	PortSOCKS = 10
	// PortUDP carries UDP datagrams in frames.
	PortUDP = 11
	// PortFiles carries 9P2000.L, after [WriteVolumeHello] and its answer.
	PortFiles = 12
	// PortManifest serves the [BootManifest] in one frame.
	PortManifest = 13
	// PortConsole carries the standard streams, see [ConsoleHello].
	PortConsole = 14
	// PortControl carries [GuestMessage] and [HostMessage].
	PortControl = 15
	// PortSSH is the guest's SSH server.
	PortSSH = 22
)

// HostCID is the host's context identifier (vsock(7), VMADDR_CID_HOST), and
// GuestCID the one that every bake guest has: each VM has a vsock of its own,
// so they need not differ.
const (
	HostCID  = 2
	GuestCID = 3
)
