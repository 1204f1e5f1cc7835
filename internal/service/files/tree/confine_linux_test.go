package tree

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNames(t *testing.T) {
	for name, want := range map[string]error{
		"a": nil, "...": nil, "..a": nil, " ": nil, "\xff": nil, "\\": nil, strings.Repeat("n", 255): nil,
		"": syscall.EINVAL, ".": syscall.EINVAL, "..": syscall.EINVAL, "/": syscall.EINVAL, "a/": syscall.EINVAL,
		"/a": syscall.EINVAL, "a/../b": syscall.EINVAL, "a\x00": syscall.EINVAL, "\x00": syscall.EINVAL,
		strings.Repeat("n", 256): syscall.ENAMETOOLONG,
	} {
		if err := checkName(name); err != want {
			t.Errorf("%q: %v, want %v", name, err, want)
		}
	}
}

// TestExchangeRaces does everything to names that somebody on the host
// exchanges for links to the outside, for a file and for a directory, between
// any two steps.
func TestExchangeRaces(t *testing.T) {
	top := t.TempDir()
	shared, outside := filepath.Join(top, "shared"), filepath.Join(top, "outside")
	for _, d := range []string{shared, outside, filepath.Join(shared, "dir"), filepath.Join(outside, "inner")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put(t, outside, "secret")
	put(t, shared, "file")
	os.Symlink(filepath.Join(outside, "secret"), filepath.Join(shared, "file-link"))
	os.Symlink(outside, filepath.Join(shared, "dir-link"))
	var before unix.Stat_t
	if err := unix.Stat(filepath.Join(outside, "secret"), &before); err != nil {
		t.Fatal(err)
	}

	stop := make(chan struct{})
	var host sync.WaitGroup
	for _, name := range []string{"file", "dir"} {
		a, b := filepath.Join(shared, name), filepath.Join(shared, name+"-link")
		host.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
				}
			}
		})
	}
	root := open(t, shared, Options{}).Root()
	writeTo := func(h *Handle) {
		if _, err := h.WriteAt([]byte("guest"), 0); err != nil {
			t.Error(err)
		}
		h.Close()
	}
	var guests sync.WaitGroup
	for range 2 {
		guests.Go(func() {
			for range 1000 {
				if n, _, err := root.Lookup("file"); err == nil {
					if h, err := n.Open(OpenRead | OpenWrite | OpenTruncate); err == nil {
						writeTo(h)
					}
					n.SetAttr(SetAttr{Valid: SetMode | SetMtime, Mode: 0o600, Mtime: Timespec{Sec: 1}}, nil)
					n.SetXattr("user.x", []byte("guest"), 0)
					root.Link("hard", n)
					n.Close()
				}
				if n, h, _, err := root.Create("file", OpenWrite|OpenTruncate, 0o600, Owner{}); err == nil {
					writeTo(h)
					n.Close()
				}
				if n, h, _, err := root.Create("hard", OpenWrite, 0o600, Owner{}); err == nil {
					writeTo(h)
					n.Close()
				}
				root.Unlink("hard")
				d, _, err := root.Lookup("dir")
				if err != nil {
					continue
				}
				if n, h, _, err := d.Create("secret", OpenWrite|OpenTruncate, 0o600, Owner{}); err == nil {
					writeTo(h)
					n.Close()
				}
				d.Rmdir("inner")
				d.Rename("secret", root, "loot", 0)
				root.Rename("loot", d, "secret", 0)
				d.Unlink("secret")
				if n, _, err := d.Symlink("s", "/", Owner{}); err == nil {
					n.Close()
				}
				d.Unlink("s")
				d.Close()
			}
		})
	}
	guests.Wait()
	close(stop)
	host.Wait()

	var after unix.Stat_t
	if err := unix.Stat(filepath.Join(outside, "secret"), &after); err != nil {
		t.Fatal(err)
	}
	// The access time is not the guest's doing, nor this test's affair.
	if after.Mode != before.Mode || after.Size != before.Size || after.Mtim != before.Mtim || after.Ctim != before.Ctim || after.Nlink != 1 {
		t.Errorf("the file outside was %+v and is %+v", before, after)
	}
	if es, err := os.ReadDir(outside); err != nil || len(es) != 2 {
		t.Errorf("outside there is %v, %v", es, err)
	}
}
