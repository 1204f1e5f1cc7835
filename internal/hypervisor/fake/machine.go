package fake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"bake/internal/hypervisor"
)

// A Machine is a VM as its guest sees it. Methods are safe for concurrent use.
type Machine struct {
	cfg     hypervisor.Config
	disks   []disk
	console io.Writer
	host    *ports // what the host listens on
	guest   *ports // what the guest listens on

	mu  sync.Mutex
	end *hypervisor.Exit
}

type disk struct {
	r            io.ReaderAt
	w            io.WriterAt
	offset, size int64
	readOnly     bool
}

// CommandLine is the kernel's.
func (m *Machine) CommandLine() (string, error) { return m.cfg.CommandLine, nil }

// CPUs is how many there are.
func (m *Machine) CPUs() (int, error) { return m.cfg.CPUs, nil }

// MemoryMiB is how much memory there is.
func (m *Machine) MemoryMiB() (int, error) { return m.cfg.MemoryMiB, nil }

// Disks is how many disks there are.
func (m *Machine) Disks() (int, error) { return len(m.disks), nil }

// DiskSize is the size of a disk in bytes; i counts from 0.
func (m *Machine) DiskSize(i int) (int64, error) {
	d, err := m.disk(i)
	return d.size, err
}

// DiskReadOnly says whether a disk can be written.
func (m *Machine) DiskReadOnly(i int) (bool, error) {
	d, err := m.disk(i)
	return d.readOnly, err
}

// ReadDisk fills b from byte offset of a disk.
func (m *Machine) ReadDisk(i int, b []byte, offset int64) error {
	d, err := m.disk(i)
	if err != nil {
		return err
	}
	if offset < 0 || offset > d.size || int64(len(b)) > d.size-offset {
		return fmt.Errorf("read %d bytes at %d: outside of the disk of %d bytes", len(b), offset, d.size)
	}
	_, err = d.r.ReadAt(b, d.offset+offset)
	return err
}

// WriteDisk writes b at byte offset of a disk.
func (m *Machine) WriteDisk(i int, b []byte, offset int64) error {
	d, err := m.disk(i)
	if err != nil {
		return err
	}
	if d.readOnly {
		return errors.New("the disk is read-only")
	}
	if offset < 0 || offset > d.size || int64(len(b)) > d.size-offset {
		return fmt.Errorf("write %d bytes at %d: outside of the disk of %d bytes", len(b), offset, d.size)
	}
	_, err = d.w.WriteAt(b, d.offset+offset)
	return err
}

func (m *Machine) disk(i int) (disk, error) {
	if i < 0 || i >= len(m.disks) {
		return disk{}, fmt.Errorf("there is no disk %d", i)
	}
	return m.disks[i], nil
}

// Print writes to the console.
func (m *Machine) Print(text string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := io.WriteString(m.console, text)
	return err
}

// Dial connects to a port that the host listens on.
func (m *Machine) Dial(port uint32) (net.Conn, error) {
	return m.host.dial(context.Background(), port)
}

// Listen takes the host's connections to a port of the guest.
func (m *Machine) Listen(port uint32) (net.Listener, error) { return m.guest.listen(port) }

// PowerOff ends the VM as a guest does that powers off. The guest should
// return then.
func (m *Machine) PowerOff() error { return m.finish(hypervisor.Exit{Clean: true}) }

// Reboot ends the VM too: there is no second boot.
func (m *Machine) Reboot() error { return m.finish(hypervisor.Exit{Clean: true}) }

// Panic ends the VM as a kernel panic with panic=-1 does.
func (m *Machine) Panic() error {
	if err := m.Print("Kernel panic - not syncing: fake\n"); err != nil {
		return err
	}
	return m.finish(hypervisor.Exit{Clean: true})
}

// finish sets how the VM ends, unless that is decided.
func (m *Machine) finish(exit hypervisor.Exit) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.end == nil {
		m.end = &exit
	}
	return nil
}

func (m *Machine) exit() hypervisor.Exit {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.end == nil {
		return hypervisor.Exit{Reason: "the fake guest returned without ending its machine"}
	}
	return *m.end
}
