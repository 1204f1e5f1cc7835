//go:build linux

package qemu

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bake/internal/ext4"
	"bake/internal/hypervisor"
	"bake/internal/hypervisor/hypervisortest/testguest"
)

const journalPort = 2001

// QEMU is killed in the middle of a guest's writes to a volume. What fsync(2)
// acknowledged is there, and the filesystem is whole after its journal was
// written back.
func TestSyncedSurvivesKill(t *testing.T) {
	name := filepath.Join(t.TempDir(), "volume")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	const size = 64 << 20
	if err := file.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := ext4.Format(file, size, ext4.Options{Durable: true}); err != nil {
		t.Fatal(err)
	}
	m := testGuest(t).New(t, &Driver{}, func(c *hypervisor.Config) {
		c.Disks = []hypervisor.Disk{{Resource: hypervisor.Resource{Name: "volume", File: file, Size: -1}, Durable: true}}
	})
	l, err := m.ListenVsock(journalPort)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m.StartAndWait(t)
	asked := make(chan error, 1)
	go func() {
		_, err := m.Ask(testguest.Request{Op: testguest.OpJournal, Port: journalPort})
		l.Close() // it may have failed before it connected
		asked <- err
	}()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Minute))
	lines := bufio.NewScanner(conn)
	synced := 0
	for synced < 250 && lines.Scan() {
		synced++
	}
	if synced < 250 {
		t.Fatalf("the guest synced %d lines and no more: %v, %v", synced, lines.Err(), <-asked)
	}
	kill(t, m.VM)
	for lines.Scan() { // what came before the end
		synced++
	}
	m.WaitEnd(t)
	<-asked

	out, err := exec.Command("e2fsck", "-fy", name).CombinedOutput()
	var status *exec.ExitError
	if err != nil && (!errors.As(err, &status) || status.ExitCode() != 1) { // 1: the journal was written back
		t.Fatalf("e2fsck: %v\n%s", err, out)
	}
	if !strings.Contains(string(out), "recovering journal") {
		t.Errorf("the guest was not killed in the middle: %s", out)
	}
	if out, err := exec.Command("e2fsck", "-fn", name).CombinedOutput(); err != nil {
		t.Errorf("e2fsck afterwards: %v\n%s", err, out)
	}
	log, err := exec.Command("debugfs", "-R", "cat /log", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	for i := range synced {
		want := fmt.Sprintf("%08d\n", i)
		if at := i * len(want); len(log) < at+len(want) || string(log[at:at+len(want)]) != want {
			t.Fatalf("line %d of %d that were synced is not in the volume's log of %d bytes", i, synced, len(log))
		}
	}
	t.Logf("%d lines were synced, %d are there", synced, len(log)/9)
}

// QEMU passes the guest's flushes of a durable disk on, and no others.
func TestFlushes(t *testing.T) {
	for _, tc := range []struct {
		disk       diskWindow
		has, hasNo string
	}{
		{diskWindow{durable: true}, "discard=unmap,file.discard=unmap", "no-flush"},
		{diskWindow{}, "discard=unmap,file.discard=unmap,cache.no-flush=on,file.cache.no-flush=on", "read-only"},
		{diskWindow{readOnly: true, durable: true}, "read-only=on,file.read-only=on", "discard"},
	} {
		got := tc.disk.blockdev(0)
		if !strings.Contains(got, tc.has) || strings.Contains(got, tc.hasNo) || strings.Contains(got, "cache.direct") {
			t.Errorf("%+v: %s, want %s and no %s", tc.disk, got, tc.has, tc.hasNo)
		}
	}
}

// Many disks take a PCI bus, and few none.
func TestPCIOfMicroVM(t *testing.T) {
	disk := hypervisor.Disk{Resource: hypervisor.Resource{Bytes: make([]byte, 512)}, ReadOnly: true}
	for n, want := range map[int]string{
		maxMMIO:     "virtio-blk-device,drive=disk15",
		maxMMIO + 1: "virtio-blk-pci,addr=0x18,disable-legacy=on,drive=disk16",
		maxDisks:    "virtio-blk-pci,addr=0x1d,disable-legacy=on,drive=disk21",
	} {
		cfg := hypervisor.Config{CPUs: 1, MemoryMiB: 128}
		for range n {
			cfg.Disks = append(cfg.Disks, disk)
		}
		m, err := newMachine(testProgram(), machineMicroVM, accelTCG, nil, cfg)
		if err != nil {
			t.Fatal(err)
		}
		args := strings.Join(m.args(), " ")
		if !strings.Contains(args, want) || strings.Contains(args, "pcie=on") != (n > maxMMIO) || strings.Contains(args, "vhost-user-vsock-pci") != (n > maxMMIO) {
			t.Errorf("%d disks: %s, want %s", n, args, want)
		}
	}
}
