//go:build linux

package qemu

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"

	"bake/internal/hypervisor"
	"bake/internal/platform"
	"bake/internal/tsc"
)

// QEMU's machine types.
const (
	machineMicroVM = "microvm"
	machineQ35     = "q35"
	machineVirt    = "virt"
)

// clockTime is how long the host's counter is measured at least.
const clockTime = 10 * time.Millisecond

// firstFile is the number that the first of exec.Cmd.ExtraFiles gets.
const firstFile = 3

// firstDisk is the PCI slot of the first disk. The rest find room before it;
// q35 has its chipset in the last one of 32.
const firstDisk = 8

// A machine is everything that QEMU's arguments are made of. It holds no open
// file: QEMU inherits those in the order kernel, initrd, vsock, disks, shares, with
// numbers from firstFile on.
type machine struct {
	bin        *program
	env        []string
	kind       string
	pcie       bool // a microvm with a PCI bus
	accel      string
	arch       string
	cpus       int
	memoryMiB  int
	line       string   // the caller's part of the kernel command line
	parameters []string // the driver's
	initrd     bool
	vsock      bool
	balloon    bool
	disks      []diskWindow
	shares     []string         // tags
	clock      *tsc.Measurement // until the kernel's parameters have it
}

type diskWindow struct {
	offset, size      int64
	readOnly, durable bool
}

func newMachine(bin *program, kind, accel string, env []string, cfg hypervisor.Config) (*machine, error) {
	m := &machine{
		bin: bin, env: env, kind: kind, accel: accel,
		arch: "amd64", cpus: cfg.CPUs, memoryMiB: cfg.MemoryMiB,
		initrd: true, vsock: true,
	}
	if kind == machineVirt {
		m.arch = "arm64"
	}
	m.pcie = needsPCI(kind, cfg)
	m.balloon = bin.balloon(m.pci())
	if accel == accelTCG && cfg.EmulatedCPUs > 0 {
		m.cpus = cfg.EmulatedCPUs
	}
	for _, disk := range cfg.Disks {
		offset, size, err := window(disk.Resource)
		if err != nil {
			return nil, err
		}
		m.disks = append(m.disks, diskWindow{offset, size, disk.ReadOnly, disk.Durable})
	}
	for _, share := range cfg.Shares {
		m.shares = append(m.shares, share.Tag)
	}
	_, size, err := window(cfg.Initrd)
	if err != nil {
		return nil, err
	}
	m.initrd = size > 0
	m.setParameters(cfg.CommandLine)
	return m, nil
}

// setParameters chooses what the kernel must be told on this machine, unless
// line, the caller's, says it. The parameters are those of the kernel's
// Documentation/admin-guide/kernel-parameters.txt.
func (m *machine) setParameters(line string) {
	m.line = line
	said := map[string]bool{}
	for _, p := range strings.Fields(line) {
		if p == "--" { // the rest is for init
			break
		}
		name, _, _ := strings.Cut(p, "=")
		said[strings.ReplaceAll(name, "-", "_")] = true
	}
	add := func(name, value string) {
		if !said[name] {
			m.parameters = append(m.parameters, name+"="+value)
		}
	}
	if m.arch == "arm64" {
		add("console", "ttyAMA0")
	} else {
		add("console", "ttyS0")
		// The default tries a keyboard controller first, which microvm has
		// not: 15 seconds of waiting. A triple fault is at once.
		add("reboot", "t")
	}
	add("panic", "-1") // reboot at once
	if m.arch == "amd64" && m.accel == accelTCG {
		// QEMU's local APIC counts nanoseconds. A kernel that measures that
		// while the host is busy can find nothing, and then has no timer and
		// hangs at the first sleep. Ours takes it from here
		// (kernel/patches), others pay no heed.
		add("lapic_timer_khz", "1000000")
	}
	if m.arch == "amd64" && m.accel == accelTCG && runtime.GOARCH == "amd64" {
		// All of TCG's counters are one, and the host's. On a busy host the
		// kernel's tests of that fail, as does the one of the timer, which
		// then panics.
		add("tsc", "reliable")
		if !said["no_timer_check"] {
			m.parameters = append(m.parameters, "no_timer_check")
		}
		if !said[clockParameter] {
			// A microvm has nothing to calibrate the counter by, and the
			// kernel hangs.
			began := tsc.Begin()
			m.clock = &began
		}
	}
}

// clockParameter tells the kernel the frequency of the time stamp counter.
const clockParameter = "tsc_early_khz"

// setClock ends the measurement of the host's counter and tells the kernel.
func (m *machine) setClock() error {
	if m.clock == nil {
		return nil
	}
	khz, err := m.clock.KHz(clockTime)
	if err != nil {
		return fmt.Errorf("measure the clock that the guest gets: %w", err)
	}
	m.parameters = append(m.parameters, fmt.Sprintf("%s=%d", clockParameter, khz))
	m.clock = nil
	return nil
}

// commandLine is the kernel's. The driver's parameters come first, because the
// caller's may end with arguments for init.
func (m *machine) commandLine() string {
	return strings.TrimSpace(strings.Join(m.parameters, " ") + " " + m.line)
}

