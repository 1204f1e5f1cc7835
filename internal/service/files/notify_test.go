//go:build linux

package files

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"bake/internal/wire"
)

// until takes changes up to the given one, and returns those before it.
func (r *rig) until(t *testing.T, path, op string) (before []Change) {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		select {
		case c := <-r.changes:
			if string(c.Path) == path && c.Op == op {
				return before
			}
			before = append(before, c)
		case <-limit:
			t.Fatalf("%s %q is not reported, but %q", op, path, before)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestChanges(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	in := func(names ...string) string { return filepath.Join(append([]string{dir}, names...)...) }
	must(t, os.MkdirAll(in("old", "deep"), 0o755))
	must(t, os.Symlink(elsewhere, in("link")))
	write(t, in("old", "deep", "f"))
	write(t, in("same"))
	r := newRig(t, openRoot(t, "0", dir, notify))
	r.serve(t)

	// The directories that were there are watched in the background.
	deadline := time.Now().Add(time.Minute)
	for found := false; !found; {
		if time.Now().After(deadline) {
			t.Fatal("what is in old/deep is not watched")
		}
		write(t, in("old", "deep", "f"))
		select {
		case c := <-r.changes:
			found = string(c.Path) == "old/deep/f" && c.Op == wire.VolumeWrite
		case <-time.After(10 * time.Millisecond):
		}
	}

	write(t, in("a"))
	r.until(t, "a", wire.VolumeCreate)
	r.until(t, "a", wire.VolumeWrite)
	must(t, os.Rename(in("a"), in("b")))
	r.until(t, "a", wire.VolumeRename)
	r.until(t, "b", wire.VolumeCreate)
	must(t, os.Remove(in("b")))
	r.until(t, "b", wire.VolumeRemove)

	// A directory that comes with something in it, and what happens in it.
	must(t, os.MkdirAll(filepath.Join(elsewhere, "new", "deep"), 0o755))
	write(t, filepath.Join(elsewhere, "new", "deep", "was here"))
	must(t, os.Rename(filepath.Join(elsewhere, "new"), in("new")))
	r.until(t, "new", wire.VolumeCreate)
	r.until(t, "new/deep/was here", wire.VolumeCreate)
	write(t, in("new", "deep", "came\xff"))
	r.until(t, "new/deep/came\xff", wire.VolumeCreate)

	// One that has moved reports under its new name, and one that has left not
	// at all; nor does what a link points to, nor what changes attributes only,
	// nor a file that is opened and closed again. The last two are what the agent
	// does for each change that it is told of, so that they would come for ever.
	must(t, os.Rename(in("old"), in("new", "old")))
	r.until(t, "new/old", wire.VolumeCreate)
	r.until(t, "new/old/deep", wire.VolumeCreate)
	write(t, in("new", "old", "deep", "f"))
	r.until(t, "new/old/deep/f", wire.VolumeWrite)
	must(t, os.Rename(in("new"), filepath.Join(elsewhere, "new")))
	r.until(t, "new", wire.VolumeRename)
	write(t, filepath.Join(elsewhere, "new", "deep", "left"))
	write(t, filepath.Join(elsewhere, "through the link"))
	must(t, os.Mkdir(in("quiet"), 0o755))
	r.until(t, "quiet", wire.VolumeCreate)
	must(t, os.Chmod(in("quiet"), 0o700))
	same, err := os.OpenFile(in("same"), os.O_WRONLY, 0)
	must(t, err)
	must(t, same.Close())
	must(t, os.Chtimes(in("same"), time.Now(), time.Now()))
	write(t, in("end"))
	for _, c := range r.until(t, "end", wire.VolumeCreate) {
		t.Errorf("%s %q is reported", c.Op, c.Path)
	}
}

func TestChangesOfAFile(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "config"))
	r := newRig(t, openRoot(t, "3", path, file, notify, readOnly))
	r.serve(t)
	write(t, path)
	r.until(t, "file", wire.VolumeWrite)
}
