package tree

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	syscall.Umask(0) // as the package asks for
	os.Exit(m.Run())
}

func open(t testing.TB, dir string, o Options) *Tree {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tr, err := Open(f, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	return tr
}

func lookup(t testing.TB, n *Node, name string) (*Node, Attr) {
	t.Helper()
	node, a, err := n.Lookup(name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	t.Cleanup(func() { node.Close() })
	return node, a
}

func put(t testing.TB, elem ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(elem...), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func pointer(v uint32) *uint32 { return &v }

func TestRoots(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f")
	for _, c := range []struct {
		path string
		flag int
		file bool
		want error
	}{
		{dir, unix.O_RDONLY, false, nil},
		{dir, unix.O_PATH, false, nil},
		{dir, unix.O_PATH, true, syscall.EISDIR},
		{dir + "/f", unix.O_PATH, true, nil},
		{dir + "/f", unix.O_RDONLY, true, nil},
		{dir + "/f", unix.O_PATH, false, syscall.ENOTDIR},
	} {
		fd, err := unix.Open(c.path, c.flag|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), c.path)
		tr, err := Open(f, Options{File: c.file})
		if err != c.want {
			t.Errorf("%s with File=%v: %v, want %v", c.path, c.file, err, c.want)
		}
		f.Close()
		if err == nil {
			if _, err := tr.Root().Attr(); err != nil {
				t.Error(err)
			}
			tr.Close()
			tr.Close()
		}
	}
}

func TestShownOwners(t *testing.T) {
	for _, c := range []struct {
		id, self uint32
		fixed    *uint32
		squash   bool
		want     uint32
	}{
		{1000, 1000, nil, false, 1000},
		{0, 1000, nil, false, 0},
		{1000, 1000, nil, true, 0},
		{0, 1000, nil, true, nobody},
		{5, 1000, nil, true, 5},
		{1000, 1000, pointer(7), true, 7},
		{0, 0, pointer(7), false, 7},
	} {
		if got := shown(c.id, c.self, c.fixed, c.squash); got != c.want {
			t.Errorf("%+v is shown as %d", c, got)
		}
	}
}

func TestFixedOwner(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f")
	tr := open(t, dir, Options{UID: pointer(70), GID: pointer(71)})
	n, a := lookup(t, tr.Root(), "f")
	if a.UID != 70 || a.GID != 71 {
		t.Errorf("shown is %d:%d", a.UID, a.GID)
	}
	if err := n.SetAttr(SetAttr{Valid: SetUID | SetGID, UID: 70, GID: 71}, nil); err != nil {
		t.Error(err)
	}
	if err := n.SetAttr(SetAttr{Valid: SetUID, UID: 71}, nil); err != syscall.EPERM {
		t.Error(err)
	}
	if err := n.SetAttr(SetAttr{Valid: SetGID, GID: 0}, nil); err != syscall.EPERM {
		t.Error(err)
	}
	m, h, a, err := tr.Root().Create("g", OpenWrite, 0o600, Owner{5, 5})
	if err != nil || a.UID != 70 {
		t.Fatal(a.UID, err)
	}
	m.Close()
	h.Close()
	var st unix.Stat_t
	if unix.Stat(filepath.Join(dir, "g"), &st); st.Uid != uint32(os.Geteuid()) {
		t.Errorf("the file belongs to %d on the host", st.Uid)
	}
}

// TestOwners gives new objects to who asks for them, which root alone can.
func TestOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not root: TestUnprivileged says what happens then")
		return
	}
	dir := t.TempDir()
	r := open(t, dir, Options{}).Root()
	o := Owner{1234, 2345}
	check := func(name string, mode uint32, a Attr) {
		t.Helper()
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil || st.Uid != 1234 || st.Gid != 2345 || st.Mode != mode {
			t.Errorf("%s belongs to %d:%d with mode %o (%v)", name, st.Uid, st.Gid, st.Mode, err)
		}
		if a.UID != 1234 || a.Mode != st.Mode {
			t.Errorf("%s is shown as of %d with mode %o", name, a.UID, a.Mode)
		}
	}
	n, h, a, err := r.Create("f", OpenWrite|OpenExclusive, 0o4755, o)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	defer h.Close()
	check("f", unix.S_IFREG|0o4755, a)
	d, a, err := r.Mkdir("d", 0o2750, o)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	check("d", unix.S_IFDIR|0o2750, a)
	for name, make := range map[string]func() (*Node, Attr, error){
		"l": func() (*Node, Attr, error) { return r.Symlink("l", "/etc", o) },
		"p": func() (*Node, Attr, error) { return r.Mknod("p", unix.S_IFIFO|0o640, o) },
		"s": func() (*Node, Attr, error) { return r.Mknod("s", unix.S_IFSOCK|0o640, o) },
		"r": func() (*Node, Attr, error) { return r.Mknod("r", 0o640, o) },
	} {
		n, a, err := make()
		if err != nil {
			t.Fatal(err)
		}
		n.Close()
		check(name, map[string]uint32{"l": unix.S_IFLNK | 0o777, "p": unix.S_IFIFO | 0o640, "s": unix.S_IFSOCK | 0o640, "r": unix.S_IFREG | 0o640}[name], a)
	}
	// A change of owner takes suid away, a mode in the same request sets it.
	if err := n.SetAttr(SetAttr{Valid: SetUID, UID: 77}, nil); err != nil {
		t.Error(err)
	}
	if a, _ := n.Attr(); a.UID != 77 || a.Mode&0o7777 != 0o755 {
		t.Errorf("%d, %o", a.UID, a.Mode)
	}
	if err := n.SetAttr(SetAttr{Valid: SetUID | SetMode, UID: 78, Mode: 0o4711}, nil); err != nil {
		t.Error(err)
	}
	if a, _ := n.Attr(); a.UID != 78 || a.Mode&0o7777 != 0o4711 {
		t.Errorf("%d, %o", a.UID, a.Mode)
	}
}

