//go:build linux

package virtiofs_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"bake/internal/service/files/tree"
	"bake/internal/service/files/virtiofs"
)

func (s share) path(name string) string { return filepath.Join(s.dir, name) }

func (s share) read(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(s.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (s share) write(t testing.TB, name, content string) {
	t.Helper()
	if err := os.WriteFile(s.path(name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// One machine with shares of each cache mode.
func TestGuest(t *testing.T) {
	modes := []virtiofs.Cache{virtiofs.CacheDefault, virtiofs.CacheNone, virtiofs.CacheLoose}
	var shares []share
	for _, c := range modes {
		shares = append(shares, share{t.TempDir(), ours(virtiofs.Options{Cache: c, Descriptors: 20}, tree.Options{})})
	}
	shares = append(shares, share{t.TempDir(), ours(virtiofs.Options{}, tree.Options{ReadOnly: true})})
	g := bootGuest(t, "", nil, shares...)
	for i, c := range modes {
		name := string(c)
		if name == "" {
			name = "default"
		}
		mount := "/bake" + string(rune('0'+i))
		t.Run(name, func(t *testing.T) {
			g := &guest{t, g.vm}
			g.use(mount, shares[i])
			if c != virtiofs.CacheLoose {
				g.seeHost(mount, shares[i])
			}
		})
	}
	t.Run("ReadOnly", func(t *testing.T) {
		g := &guest{t, g.vm}
		s := shares[3]
		s.write(t, "f", "for reading")
		equal(t, "cat", g.sh("cat /bake3/f"), "for reading")
		for _, script := range []string{"echo >/bake3/f", "echo >/bake3/new", "rm /bake3/f", "mkdir /bake3/d", "chmod 0 /bake3/f", "mv /bake3/f /bake3/g"} {
			if out, code, err := g.run("/bin/sh", "-c", script); code == 0 || err != nil {
				t.Errorf("%s: %v\n%s", script, err, out)
			}
		}
		equal(t, "the file", s.read(t, "f"), "for reading")
	})
}

// use is what a guest does with its own files.
func (g *guest) use(mount string, s share) {
	t := g.t
	g.sh("cd " + mount + `
		echo hello >f; echo again >>f
		mkdir d; mv f d/g; ln d/g h; ln -s d/g l
		mkfifo p; chmod 4751 d/g; touch -d @1000000000 d/g
		chown 12:34 d/g`)
	equal(t, "the file", s.read(t, "d/g"), "hello\nagain\n")
	equal(t, "the other name", s.read(t, "h"), "hello\nagain\n")
	var st unix.Stat_t
	if err := unix.Stat(s.path("d/g"), &st); err != nil {
		t.Fatal(err)
	}
	// chown takes suid away, and comes last.
	equal(t, "mode", st.Mode, unix.S_IFREG|0o751)
	equal(t, "owner", [2]uint32{st.Uid, st.Gid}, [2]uint32{12, 34})
	equal(t, "links", st.Nlink, 2)
	equal(t, "time", st.Mtim.Sec, 1000000000)
	equal(t, "stat", g.sh("cd "+mount+"; stat -c '%s %a %u:%g %h %Y %F' d/g"), "12 751 12:34 2 1000000000 regular file")
	equal(t, "link", g.sh("cd "+mount+"; readlink l; cat l; ls"), "d/g\nhello\nagain\nd\nh\nl\np")
	if target, err := os.Readlink(s.path("l")); err != nil || target != "d/g" {
		t.Errorf("the link on the host: %q, %v", target, err)
	}
	g.must("/init", "unlinked", mount+"/u")
	g.must("/init", "mapped", mount+"/m")
	if b := s.read(t, "m"); len(b) != 8192 || b[:7] != "written" || b[4000:4022] != "mapped, across pages: " || b[4221] != 'x' {
		t.Errorf("what was mapped is %d bytes, %q", len(b), b[:min(len(b), 10)])
	}
	g.must("/init", "appended", mount+"/a")
	equal(t, "written through a mapping of a file that appends", s.read(t, "a"), "01AB456789")
	g.must("/init", "holes", mount+"/holes")
	g.must("/init", "copy", mount+"/m", mount+"/copied")
	equal(t, "copied", s.read(t, "copied") == s.read(t, "m"), true)
	// Larger than a request.
	g.sh("cd " + mount + "; dd if=/dev/urandom of=big bs=1000003 count=5 2>/dev/null; sync; cp big big2; echo 3 >/proc/sys/vm/drop_caches; cmp big big2")
	equal(t, "big", len(s.read(t, "big2")), 5000015)
	equal(t, "big2", s.read(t, "big2") == s.read(t, "big"), true)
	// More than one request of names.
	g.sh("cd " + mount + "; mkdir many; cd many; for i in $(seq 500); do : >file-with-a-long-name-$i; done")
	equal(t, "names", g.sh("cd "+mount+"/many; ls | wc -l; rm -r ../many; ls -a .. | grep -c many || true"), "500\n0")
}

// seeHost is what a guest sees of changes on the host.
func (g *guest) seeHost(mount string, s share) {
	t := g.t
	// until waits for what a cache may hide for a moment.
	until := func(script, want string) {
		t.Helper()
		equal(t, script, g.sh("i=0; until [ \"$("+script+")\" = '"+want+"' ] || [ $i = 600 ]; do sleep 0.1; i=$((i+1)); done; "+script), want)
	}
	s.write(t, "host", "one")
	until("cat "+mount+"/host", "one")
	s.write(t, "host", "another")
	until("cat "+mount+"/host", "another")
	s.write(t, "host", "1")
	until("cat "+mount+"/host", "1")
	until("stat -c %s "+mount+"/host", "1")
	if err := os.Rename(s.path("host"), s.path("moved")); err != nil {
		t.Fatal(err)
	}
	until("cat "+mount+"/moved; ls "+mount+"/host 2>/dev/null || echo gone", "1gone")
	if err := os.Remove(s.path("moved")); err != nil {
		t.Fatal(err)
	}
	until("ls "+mount+"/moved 2>/dev/null || echo gone", "gone")
}
