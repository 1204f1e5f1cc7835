//go:build linux

package qemu

import (
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"bake/internal/hypervisor"
)

func testProgram() *program {
	return &program{command: []string{"/lib/ld.so", "--library-path", "/x", "/x/qemu"}, facts: facts{Sandbox: true, MicroVM: true, TCG: true, VsockMMIO: true, VsockPCI: true, FSMMIO: true, FSPCI: true, BalloonMMIO: true, BalloonPCI: true}}
}

func TestCommand(t *testing.T) {
	rootfs := hypervisor.Disk{Resource: hypervisor.Resource{Name: "rootfs", Bytes: make([]byte, 4096)}, ReadOnly: true}
	cfg := hypervisor.Config{CPUs: 2, MemoryMiB: 512, CommandLine: "quiet a=b", Initrd: hypervisor.Resource{Bytes: []byte{1}}, Disks: []hypervisor.Disk{rootfs, rootfs}, Shares: []hypervisor.Share{{Tag: "bake0"}, {Tag: "bake1"}}}
	m, err := newMachine(testProgram(), machineMicroVM, accelKVM, nil, cfg)
	if err != nil {
		t.Fatal(err)
	}
	m.disks[1] = diskWindow{offset: 65536, size: 1 << 20}
	want := []string{
		"/lib/ld.so", "--library-path", "/x", "/x/qemu",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-sandbox", sandbox,
		"-machine", "microvm,acpi=on,memory-backend=memory,dump-guest-core=off", "-accel", "kvm", "-cpu", "host",
		"-smp", "2", "-m", "512M",
		"-object", "memory-backend-memfd,id=memory,size=512M,share=on",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-kernel", "/proc/self/fd/3", "-append", "console=ttyS0 reboot=t panic=-1 quiet a=b",
		"-initrd", "/proc/self/fd/4",
		"-add-fd", "fd=6,set=0",
		"-blockdev", "driver=raw,node-name=disk0,offset=0,size=4096,file.driver=file,file.filename=/dev/fdset/0,file.locking=off,read-only=on,file.read-only=on",
		"-device", "virtio-blk-device,drive=disk0",
		"-add-fd", "fd=7,set=1",
		"-blockdev", "driver=raw,node-name=disk1,offset=65536,size=1048576,file.driver=file,file.filename=/dev/fdset/1,file.locking=off,discard=unmap,file.discard=unmap,cache.no-flush=on,file.cache.no-flush=on",
		"-device", "virtio-blk-device,drive=disk1,werror=report",
		"-device", "virtio-rng-device",
		"-chardev", "socket,id=vsock,fd=5",
		"-device", "vhost-user-vsock-device,chardev=vsock",
		"-device", "virtio-balloon-device,free-page-reporting=on",
		"-chardev", "socket,id=share0,fd=8",
		"-device", "vhost-user-fs-device,chardev=share0,tag=bake0,queue-size=1024",
		"-chardev", "socket,id=share1,fd=9",
		"-device", "vhost-user-fs-device,chardev=share1,tag=bake1,queue-size=1024",
	}
	got := m.command()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("the command is\n%s\nwant\n%s\nthey differ from argument %d on", strings.Join(got, " "), strings.Join(want, " "), i)
		}
	}
}

func TestMachineOptions(t *testing.T) {
	for _, tc := range []struct {
		kind, accel string
		want        []string
	}{
		{machineMicroVM, accelTCG, []string{"-machine microvm,acpi=on,", "-cpu max,-erms", "-accel tcg", "virtio-rng-device"}},
		{machineQ35, accelTCG, []string{"-machine q35,", "-cpu max,-erms", "virtio-rng-pci,addr=0x4,disable-legacy=on", "vhost-user-vsock-pci,addr=0x5,disable-legacy=on,chardev=vsock", "virtio-balloon-pci,addr=0x6,disable-legacy=on,free-page-reporting=on", "vhost-user-fs-pci,chardev=share0,tag=t,"}},
		{machineVirt, accelTCG, []string{"-machine virt,gic-version=3,", "-cpu max,pauth-impdef=on", "console=ttyAMA0 panic=-1", "vhost-user-vsock-pci"}},
		{machineVirt, accelKVM, []string{"-machine virt,gic-version=host,", "-cpu host"}},
	} {
		p := testProgram()
		p.facts.Sandbox = false
		m, err := newMachine(p, tc.kind, tc.accel, nil, hypervisor.Config{CPUs: 1, MemoryMiB: 128, Shares: []hypervisor.Share{{Tag: "t"}}})
		if err != nil {
			t.Fatal(err)
		}
		args := strings.Join(m.args(), " ")
		for _, want := range tc.want {
			if !strings.Contains(args, want) {
				t.Errorf("%s with %s: no %q in %s", tc.kind, tc.accel, want, args)
			}
		}
		for _, not := range []string{"-sandbox", "-initrd"} {
			if strings.Contains(args, not) {
				t.Errorf("%s with %s: %q in %s", tc.kind, tc.accel, not, args)
			}
		}
	}
}