// TestUnprivileged is what a server that is not root can do, with its files
// shown as root's. Root runs it again as nobody.
func TestUnprivileged(t *testing.T) {
	if os.Geteuid() == 0 {
		dir := t.TempDir()
		put(t, dir, "roots")
		put(t, dir, "shared")
		if err := os.Chmod(filepath.Join(dir, "shared"), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		// The program may lie where nobody else gets to.
		self, err := os.Open("/proc/self/exe")
		if err != nil {
			t.Fatal(err)
		}
		defer self.Close()
		cmd := exec.Command("/proc/self/fd/4", "-test.run=^TestUnprivileged$", "-test.v")
		cmd.Env = []string{"BAKE_TEST_TREE=3"}
		cmd.Dir = "/"
		cmd.ExtraFiles = []*os.File{f, self}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("as nobody: %v\n%s", err, out)
		}
		return
	}
	root := os.NewFile(3, "root")
	if os.Getenv("BAKE_TEST_TREE") == "" {
		var err error
		if root, err = os.Open(t.TempDir()); err != nil {
			t.Fatal(err)
		}
	}
	defer root.Close()
	tr, err := Open(root, Options{Squash: true})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	r := tr.Root()

	// A file that its mode closes to its maker is open all the same.
	n, h, a, err := r.Create("f", OpenRead|OpenWrite|OpenExclusive, 0o200, Owner{1, 1})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	defer h.Close()
	if a.UID != 0 || a.GID != 0 || a.Mode&0o777 != 0o200 {
		t.Errorf("shown as %d:%d, mode %o", a.UID, a.GID, a.Mode)
	}
	if k, err := h.WriteAt([]byte("hello"), 0); k != 5 || err != nil {
		t.Error(k, err)
	}
	b := make([]byte, 5)
	if k, err := h.ReadAt(b, 0); k != 5 || err != nil {
		t.Error(k, err)
	}
	if _, err := n.Open(OpenRead); err != syscall.EACCES {
		t.Errorf("open for reading with mode 0200: %v", err)
	}
	set := func(n *Node, s SetAttr, h *Handle, want error) {
		t.Helper()
		if err := n.SetAttr(s, h); err != want {
			t.Errorf("%+v: %v, want %v", s, err, want)
		}
	}
	// A size is set through what is open; by name the mode counts.
	set(n, SetAttr{Valid: SetMode, Mode: 0o400}, nil, nil)
	set(n, SetAttr{Valid: SetSize, Size: 3}, nil, syscall.EACCES)
	set(n, SetAttr{Valid: SetSize, Size: 3}, h, nil)
	if err := r.Unlink("f"); err != nil {
		t.Error(err)
	}
	set(n, SetAttr{Valid: SetSize | SetMode, Size: 2, Mode: 0o600}, h, nil)
	if a, err := h.Attr(); a.Size != 2 || a.Nlink != 0 || err != nil {
		t.Errorf("%+v, %v", a, err)
	}
	// Owners.
	set(n, SetAttr{Valid: SetUID | SetGID}, nil, nil)
	set(n, SetAttr{Valid: SetUID, UID: 33}, nil, syscall.EPERM)
	d, _, err := r.Mkdir("closed", 0, Owner{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.Open(OpenRead); err != syscall.EACCES {
		t.Errorf("open of a directory with mode 0: %v", err)
	}
	if _, _, err := d.Lookup("x"); err != syscall.EACCES {
		t.Errorf("lookup in a directory with mode 0: %v", err)
	}
	if err := r.Rmdir("closed"); err != nil {
		t.Error(err)
	}
	if os.Getenv("BAKE_TEST_TREE") == "" {
		return
	}
	other, a, err := r.Lookup("roots")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if a.UID != nobody {
		t.Errorf("what is root's is shown as of %d", a.UID)
	}
	set(other, SetAttr{Valid: SetMode, Mode: 0o777}, nil, syscall.EPERM)
	writable, _ := lookup(t, r, "shared")
	set(writable, SetAttr{Valid: SetSize | SetMtimeNow | SetCtime, Size: 1}, nil, nil)
	set(writable, SetAttr{Valid: SetAtimeNow | SetMtimeNow}, nil, nil)
	set(writable, SetAttr{Valid: SetMtime, Mtime: Timespec{Sec: 5}}, nil, syscall.EPERM)
	if a, err := writable.Attr(); err != nil || a.Size != 1 {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := other.Open(OpenWrite); err != syscall.EACCES {
		t.Errorf("open of a file of root's: %v", err)
	}
}

func TestLimits(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f")
	r := open(t, dir, Options{MaxNodes: 4, MaxHandles: 2}).Root() // and the root is one
	var nodes []*Node
	for range 3 {
		n, _, err := r.Lookup("f")
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, n)
	}
	if _, _, err := r.Lookup("f"); err != syscall.ENFILE {
		t.Errorf("a node too many: %v", err)
	}
	if _, _, _, err := r.Create("new", OpenWrite, 0o600, Owner{}); err != syscall.ENFILE {
		t.Errorf("a file too many: %v", err)
	}
	h1, err1 := nodes[0].Open(OpenRead)
	h2, err2 := nodes[0].Open(OpenRead)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if _, err := nodes[0].Open(OpenRead); err != syscall.EMFILE {
		t.Errorf("a handle too many: %v", err)
	}
	h1.Close()
	h2.Close()
	nodes[1].Close()
	if n, _, err := r.Lookup("f"); err != nil {
		t.Error(err)
	} else {
		n.Close()
	}
	if _, err := nodes[1].Attr(); err != syscall.EBADF {
		t.Errorf("a node that was closed: %v", err)
	}
	if _, err := h1.ReadAt(make([]byte, 1), 0); err != syscall.EBADF {
		t.Errorf("a handle that was closed: %v", err)
	}
	nodes[0].Close()
	nodes[2].Close()
}

// TestCloseRaces closes what others use; with the race detector it shows more.
func TestCloseRaces(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f")
	r := open(t, dir, Options{}).Root()
	for range 200 {
		n, _, err := r.Lookup("f")
		if err != nil {
			t.Fatal(err)
		}
		h, err := n.Open(OpenRead | OpenWrite)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				b := make([]byte, 4)
				if k, err := h.ReadAt(b, 0); err != syscall.EBADF && (err != nil || string(b[:k]) != "text") {
					t.Errorf("%q, %v", b[:k], err)
				}
				if _, err := n.Attr(); err != nil && err != syscall.EBADF {
					t.Error(err)
				}
			})
		}
		h.Close()
		n.Close()
		wg.Wait()
	}
}

