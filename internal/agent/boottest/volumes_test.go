//go:build boot && linux

package boottest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"bake/internal/ext4"
	"bake/internal/service/files/ninep"
	"bake/internal/service/files/tree"
	"bake/internal/wire"
)

// share makes the host's directory dir a volume of the guest.
func (g *guest) share(v wire.Volume, dir string) {
	g.t.Helper()
	v.Kind, v.MSize = wire.Volume9P, 256<<10
	if v.Cache == "" {
		v.Cache = wire.CacheMmap
	}
	root, err := os.Open(dir)
	if err != nil {
		g.t.Fatal(err)
	}
	t, err := tree.Open(root, tree.Options{ReadOnly: v.ReadOnly, File: v.File})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { t.Close(); root.Close() })
	g.manifest.Volumes = append(g.manifest.Volumes, v)
	before := g.files
	g.files = func(c net.Conn) {
		id, err := wire.ReadVolumeHello(c)
		if err != nil {
			g.t.Error(err)
			return
		}
		g.serveVolume(c, id, map[string]*tree.Tree{v.ID: t})
	}
	if before != nil {
		g.t.Fatal("one share is what these tests need")
	}
}

func (g *guest) serveVolume(c net.Conn, id string, trees map[string]*tree.Tree) {
	t := trees[id]
	if t == nil {
		_ = wire.WriteVolumeAnswer(c, "there is no volume "+id)
		return
	}
	if err := wire.WriteVolumeAnswer(c, ""); err != nil {
		g.t.Error(err)
		return
	}
	// The guest's end breaks the connection.
	_ = ninep.Serve(context.Background(), c, t, ninep.Limits{})
}

// disk adds a disk with an ext4 filesystem.
func (g *guest) disk(v wire.Volume, path string) {
	v.Kind, v.Type, v.Device = wire.VolumeDisk, "ext4", fmt.Sprintf("/dev/vd%c", 'c'+len(g.disks))
	g.manifest.Volumes = append(g.manifest.Volumes, v)
	g.disks = append(g.disks, disk{path, v.ReadOnly})
}

func formatDisk(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "volume.ext4")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 64 << 20
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := ext4.Format(f, size, ext4.Options{Durable: true}); err != nil {
		t.Fatal(err)
	}
	return path
}

// checkDisk says whether the filesystem was unmounted and is whole.
func checkDisk(t *testing.T, path string) {
	t.Helper()
	if out, err := exec.Command("e2fsck", "-fn", path).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v: %s", err, out)
	}
	out, err := exec.Command("dumpe2fs", "-h", path).CombinedOutput()
	if err != nil || strings.Contains(string(out), "needs_recovery") {
		t.Errorf("the journal is not empty after the guest's end: %v: %s", err, out)
	}
}

func TestShare(t *testing.T) {
	for _, cache := range []string{wire.CacheNone, wire.CacheMmap, wire.CacheLoose} {
		t.Run(cache, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "of-host"), []byte("from the host\n"), 0o640); err != nil {
				t.Fatal(err)
			}
			g := newGuest(t, "sh", "-c", strings.Join([]string{
				"set -e; cd /srv/made",
				"cat of-host; stat -c %a of-host",
				"echo from the guest >of-guest; mkdir d; ln -s of-guest link; ln of-guest hard; mv d e",
				"head -c 3000000 /dev/zero >zeroes; sync",
				"grep ' /srv/made ' /proc/mounts | sed 's/,rfd.*//'",
			}, "\n"))
			g.share(wire.Volume{ID: "0", Target: "/srv/made", Cache: cache, NoDev: true}, dir)
			g.boot()
			g.wantExit(0, "")
			if out := g.stdout.String(); !strings.HasPrefix(out, "from the host\n640\nbake0 /srv/made 9p rw,nodev") || !strings.Contains(out, "trans=fd") {
				t.Errorf("the guest says %q", out)
			}
			if b, err := os.ReadFile(filepath.Join(dir, "link")); err != nil || string(b) != "from the guest\n" {
				t.Errorf("the host reads %q, %v", b, err)
			}
			if fi, err := os.Stat(filepath.Join(dir, "zeroes")); err != nil || fi.Size() != 3000000 {
				t.Errorf("the large file is %v, %v", fi, err)
			}
			if fi, err := os.Stat(filepath.Join(dir, "e")); err != nil || !fi.IsDir() {
				t.Errorf("the directory is %v, %v", fi, err)
			}
		})
	}
}

func TestShareOfAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, []byte("old\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	g := newGuest(t, "sh", "-c", "cat /etc/bread.conf; echo new >/etc/bread.conf; ls /etc/bread.conf")
	g.share(wire.Volume{ID: "0", Target: "/etc/bread.conf", File: true}, path)
	g.boot()
	g.wantExit(0, "")
	g.wantOutput("old\n/etc/bread.conf\n")
	if b, err := os.ReadFile(path); err != nil || string(b) != "new\n" {
		t.Errorf("the host reads %q, %v", b, err)
	}
}

// A disk has its data after the next boot too; a named volume begins with what
// the image has; everything is mounted where it should be.
func TestDisksAndTmpfs(t *testing.T) {
	named, whole := formatDisk(t), formatDisk(t)
	boot := func(script string) *guest {
		g := newGuest(t, "sh", "-c", script)
		g.disk(wire.Volume{ID: "0", Target: "/data", Subdir: "data", CopyUp: true}, named)
		g.disk(wire.Volume{ID: "1", Target: "/data/inner", NoSUID: true, NoExec: true}, whole)
		g.manifest.Volumes = append(g.manifest.Volumes, wire.Volume{ID: "2", Kind: wire.VolumeTmpfs, Target: "/cache", Size: 1 << 20, Mode: 0o750})
		return g.boot()
	}
	g := boot(strings.Join([]string{
		"cat /data/a/b; echo first >/data/new; echo in >/data/inner/side; ls /data/inner /data",
		"stat -c %a /cache; head -c 2000000 /dev/zero 2>/dev/null >/cache/full || echo full; stat -c %s /cache/full",
		"cp /bin/busybox /data/inner/; /data/inner/busybox true || echo not executed",
	}, "\n"))
	g.wantExit(0, "")
	g.wantOutput("deep\n/data:\na\ninner\nnew\n\n/data/inner:\nlost+found\nside\n750\nfull\n1048576\nnot executed\n")
	checkDisk(t, named)
	checkDisk(t, whole)

	g = boot("rm -r /data/a; cat /data/new /data/inner/side; ls /cache")
	g.wantExit(0, "")
	g.wantOutput("first\nin\n")

	// What was deleted in it does not come again from the image.
	g = newGuest(t, "sh", "-c", "ls /data; echo no >/data/new || echo refused")
	g.disk(wire.Volume{ID: "0", Target: "/data", Subdir: "data", CopyUp: true, ReadOnly: true}, named)
	g.boot()
	g.wantExit(0, "")
	g.wantOutput("inner\nnew\nrefused\n")
	checkDisk(t, named)
}

// A disk whose guest was killed is not mounted as it is, without its journal,
// and is whole after a guest that may write to it.
func TestDiskOfAKilledGuest(t *testing.T) {
	path := formatDisk(t)
	if out, err := exec.Command("debugfs", "-w", "-R", "feature needs_recovery", path).CombinedOutput(); err != nil {
		t.Fatalf("debugfs: %v: %s", err, out)
	}
	g := newGuest(t, "true")
	g.disk(wire.Volume{ID: "0", Target: "/data", ReadOnly: true}, path)
	g.boot()
	g.wantFailed(125, "/data", "journal", "read-write")

	g = newGuest(t, "true")
	g.disk(wire.Volume{ID: "0", Target: "/data"}, path)
	g.boot()
	g.wantExit(0, "")
	checkDisk(t, path)
}

func TestTargetBehindALink(t *testing.T) {
	image, err := makeImage(t.TempDir(), func(root string) error {
		return os.Symlink("/../../run", filepath.Join(root, "way-out"))
	})
	if err != nil {
		t.Fatal(err)
	}
	g := newGuest(t, "sh", "-c", "grep -c ' /run/volume ' /proc/mounts; echo x >/way-out/volume/y; cat /run/volume/y")
	g.image = image
	g.manifest.Volumes = []wire.Volume{{ID: "0", Kind: wire.VolumeTmpfs, Target: "/way-out/volume"}}
	g.boot()
	g.wantExit(0, "")
	g.wantOutput("1\nx\n")
}

