//go:build linux

package volumes

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/wire"
)

func TestMountsAndFlags(t *testing.T) {
	for name, c := range map[string]struct {
		volume  volume
		kind    string
		options string
		flags   uintptr
	}{
		"share": {
			volume{Volume: wire.Volume{Kind: wire.Volume9P, Target: "/a"}, source: "/v/0"},
			"bind /v/0", "bind,rprivate,rw", 0,
		},
		"all flags": {
			volume{Volume: wire.Volume{Kind: wire.VolumeDisk, Target: "/a", ReadOnly: true, NoSUID: true, NoDev: true, NoExec: true}, source: "/v/0/data"},
			"bind /v/0/data", "bind,rprivate,ro,nosuid,nodev,noexec", unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC,
		},
		"notices on a read-only share": {
			volume{Volume: wire.Volume{Kind: wire.VolumeVirtioFS, Target: "/a", ReadOnly: true, Notify: true}, source: "/v/0"},
			"bind /v/0", "bind,rprivate,ro", 0,
		},
		"tmpfs": {
			volume{Volume: wire.Volume{Kind: wire.VolumeTmpfs, Target: "/a"}},
			"tmpfs tmpfs", "mode=1777,rw", 0,
		},
		"tmpfs with all": {
			volume{Volume: wire.Volume{Kind: wire.VolumeTmpfs, Target: "/a", Size: 4096, Mode: 0o75, GID: 1000, NoExec: true}},
			"tmpfs tmpfs", "mode=0075,size=4096,uid=0,gid=1000,rw,noexec", unix.MS_NOEXEC,
		},
	} {
		m := c.volume.mount()
		if got := m.Type + " " + m.Source; got != c.kind || m.Destination != "/a" {
			t.Errorf("%s: %+v", name, m)
		}
		if got := strings.Join(m.Options, ","); got != c.options {
			t.Errorf("%s: options %s, want %s", name, got, c.options)
		}
		if got := c.volume.flags(); got != c.flags {
			t.Errorf("%s: flags %#x, want %#x", name, got, c.flags)
		}
	}
}

func TestOptions(t *testing.T) {
	got := options9P(&wire.Volume{MSize: 262144, Cache: wire.CacheNone}, 7)
	if want := "trans=fd,rfdno=7,wfdno=7,version=9p2000.L,msize=262144,access=client,cache=none"; got != want {
		t.Errorf("9P is mounted with %s, want %s", got, want)
	}
	if got := optionsDisk(true); !strings.HasSuffix(got, ",discard") || strings.Contains(got, "nobarrier") || strings.Contains(got, "noload") {
		t.Errorf("a disk is mounted with %s", got)
	}
	if got := optionsDisk(false); strings.Contains(got, "discard") {
		t.Errorf("a disk that discards nothing is mounted with %s", got)
	}
}

func TestPlaces(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "there", "too"), 0o755); err != nil {
		t.Fatal(err)
	}
	// In the container it leads to the volume's own directory of that name.
	if err := os.Symlink("/there", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	at := func(target string, readOnly bool) *volume {
		return &volume{Volume: wire.Volume{Kind: wire.VolumeVirtioFS, Target: target, ReadOnly: readOnly}, source: dir}
	}
	tmpfs := &volume{Volume: wire.Volume{Kind: wire.VolumeTmpfs, Target: "/t", ReadOnly: true}}
	for name, c := range map[string]struct {
		volumes []*volume
		words   string
	}{
		"there":             {[]*volume{at("/a", true), at("/a/there/too", false)}, ""},
		"a link":            {[]*volume{at("/a", true), at("/a/link/too", false)}, ""},
		"missing":           {[]*volume{at("/a", true), at("/a/there/not", false)}, `the volume for /a is read-only and has no "there/not"`},
		"made":              {[]*volume{at("/a", false), at("/a/there/not", false)}, ""},
		"beside":            {[]*volume{at("/a", true), at("/ab", false)}, ""},
		"innermost decides": {[]*volume{at("/a", true), at("/a/there", false), at("/a/there/not", true), at("/a/there/not/x", false)}, `for /a/there/not is read-only`},
		"within one made":   {[]*volume{at("/a", true), at("/a/there", false), at("/a/there/x", false)}, ""},
		"empty tmpfs":       {[]*volume{tmpfs, at("/t/x", false)}, "for /t is read-only"},
	} {
		err := (&Volumes{mounted: c.volumes}).checkPlaces()
		if c.words == "" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.words != "" && (err == nil || !strings.Contains(err.Error(), c.words)) {
			t.Errorf("%s: %v; want an error with %q", name, err, c.words)
		}
	}
}

