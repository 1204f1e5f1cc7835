//go:build linux

package vhostuser

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// maxRegions is how many memory regions a front end may send without the
// CONFIGURE_MEM_SLOTS feature (vhost-user.rst, VHOST_USER_SET_MEM_TABLE).
const maxRegions = 8

// A regionSpec is one entry of the memory table, as the front end sends it.
type regionSpec struct {
	guest  uint64 // guest physical address
	size   uint64
	user   uint64 // address in the front end
	offset uint64 // of the region in its file
}

type region struct {
	regionSpec
	bytes []byte
}

// A memory is the guest's memory, mapped.
type memory struct {
	regions []region
}

// mapMemory maps the regions, each from the descriptor of the same index. The
// descriptors stay the caller's.
func mapMemory(specs []regionSpec, fds []int) (*memory, error) {
	m := &memory{}
	for i, spec := range specs {
		b, err := mapRegion(spec, fds[i])
		if err != nil {
			m.close()
			return nil, fmt.Errorf("map memory region %d (guest address %#x, %d bytes, offset %#x): %w", i, spec.guest, spec.size, spec.offset, err)
		}
		m.regions = append(m.regions, region{spec, b})
	}
	return m, nil
}

func mapRegion(spec regionSpec, fd int) ([]byte, error) {
	const maxInt = 1<<63 - 1
	if spec.size == 0 || spec.size > maxInt || spec.offset > maxInt-spec.size ||
		spec.guest+spec.size < spec.guest || spec.user+spec.size < spec.user {
		return nil, fmt.Errorf("size or addresses out of range")
	}
	// A page beyond the end of its file is SIGBUS when touched.
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if uint64(st.Size) < spec.offset+spec.size {
		return nil, fmt.Errorf("its file has %d bytes only", st.Size)
	}
	b, err := unix.Mmap(fd, int64(spec.offset), int(spec.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return b, os.NewSyscallError("mmap", err)
}

// guest returns the memory at a guest physical address: n bytes, or fewer when
// the region ends before. It returns nil when nothing is there.
func (m *memory) guest(addr, n uint64) []byte {
	for i := range m.regions {
		r := &m.regions[i]
		if off := addr - r.guest; addr >= r.guest && off < r.size {
			n = min(n, r.size-off)
			return r.bytes[off : off+n : off+n]
		}
	}
	return nil
}

// user returns exactly n bytes at an address of the front end, or nil.
func (m *memory) user(addr, n uint64) []byte {
	for i := range m.regions {
		r := &m.regions[i]
		if off := addr - r.user; addr >= r.user && off < r.size && n <= r.size-off {
			return r.bytes[off : off+n : off+n]
		}
	}
	return nil
}

func (m *memory) close() {
	for _, r := range m.regions {
		unix.Munmap(r.bytes)
	}
	m.regions = nil
}
