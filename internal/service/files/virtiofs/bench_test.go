//go:build linux

package virtiofs_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bake/internal/service/files/tree"
	"bake/internal/service/files/virtiofs"
)

// debian is QEMU's own server, as Debian installs it.
const debian = "/usr/lib/qemu/virtiofsd"

// theirs runs QEMU's server; it listens on a path.
func theirs(options ...string) server {
	return func(t testing.TB, dir string) *os.File {
		t.Helper()
		run, err := os.MkdirTemp("", "vfsd")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(run) })
		path := filepath.Join(run, "s")
		args := []string{"--socket-path=" + path, "-o", "source=" + dir, "-o", "sandbox=chroot", "-f"}
		for _, o := range options {
			args = append(args, "-o", o)
		}
		cmd := exec.Command(debian, args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
		})
		var conn net.Conn
		for range 1000 {
			if conn, err = net.Dial("unix", path); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		socket, err := conn.(*net.UnixConn).File()
		if err != nil {
			t.Fatal(err)
		}
		return socket
	}
}

// BenchmarkFiles compares servers in one guest: throughput in MiB/s, and the
// rest in milliseconds. BAKE_BENCH_ROUNDS is how often, and BAKE_BENCH_SIZES may
// have other numbers: of MiB, of small files, of files to find. The directories
// are in $TMPDIR.
func BenchmarkFiles(b *testing.B) {
	mib, files := 64, 2000
	found := 15000 // QEMU's server keeps a descriptor for each
	fmt.Sscan(os.Getenv("BAKE_BENCH_SIZES"), &mib, &files, &found)
	kinds := []struct {
		name  string
		serve server
	}{
		{"bake", ours(virtiofs.Options{Descriptors: 4000}, tree.Options{})},
		{"bake,cache=none", ours(virtiofs.Options{Cache: virtiofs.CacheNone, Descriptors: 4000}, tree.Options{})},
	}
	if _, err := os.Stat(debian); err == nil {
		kinds = append(kinds, []struct {
			name  string
			serve server
		}{
			{"virtiofsd", theirs("xattr")},
			{"virtiofsd,cache=none", theirs("xattr", "cache=none")},
		}...)
	}
	// QEMU's server does not serve a legacy device.
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		b.Skip(err)
	}
	var shares []share
	for _, k := range kinds {
		dir := b.TempDir()
		for i := range found {
			sub := filepath.Join(dir, "tree", fmt.Sprint(i/500))
			if i%500 == 0 {
				if err := os.MkdirAll(sub, 0o755); err != nil {
					b.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("file%05d", i)), nil, 0o644); err != nil {
				b.Fatal(err)
			}
		}
		shares = append(shares, share{dir, k.serve})
	}
	g := bootGuest(b, "", []string{qemu, "-global", "virtio-mmio.force-legacy=false"}, shares...)
	got := map[string][]float64{}
	rounds := 3
	fmt.Sscan(os.Getenv("BAKE_BENCH_ROUNDS"), &rounds)
	for range rounds {
		for i, k := range kinds {
			dir := fmt.Sprintf("/bake%d", i)
			g.sh("echo 3 >/proc/sys/vm/drop_caches")
			out := g.must("/init", "sequential", dir, fmt.Sprint(mib))
			out += "\n" + g.must("/init", "small", dir, fmt.Sprint(files))
			g.sh("echo 3 >/proc/sys/vm/drop_caches")
			out += "\n" + g.must("/init", "find", dir+"/tree", fmt.Sprint(found))
			b.Logf("%s: %s", k.name, strings.Join(strings.Fields(out), " "))
			for line := range strings.Lines(out) {
				var what string
				var us float64
				if _, err := fmt.Sscan(line, &what, &us); err != nil {
					b.Fatalf("%q: %v", line, err)
				}
				v := us / 1000
				if what == "read" || what == "write" {
					v = float64(mib) / (us / 1e6)
				}
				got[k.name+" "+what] = append(got[k.name+" "+what], v)
			}
		}
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%-22s", "")
	all := []string{"write", "read", "create", "stat", "readall", "unlink", "find"}
	for _, what := range all {
		fmt.Fprintf(&text, "%10s", what)
	}
	for _, k := range kinds {
		fmt.Fprintf(&text, "\n%-22s", k.name)
		for _, what := range all {
			v := got[k.name+" "+what]
			slices.Sort(v)
			fmt.Fprintf(&text, "%10.0f", v[len(v)/2])
		}
	}
	b.Logf("write and read of %d MiB in MiB/s; %d files, find over %d in ms; median of %d\n%s", mib, files, found, rounds, &text)
}