func TestMountFailures(t *testing.T) {
	if err := checkKernel(&wire.Volume{Kind: wire.VolumeDisk, Type: "no-such-filesystem"}); err == nil || !strings.Contains(err.Error(), kernelRelease()) || !strings.Contains(err.Error(), "no-such-filesystem") {
		t.Errorf("a filesystem that the kernel does not know: %v", err)
	}
	v := New(Config{Dir: t.TempDir(), Rootfs: t.TempDir()})
	err := v.Mount(t.Context(), []wire.Volume{
		{ID: "0", Kind: wire.VolumeTmpfs, Target: "/t"},
		{ID: "1", Kind: wire.VolumeDisk, Type: "tmpfs", Target: "/d", Device: "/dev/null/x"},
	})
	if err == nil || !strings.Contains(err.Error(), "the volume for /d: look for the block device") {
		t.Errorf("a device that cannot be: %v", err)
	}
	if errs := v.Close(); len(errs) > 0 {
		t.Errorf("the end of nothing: %v", errs)
	}
	if errs := v.Close(); len(errs) > 0 {
		t.Errorf("the second end: %v", errs)
	}
}

// Without 9P in the kernel that runs the test, mount(2) fails; with it, it does
// for what the server says. In either case the connection is given up.
func TestShareFailures(t *testing.T) {
	for name, c := range map[string]struct {
		serve func(net.Conn)
		words string
	}{
		"refused": {func(c net.Conn) {
			if id, err := wire.ReadVolumeHello(c); err != nil || id != "0" {
				t.Errorf("the guest asks for %q, %v", id, err)
			}
			_ = wire.WriteVolumeAnswer(c, "it is Sunday")
		}, "it is Sunday"},
		"gone":         {func(c net.Conn) { _, _ = wire.ReadVolumeHello(c) }, "the host's file server"},
		"gone at once": {func(c net.Conn) {}, "the host's file server"},
		"gone later": {func(c net.Conn) {
			_, _ = wire.ReadVolumeHello(c)
			_ = wire.WriteVolumeAnswer(c, "")
		}, "the host's file server"},
	} {
		t.Run(name, func(t *testing.T) {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			ours, theirs := conn(t, pair[0]), conn(t, pair[1])
			served := make(chan struct{})
			go func() {
				defer close(served)
				defer theirs.Close()
				c.serve(theirs)
			}()
			m := &volume{Volume: wire.Volume{ID: "0", Kind: wire.Volume9P, MSize: wire.MinMSize, Cache: wire.CacheNone}, dir: t.TempDir(), socket: -1}
			err = m.mount9P(t.Context(), func(context.Context) (Conn, error) { return ours, nil })
			if err == nil || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%v; want an error with %q", err, c.words)
			}
			if m.socket != -1 {
				t.Error("the connection was kept")
			}
			<-served
		})
	}
}

func conn(t *testing.T, fd int) Conn {
	t.Helper()
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(Conn)
}

var _ syscall.Conn = Conn(nil)

// A volume that does not end is told of, and keeps nobody.
func TestCloseIsBounded(t *testing.T) {
	stuck := make(chan struct{})
	n := &notifier{done: stuck}
	n.changed = sync.NewCond(&n.mu)
	v := &Volumes{notifier: n, mounted: []*volume{{Volume: wire.Volume{Target: "/stuck", Kind: wire.VolumeTmpfs}, socket: -1}}}
	if errs := v.close(50 * time.Millisecond); len(errs) > 0 {
		t.Errorf("a tmpfs has nothing to lose: %v", errs)
	}
	v.mounted = []*volume{{Volume: wire.Volume{Target: "/none"}, dir: "/no/such", socket: -1}}
	errs := v.close(50 * time.Millisecond)
	if len(errs) != 1 || !strings.Contains(errs[0].Error(), "/none may lack") {
		t.Errorf("a volume that cannot be written to: %v", errs)
	}
	close(stuck)
}

func TestReleased(t *testing.T) {
	if err := released("/no/such/device"); err == nil || !strings.Contains(err.Error(), "/no/such/device") {
		t.Errorf("%v", err)
	}
}

func TestExplain(t *testing.T) {
	m := &volume{Volume: wire.Volume{Type: "ext4", ReadOnly: true}}
	for _, c := range []struct {
		err   error
		words string
	}{
		{m.explainDisk(unix.EROFS), "read-write"},
		{(&volume{}).explainDisk(unix.EROFS), "the host gives it read-only"},
		{m.explainDisk(unix.EUCLEAN), "damaged"},
		{m.explainDisk(unix.ENODEV), unix.ENODEV.Error()},
		{explain9P(unix.EIO), "ended"},
		{explain9P(unix.EFAULT), "ended"},
		{explain9P(unix.EINVAL), "9pnet_fd"},
		{explain9P(unix.ENOMEM), "--memory"},
		{explain9P(unix.EPERM), unix.EPERM.Error()},
	} {
		if !strings.Contains(c.err.Error(), c.words) {
			t.Errorf("%v; want %q in it", c.err, c.words)
		}
	}
	if !slices.Contains([]string{parent("a/b"), parent("a")}, "") || parent("a/b/c") != "a/b" {
		t.Error("the directory of a path is wrong")
	}
}