// pci says whether devices sit on a PCI bus, and not on virtio-mmio.
func (m *machine) pci() bool { return m.kind != machineMicroVM || m.pcie }

// command is the whole command.
func (m *machine) command() []string {
	return append(append([]string{}, m.bin.command...), m.args()...)
}

// args is QEMU's arguments; qemu(1).
func (m *machine) args() []string {
	var args []string
	add := func(a ...string) { args = append(args, a...) }
	file := firstFile
	next := func() int { file++; return file - 1 }

	add("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot")
	if m.bin.facts.Sandbox {
		add("-sandbox", sandbox)
	}
	add("-machine", m.machineOptions(), "-accel", m.accelOptions(), "-cpu", m.cpu())
	add("-smp", strconv.Itoa(m.cpus), "-m", strconv.Itoa(m.memoryMiB)+"M")
	// The vsock device's back end maps the guest's memory, so it is shared.
	add("-object", fmt.Sprintf("memory-backend-memfd,id=memory,size=%dM,share=on", m.memoryMiB))
	add("-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console")
	add("-kernel", platform.ChildPath(next()), "-append", m.commandLine())
	if m.initrd {
		add("-initrd", platform.ChildPath(next()))
	}
	vsock := 0
	if m.vsock {
		vsock = next()
	}
	// The disks come first: Linux counts devices in this order.
	for i, disk := range m.disks {
		add("-add-fd", fmt.Sprintf("fd=%d,set=%d", next(), i))
		add("-blockdev", disk.blockdev(i))
		add("-device", m.device("virtio-blk", disk.drive(i), firstDisk+i))
	}
	add("-device", m.device("virtio-rng", "", 4))
	if m.vsock {
		add("-chardev", fmt.Sprintf("socket,id=vsock,fd=%d", vsock))
		add("-device", m.device("vhost-user-vsock", "chardev=vsock", 5))
	}
	if m.balloon {
		add("-device", m.device("virtio-balloon", balloonOptions, 6))
	}
	for i, tag := range m.shares {
		add(m.share(i, tag, next())...)
	}
	return args
}

func (m *machine) machineOptions() string {
	options := ",memory-backend=memory,dump-guest-core=off"
	switch m.kind {
	case machineMicroVM:
		if m.pcie {
			return "microvm,acpi=on,pcie=on" + options
		}
		return "microvm,acpi=on" + options
	case machineVirt:
		if m.accel == accelKVM {
			return "virt,gic-version=host" + options
		}
		return "virt,gic-version=3" + options
	}
	return m.kind + options
}

// accelOptions keeps all processors of an emulated machine in one thread. With
// a thread for each (MTTCG), QEMU 7.2 now and then runs an instruction that the
// kernel has patched meanwhile, and the guest dies of "Oops: int3", or its
// second processor does not come up: two of forty boots on a busy host, and
// none of forty in one thread.
func (m *machine) accelOptions() string {
	if m.accel == accelTCG && m.cpus > 1 {
		return m.accel + ",thread=single"
	}
	return m.accel
}

func (m *machine) cpu() string {
	switch {
	case m.accel == accelKVM:
		return "host"
	case m.arch == "arm64":
		// Real pointer authentication costs more than it protects here.
		return "max,pauth-impdef=on"
	}
	// TCG runs `rep movsb` byte by byte, and the kernel copies with it where
	// the processor says that it is fast. Without it vsock is twice as fast.
	return "max,-erms"
}

// device is a virtio device on the machine's bus; slot is for PCI, where the
// order of slots is the order in which Linux finds them.
func (m *machine) device(name, options string, slot int) string {
	if options != "" {
		options = "," + options
	}
	if m.pci() {
		return fmt.Sprintf("%s-pci,addr=%#x,disable-legacy=on%s", name, slot, options)
	}
	return name + "-device" + options
}

// blockdev is a window of a file that QEMU inherited. Without QEMU's image
// locks many VMs use one file.
func (d diskWindow) blockdev(i int) string {
	s := fmt.Sprintf("driver=raw,node-name=disk%d,offset=%d,size=%d,file.driver=file,file.filename=/dev/fdset/%d,file.locking=off",
		i, d.offset, d.size, i)
	if d.readOnly {
		return s + ",read-only=on,file.read-only=on"
	}
	// What the guest discards becomes a hole again.
	s += ",discard=unmap,file.discard=unmap"
	if d.durable {
		// A flush of the guest's is an fdatasync(2) of QEMU's.
		return s
	}
	// What the guest writes is thrown away with it, so it need not reach the
	// host's disk.
	return s + ",cache.no-flush=on,file.cache.no-flush=on"
}

// drive is a disk's part of its device's options. A host's disk that is full
// or broken is an error of the guest's: by default QEMU would stop the VM, and
// nobody would know why it hangs.
func (d diskWindow) drive(i int) string {
	s := fmt.Sprintf("drive=disk%d", i)
	if !d.readOnly {
		s += ",werror=report"
	}
	return s
}
