//go:build linux

package app

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/hypervisor"
	"bake/internal/hypervisor/fake"
	"bake/internal/payload"
	"bake/internal/service/files"
	"bake/internal/service/files/filestest"
	"bake/internal/volume"
	"bake/internal/wire"
)

// TestMain is the file server too, and itself in the background: an app's program
// is.
func TestMain(m *testing.M) {
	if os.Getenv(backgroundApp) != "" {
		os.Exit(inBackgroundMain())
	}
	if files.IsRole(os.Args) {
		os.Exit(files.Main(os.Args))
	}
	// Apps that are started ignore what this process does, and nohup(1) may have
	// told it to ignore a terminal's end.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	code := m.Run()
	program.Remove()
	os.Exit(code)
}

var program filestest.Program

func spec(t *testing.T, s string, change ...func(*volume.Spec)) volume.Spec {
	t.Helper()
	v, err := volume.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(&v)
	}
	return v
}

func mode(mode string) func(*volume.Spec) { return func(s *volume.Spec) { s.Mode = mode } }

func TestPlanOfVolumes(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("HOME", dir)
	if err := os.WriteFile("f", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("i.img", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	tmpfs, err := volume.ParseTmpfs("/t:64m")
	if err != nil {
		t.Fatal(err)
	}
	vhostUser := hypervisor.Capabilities{MaxDisks: 16, VhostUserFS: true}
	for _, tc := range []struct {
		name   string
		specs  []volume.Spec
		caps   hypervisor.Capabilities
		want   []wire.Volume
		shares int
	}{
		{"none", nil, vhostUser, nil, 0},
		{"virtiofs where it is, and what is inside comes after", []volume.Spec{spec(t, ".:/a/b:ro,nosuid"), spec(t, "~:/a:notify,cache=none")}, vhostUser, []wire.Volume{
			{ID: "0", Kind: "virtiofs", Target: "/a", Notify: true},
			{ID: "1", Kind: "virtiofs", Target: "/a/b", ReadOnly: true, NoSUID: true},
		}, 2},
		{"9P where it is not, or is asked for", []volume.Spec{spec(t, "./f:/f", mode("9p"))}, vhostUser, []wire.Volume{
			{ID: "0", Kind: "9p", Target: "/f", File: true, Notify: true, Cache: defaultCache, MSize: msize},
		}, 0},
		{"9P with its cache", []volume.Spec{spec(t, "./n:/n:create,cache=loose")}, hypervisor.Capabilities{MaxDisks: 16}, []wire.Volume{
			{ID: "0", Kind: "9p", Target: "/n", Cache: "loose", MSize: msize},
		}, 0},
		{"disks have their places first", []volume.Spec{spec(t, ".:/s"), spec(t, "data:/d:noexec"), spec(t, "data2:/d2:nocopy"), spec(t, "i.img:/i:ext4,ro")}, hypervisor.Capabilities{MaxDisks: 5, VhostUserFS: true}, []wire.Volume{
			{ID: "0", Kind: "9p", Target: "/s", Cache: defaultCache, MSize: msize},
			{ID: "1", Kind: "disk", Target: "/d", Device: "/dev/vdc", Type: "ext4", Subdir: "data", CopyUp: true, NoExec: true},
			{ID: "2", Kind: "disk", Target: "/d2", Device: "/dev/vdd", Type: "ext4", Subdir: "data"},
			{ID: "3", Kind: "disk", Target: "/i", Device: "/dev/vde", Type: "ext4", ReadOnly: true},
		}, 0},
		{"memory", []volume.Spec{tmpfs}, vhostUser, []wire.Volume{
			{ID: "0", Kind: "tmpfs", Target: "/t", Size: 64 << 20, Mode: 0o1777, NoSUID: true, NoDev: true, NoExec: true},
		}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pl := &plan{config: hypervisor.Config{Disks: make([]hypervisor.Disk, 2)}}
			if err := pl.addVolumes(tc.specs, tc.caps); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(pl.manifest.Volumes, tc.want) || len(pl.config.Shares) != tc.shares {
				t.Errorf("got  %+v, %d shares\nwant %+v, %d", pl.manifest.Volumes, len(pl.config.Shares), tc.want, tc.shares)
			}
			for i, v := range pl.volumes {
				switch w := tc.want[i]; w.Kind {
				case wire.VolumeDisk:
					if d := pl.config.Disks[v.disk]; !d.Durable || d.ReadOnly != w.ReadOnly || diskDevice(v.disk) != w.Device {
						t.Errorf("%s is on %+v", w.Target, d)
					}
				case wire.VolumeVirtioFS:
					if s := pl.config.Shares[v.share]; s.Tag != w.Tag() {
						t.Errorf("%s has the tag %s", w.Target, s.Tag)
					}
				}
			}
		})
	}
	for _, tc := range []struct {
		want  string
		specs []volume.Spec
		caps  hypervisor.Capabilities
	}{
		{"there is no", []volume.Spec{spec(t, "./none:/n")}, vhostUser},
		{"vhost-user-fs", []volume.Spec{spec(t, ".:/n", mode("virtiofs"))}, hypervisor.Capabilities{MaxDisks: 16}},
		{"together", []volume.Spec{spec(t, ".:/n", mode("virtiofs"))}, hypervisor.Capabilities{MaxDisks: 2, VhostUserFS: true}},
		{"more than this hypervisor takes", []volume.Spec{spec(t, "a:/a"), spec(t, "b:/b")}, hypervisor.Capabilities{MaxDisks: 3}},
		{"two volumes", []volume.Spec{spec(t, "a:/a"), spec(t, "b:/a")}, vhostUser},
	} {
		pl := &plan{config: hypervisor.Config{Disks: make([]hypervisor.Disk, 2)}}
		if err := pl.addVolumes(tc.specs, tc.caps); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: got %v, want an error with %q", tc.specs, err, tc.want)
		}
	}
}

