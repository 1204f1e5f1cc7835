package kernel

// A want is something that a guest of bake uses of its kernel and that distributions ship as modules.
type want struct {
	// modules are loaded as far as they are there. The first one that is missing counts as the want missing,
	// unless any is set.
	modules []string
	// any makes one of the modules enough.
	any bool
	// without says what the guest lacks when the want is missing. For an optional one it becomes a note of the
	// bundle, for a needed one the reason of the error.
	without string
	// optional wants may be missing.
	optional bool
	// feature is what the modules are for that no other want has loaded. A guest loads them only when it is told to
	// use the feature: each module costs time at boot and memory. Wants with a feature come last, so that nothing
	// depends on their modules but other wants of the feature.
	feature string
}

// wants is the list, in the order in which the modules load as far as dependencies leave it open.
func wants() []want {
	return []want{
		{modules: []string{"virtio", "virtio_ring"}, without: "the guest finds no device"},
		{modules: []string{"virtio_mmio", "virtio_pci"}, any: true, without: "the guest finds no device"},
		{modules: []string{"virtio_mmio"}, optional: true, without: "it does not boot on Firecracker and QEMU's microvm, just on machines with PCI"},
		{modules: []string{"virtio_pci"}, optional: true, without: "it does not boot on machines that have PCI only (QEMU q35 and virt, Virtualization.framework)"},
		{modules: []string{"virtio_blk"}, without: "the guest has no disks"},
		{modules: []string{"vsock", "vmw_vsock_virtio_transport"}, without: "host and guest cannot talk"},
		{modules: []string{"erofs"}, without: "the guest cannot mount its root filesystem"},
		{modules: []string{"ext4"}, without: "the guest cannot mount its writable disk"},
		{modules: []string{"overlay"}, without: "the root filesystem cannot be written to"},
		{modules: []string{"tun"}, without: "the guest has no network"},
		{modules: []string{"virtio_console"}, optional: true, without: "no kernel messages on Virtualization.framework"},
		{modules: []string{"virtio_rng"}, optional: true, without: "no entropy from the host; random numbers may come late after boot"},
		{modules: []string{"virtio_balloon"}, optional: true, without: "unused memory is not given back to the host"},
		{modules: []string{"dm_mod"}, optional: true, without: "no device mapper"},
		{modules: []string{"loop"}, optional: true, without: "no loop devices"},
		{modules: []string{"squashfs"}, optional: true, without: "no squashfs root filesystems"},
		{modules: []string{"fuse"}, optional: true, without: "no FUSE filesystems in the container"},
		{modules: []string{"virtiofs"}, optional: true, without: "no virtiofs: folders are shared over 9P where that is there"},
		{modules: []string{"9p", "9pnet", "9pnet_fd"}, optional: true, without: "no 9P over a socket: -v cannot share folders that way"},
		{modules: []string{"9pnet_virtio"}, optional: true, without: "no 9P over virtio"},
		{modules: []string{"wireguard"}, optional: true, feature: "wireguard", without: "no WireGuard in the kernel"},
	}
}