func TestVolumeFailures(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*guest)
		words  []string
	}{
		"no such disk": {func(g *guest) {
			g.manifest.Volumes = []wire.Volume{{ID: "0", Kind: wire.VolumeDisk, Target: "/data", Device: "/dev/vdz", Type: "ext4"}}
		}, []string{"/data", "/dev/vdz", "did not appear"}},
		"no filesystem": {func(g *guest) { g.disk(wire.Volume{ID: "0", Target: "/data"}, empty) }, []string{"/data", "holds no ext4"}},
		"no place": {func(g *guest) {
			g.disk(wire.Volume{ID: "0", Target: "/data", ReadOnly: true}, formatDisk(t))
			g.manifest.Volumes = append(g.manifest.Volumes, wire.Volume{ID: "1", Kind: wire.VolumeTmpfs, Target: "/data/b/c"})
		}, []string{"/data/b/c", "no place", "read-only"}},
		"refused": {func(g *guest) {
			g.share(wire.Volume{ID: "0", Target: "/srv"}, t.TempDir())
			g.files = func(c net.Conn) {
				_, _ = wire.ReadVolumeHello(c)
				_ = wire.WriteVolumeAnswer(c, "it is Sunday")
			}
		}, []string{"/srv", "it is Sunday"}},
		"gone": {func(g *guest) {
			g.share(wire.Volume{ID: "0", Target: "/srv"}, t.TempDir())
			g.files = func(c net.Conn) {
				_, _ = wire.ReadVolumeHello(c)
				_ = wire.WriteVolumeAnswer(c, "")
			}
		}, []string{"/srv", "ended"}},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t, "true")
			c.change(g)
			g.boot()
			g.wantFailed(125, c.words...)
		})
	}
}

// A file server that dies, or says nothing any more, keeps neither the command
// nor the guest, and the user hears of what was written and is not there.
func TestFileServerDies(t *testing.T) {
	dir := t.TempDir()
	g := newGuest(t, "sh", "-c", "echo ready; read x; cat /srv/f 2>&1 || echo failed; echo y >/srv/g || echo failed; exit 4")
	g.share(wire.Volume{ID: "0", Target: "/srv"}, dir)
	serve := g.files
	var server atomic.Pointer[net.Conn]
	g.files = func(c net.Conn) {
		server.Store(&c)
		serve(c)
	}
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	g.stdin = in
	g.onOutput = func(g *guest, all string) {
		if all == "ready\n" {
			(*server.Load()).Close()
			out.WriteString("go\n")
			out.Close()
		}
	}
	g.boot()
	g.wantExit(4, "")
	if n := strings.Count(g.stdout.String(), "failed\n"); n != 2 {
		t.Errorf("the guest says %q", g.stdout.String())
	}
}

// What the host says has changed is an event for those who watch, in a
// directory below the volume's root too, and the new size is seen.
func TestNotify(t *testing.T) {
	image, err := makeImage(t.TempDir(), func(root string) error {
		build := exec.Command("go", "build", "-o", filepath.Join(root, "bin/inotify"), "bake/internal/agent/boottest/inotify")
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build inotify: %w: %s", err, out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, cache := range []string{wire.CacheNone, wire.CacheMmap} {
		t.Run(cache, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755); err != nil {
				t.Fatal(err)
			}
			watched := filepath.Join(dir, "a", "b", "f")
			if err := os.WriteFile(watched, []byte("short"), 0o644); err != nil {
				t.Fatal(err)
			}
			g := newGuest(t, "sh", "-c", "cat /srv/a/b/f >/dev/null; inotify /srv/a /srv/a/b; stat -c %s /srv/a/b/f")
			g.image = image
			g.share(wire.Volume{ID: "0", Target: "/srv", Notify: true, Cache: cache}, dir)
			g.onOutput = func(g *guest, all string) {
				if all != "ready\n" {
					return
				}
				g.send(wire.HostMessage{Type: wire.HostVolume, Volume: "0", Path: []byte("a/gone"), Op: wire.VolumeRemove})
				if err := os.WriteFile(watched, []byte("much longer"), 0o644); err != nil {
					t.Error(err)
				}
				g.send(wire.HostMessage{Type: wire.HostVolume, Volume: "0", Path: []byte("a/b/f"), Op: wire.VolumeWrite})
			}
			g.boot()
			g.wantExit(0, "")
			// IN_ATTRIB of the directory a, then of f, IN_MODIFY, IN_CLOSE_WRITE.
			g.wantOutput("ready\n40000004 \n4 f\n2 f\n8 f\n11\n")
		})
	}
}