func TestDiskDevices(t *testing.T) {
	for i, want := range map[int]string{0: "/dev/vda", 25: "/dev/vdz", 26: "/dev/vdaa", 51: "/dev/vdaz", 52: "/dev/vdba", 701: "/dev/vdzz", 702: "/dev/vdaaa"} {
		if got := diskDevice(i); got != want {
			t.Errorf("disk %d is %s, want %s", i, got, want)
		}
	}
}

// A run with a folder and a named volume, up to where the kernel would mount
// them.
func TestRunWithVolumes(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_DATA_HOME", dir)
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	o := Options{Volumes: []volume.Spec{spec(t, filepath.Join(dir, "d")+":/d:notify"), spec(t, "data:/data")}}
	o.fileServer = program.Path(t)
	r := runGuest(t, payload.Manifest{}, o, func(_ context.Context, m *fake.Machine) {
		a := boot(t, m)
		v := a.manifest.Volumes
		if len(v) != 2 || v[0].Kind != wire.Volume9P || v[1].Device != "/dev/vdc" {
			t.Errorf("the guest has the volumes %+v", v)
		}
		// The disk is an ext4 filesystem, and nobody else's.
		magic := make([]byte, 2)
		if err := a.ReadDisk(2, magic, 1024+56); err != nil || magic[0] != 0x53 || magic[1] != 0xef {
			t.Errorf("the disk has the magic number %x, %v", magic, err)
		}
		if _, err := openDisk(o.Volumes[1]); !errors.Is(err, volume.ErrInUse) {
			t.Errorf("a second user of the volume gets %v", err)
		}
		conn, err := a.Dial(wire.PortFiles)
		if err != nil {
			t.Errorf("dial the files: %v", err)
			return
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(time.Minute))
		if err := wire.WriteVolumeHello(conn, v[0].ID); err != nil {
			t.Error(err)
		}
		if err := wire.ReadVolumeAnswer(conn); err != nil {
			t.Error(err)
		}
		// Tversion: size, type 100, no tag, msize, version.
		version := "\x15\x00\x00\x00\x64\xff\xff\x00\x20\x00\x00\x08\x009P2000.L"
		if _, err := conn.Write([]byte(version)); err != nil {
			t.Error(err)
		}
		reply := make([]byte, 256)
		if n, err := conn.Read(reply); err != nil || n < 7 || reply[4] != 101 {
			t.Errorf("the 9P server answers %q, %v", reply[:n], err)
		}
		a.say(wire.GuestMessage{Type: wire.GuestStarted})
		changed := make(chan struct{})
		go func() {
			// The app learns of the start some time after it was said.
			for {
				select {
				case <-changed:
					return
				default:
					os.WriteFile(filepath.Join(dir, "d", "f"), []byte("x"), 0o644)
				}
			}
		}()
		if got := a.hear(); got.Type != wire.HostVolume || got.Volume != v[0].ID || string(got.Path) != "f" {
			t.Errorf("the host says %+v of the new file", got)
		}
		close(changed)
		a.output(wire.Stdout, "")
		a.output(wire.Stderr, "")
		a.say(wire.GuestMessage{Type: wire.GuestExit})
		for a.hear().Type == wire.HostVolume {
		}
		a.PowerOff()
	})
	if r.err != nil || r.stderr != "" {
		t.Errorf("got %+v", r)
	}
	f, err := openDisk(o.Volumes[1])
	if err != nil {
		t.Errorf("the volume is in use after the run: %v", err)
	} else {
		f.Close()
	}
}

// A file server that cannot start ends the run before anything boots, and one
// that dies is a sentence.
func TestFileServerFails(t *testing.T) {
	dir := t.TempDir()
	o := Options{Volumes: []volume.Spec{spec(t, dir+":/d")}}
	o.fileServer = filepath.Join(dir, "none")
	r := runGuest(t, payload.Manifest{}, o, func(context.Context, *fake.Machine) { t.Error("the guest boots") })
	r.wantError(t, CodeFailed, "the process that serves the volumes")

	o.fileServer = program.Path(t)
	signals := make(chan os.Signal)
	r = runWatched(t, payload.Manifest{}, o, signals, func(_ context.Context, m *fake.Machine, stderr *live) {
		a := boot(t, m)
		killChildren(t)
		stderr.wait("I/O errors")
		a.say(wire.GuestMessage{Type: wire.GuestStarted})
		a.end(wire.GuestMessage{Type: wire.GuestExit})
	})
	if r.err != nil || !strings.Contains(r.stderr, "the file server has ended") {
		t.Errorf("got %+v", r)
	}
}

// killChildren kills this process's file servers.
func killChildren(t *testing.T) {
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	killed := 0
	for _, task := range tasks {
		data, err := os.ReadFile(task)
		if err != nil {
			continue
		}
		for pid := range strings.FieldsSeq(string(data)) {
			cmdline, _ := os.ReadFile("/proc/" + pid + "/cmdline")
			if !strings.HasPrefix(string(cmdline), "bake.files\x00") {
				continue
			}
			n := 0
			for _, c := range pid {
				n = n*10 + int(c-'0')
			}
			if err := unix.Kill(n, unix.SIGKILL); err != nil {
				t.Errorf("kill %s: %v", pid, err)
			}
			killed++
		}
	}
	if killed != 1 {
		t.Errorf("there are %d file servers", killed)
	}
}