func TestCommandLine(t *testing.T) {
	steady, clock := `lapic_timer_khz=1000000 tsc=reliable no_timer_check `, `tsc_early_khz=\d{6,7} `
	if runtime.GOARCH != "amd64" {
		steady, clock = "lapic_timer_khz=1000000 ", ""
	}
	for _, tc := range []struct {
		line, accel string
		cpus        int
		want        string // a regular expression
	}{
		{"", accelKVM, 1, `console=ttyS0 reboot=t panic=-1`},
		{"quiet", accelKVM, 4, `console=ttyS0 reboot=t panic=-1 quiet`},
		{"quiet", accelTCG, 1, `console=ttyS0 reboot=t panic=-1 ` + steady + clock + `quiet`},
		{"quiet", accelTCG, 2, `console=ttyS0 reboot=t panic=-1 ` + steady + clock + `quiet`},
		{"console=hvc0 panic=5 reboot=k lapic_timer_khz=2 tsc_early_khz=1 tsc=unstable no_timer_check", accelTCG, 2, `console=hvc0 panic=5 reboot=k lapic_timer_khz=2 tsc_early_khz=1 tsc=unstable no_timer_check`},
		{"tsc-early-khz=1", accelTCG, 1, `console=ttyS0 reboot=t panic=-1 ` + steady + `tsc-early-khz=1`},
		{"a -- panic=3 b", accelKVM, 1, `console=ttyS0 reboot=t panic=-1 a -- panic=3 b`},
		{`a="two  words"`, accelKVM, 1, `console=ttyS0 reboot=t panic=-1 a="two  words"`},
	} {
		m, err := newMachine(testProgram(), machineMicroVM, tc.accel, nil, hypervisor.Config{CPUs: tc.cpus, MemoryMiB: 128, CommandLine: tc.line})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.setClock(); err != nil {
			t.Fatal(err)
		}
		if got := m.commandLine(); !regexp.MustCompile("^" + tc.want + "$").MatchString(got) {
			t.Errorf("%q with %s and %d CPUs: %q, want %q", tc.line, tc.accel, tc.cpus, got, tc.want)
		}
	}
}

func TestTail(t *testing.T) {
	for _, tc := range []struct {
		writes []string
		limit  int
		want   string
	}{
		{nil, 10, ""},
		{[]string{"abc"}, 10, "abc"},
		{[]string{"abc", "defghij"}, 10, "abcdefghij"},
		{[]string{"abc", "defghijk"}, 10, "bcdefghijk"},
		{[]string{"abc", strings.Repeat("x", 5) + "0123456789"}, 10, "0123456789"},
		{[]string{"0123456789", "", "a", "b"}, 10, "23456789ab"},
	} {
		tail := &tail{limit: tc.limit}
		for _, w := range tc.writes {
			if n, err := fmt.Fprint(tail, w); n != len(w) || err != nil {
				t.Errorf("Write = %d, %v", n, err)
			}
		}
		if got := tail.String(); got != tc.want {
			t.Errorf("%q: %q, want %q", tc.writes, got, tc.want)
		}
	}
}

func TestBecause(t *testing.T) {
	for _, tc := range []struct{ stderr, all, first string }{
		{"", "", ""},
		{"\n \n", "", ""},
		{"qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69\nqemu-system-x86_64: ../kvm.c:3183: Assertion failed.\n",
			": failed to set MSR 0x10a to 0x69; ../kvm.c:3183: Assertion failed.", ": failed to set MSR 0x10a to 0x69"},
		{"/usr/libexec/qemu-kvm: no\n", ": no", ": no"},
		{"something else: no", ": something else: no", ": something else: no"},
	} {
		tail := &tail{limit: 4096}
		fmt.Fprint(tail, tc.stderr)
		if got := tail.because(); got != tc.all {
			t.Errorf("because of %q is %q, want %q", tc.stderr, got, tc.all)
		}
		if got := tail.firstLine(); got != tc.first {
			t.Errorf("firstLine of %q is %q, want %q", tc.stderr, got, tc.first)
		}
	}
}

func TestWatcher(t *testing.T) {
	const text = "panic: VFS"
	whole := "early on\n" + text + " and more"
	for cut := range whole {
		w := newWatcher([]byte(text))
		fmt.Fprint(w, whole[:cut])
		if w.has() != strings.Contains(whole[:cut], text) {
			t.Errorf("after %q: %v", whole[:cut], w.has())
		}
		for _, b := range []byte(whole[cut:]) {
			w.Write([]byte{b})
		}
		if !w.has() {
			t.Errorf("cut at %d: not found", cut)
		}
		select {
		case <-w.wrote:
		default:
			t.Error("writes were not noticed")
		}
	}
	w := newWatcher([]byte(text))
	fmt.Fprint(w, "panic: VF", "X", "FS")
	if w.has() {
		t.Error("found what was not there")
	}
}