func TestRenameFlags(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a")
	os.Mkdir(filepath.Join(dir, "b"), 0o755)
	r := open(t, dir, Options{}).Root()
	if err := r.Rename("a", r, "b", RenameNoReplace); err != syscall.EEXIST {
		t.Error(err)
	}
	if err := r.Rename("a", r, "b", RenameExchange); err != nil {
		t.Error(err)
	}
	if fi, err := os.Stat(filepath.Join(dir, "a")); err != nil || !fi.IsDir() {
		t.Error("nothing was exchanged")
	}
	if err := r.Rename("a", r, "b", 4); err != syscall.EINVAL { // a whiteout
		t.Error(err)
	}
	a, _ := lookup(t, r, "a")
	if err := r.Rename("a", a, "a", 0); err != syscall.EINVAL {
		t.Errorf("a directory moved into itself: %v", err)
	}
	other := open(t, dir, Options{}).Root()
	if err := r.Rename("a", other, "c", 0); err != syscall.EXDEV {
		t.Errorf("a rename to another tree: %v", err)
	}
}

func TestHoles(t *testing.T) {
	r := open(t, t.TempDir(), Options{}).Root()
	n, h, _, err := r.Create("f", OpenRead|OpenWrite, 0o600, Owner{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	defer h.Close()
	if _, err := h.WriteAt([]byte("x"), 1<<20); err != nil {
		t.Fatal(err)
	}
	if off, err := h.Seek(0, SeekData); off != 1<<20 || err != nil {
		t.Error(off, err)
	}
	if off, err := h.Seek(0, SeekHole); off != 0 || err != nil {
		t.Error(off, err)
	}
	if _, err := h.Seek(2<<20, SeekData); err != syscall.ENXIO {
		t.Error(err)
	}
	if err := h.Allocate(0, 0, 4<<20); err != nil {
		t.Error(err)
	}
	const punch = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	if err := h.Allocate(punch, 1<<20, 4096); err != nil {
		t.Error(err)
	}
	b := []byte{1}
	if _, err := h.ReadAt(b, 1<<20); err != nil || b[0] != 0 {
		t.Error(b, err)
	}
	if a, _ := h.Attr(); a.Size != 4<<20 {
		t.Errorf("%d bytes", a.Size)
	}
	if err := h.Flush(); err != nil {
		t.Error(err)
	}
}

// TestLocksArbitrate keeps the owners of one guest apart.
func TestLocksArbitrate(t *testing.T) {
	r := open(t, t.TempDir(), Options{}).Root()
	n, h, _, err := r.Create("f", OpenRead|OpenWrite, 0o600, Owner{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	defer h.Close()
	s := NewLocks(true, 3)
	defer s.Close()
	must := func(want error, l Lock) {
		t.Helper()
		if err := s.Set(h, l); err != want {
			t.Errorf("%+v: %v, want %v", l, err, want)
		}
	}
	must(nil, Lock{Type: WriteLock, Start: 0, End: 99, Owner: 1, PID: 11})
	must(syscall.EAGAIN, Lock{Type: ReadLock, Start: 50, End: 50, Owner: 2})
	must(nil, Lock{Type: Unlock, Start: 40, End: 59, Owner: 1}) // cut in two
	must(nil, Lock{Type: ReadLock, Start: 50, End: 50, Owner: 2})
	must(syscall.ENOLCK, Lock{Type: ReadLock, Start: 52, End: 52, Owner: 3})
	if l, err := s.Get(h, Lock{Type: WriteLock, Start: 60, End: 60, Owner: 2}); err != nil || l.Type != WriteLock || l.PID != 11 || l.Start != 60 || l.End != 99 {
		t.Errorf("%+v, %v", l, err)
	}
	must(syscall.EINVAL, Lock{Type: ReadLock, Start: 9, End: 8})
	if err := s.ReleaseOwner(h, 1); err != nil {
		t.Error(err)
	}
	must(nil, Lock{Type: WriteLock, Start: 0, End: 40, Owner: 3})
	s.Release(h)
	must(nil, Lock{Type: WriteLock, Start: 0, End: 1000, Owner: 4})

	// flock is another kind.
	h2, err := n.Open(OpenRead)
	if err != nil {
		t.Fatal(err)
	}
	defer h2.Close()
	if err := h.Flock(WriteLock); err != nil {
		t.Error(err)
	}
	if err := h2.Flock(ReadLock); err != syscall.EAGAIN {
		t.Error(err)
	}
	if err := h.Flock(Unlock); err != nil {
		t.Error(err)
	}
	if err := h2.Flock(ReadLock); err != nil {
		t.Error(err)
	}
}

func TestReaddirOffsets(t *testing.T) {
	dir := t.TempDir()
	for i := range 3000 {
		put(t, dir, fmt.Sprint("name", i))
	}
	r := open(t, dir, Options{}).Root()
	h, err := r.Open(OpenRead)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	var all []string
	var offsets []uint64
	if err := h.Readdir(0, func(d *Dirent) bool {
		all, offsets = append(all, string(d.Name)), append(offsets, d.Offset)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	sorted := slices.Clone(all)
	slices.Sort(sorted)
	if len(slices.Compact(sorted)) != 3002 {
		t.Errorf("%d entries", len(all))
	}
	for _, i := range []int{0, 1, 700, 701, 699, 2500, 3000, 5} {
		var next string
		if err := h.Readdir(offsets[i], func(d *Dirent) bool { next = string(d.Name); return false }); err != nil || next != all[i+1] {
			t.Errorf("after %s comes %s, not %s (%v)", all[i], next, all[i+1], err)
		}
	}
	if err := h.Readdir(offsets[3001], func(d *Dirent) bool { t.Error("more after the last"); return false }); err != nil {
		t.Error(err)
	}
}

func TestNumbers(t *testing.T) {
	tr := &Tree{device: 8}
	if tr.mix(8, 1234) != 1234 {
		t.Error("numbers of the root's own device are changed")
	}
	seen := map[uint64]bool{}
	for dev := uint64(8); dev < 40; dev++ {
		for ino := uint64(1); ino < 3000; ino++ {
			n := tr.mix(dev, ino)
			if seen[n] {
				t.Fatalf("the number %d has two objects", n)
			}
			seen[n] = true
		}
	}
	if g := generation(Timespec{}); g != 0 {
		t.Error(g)
	}
	if generation(Timespec{5, 1}) == generation(Timespec{5, 2}) {
		t.Error("two births have one generation")
	}
}
