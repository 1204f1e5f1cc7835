//go:build linux

package volumes

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"bake/internal/wire"
)

func message(path, op string) wire.HostMessage {
	return wire.HostMessage{Type: wire.HostVolume, Volume: "0", Path: []byte(path), Op: op}
}

// queued is a notifier that tells nobody yet.
func queued() *notifier {
	n := &notifier{volumes: map[string]*watched{"0": {}}, done: make(chan struct{}), ops: map[notice]string{}}
	n.changed = sync.NewCond(&n.mu)
	return n
}

func TestNoticesAreChecked(t *testing.T) {
	n := queued()
	for name, m := range map[string]wire.HostMessage{
		"volume":   {Volume: "1", Op: wire.VolumeWrite, Path: []byte("a")},
		"op":       message("a", "chmod"),
		"absolute": message("/etc/passwd", wire.VolumeWrite),
		"up":       message("a/../../b", wire.VolumeWrite),
		"dot":      message("./a", wire.VolumeWrite),
		"slash":    message("a/", wire.VolumeWrite),
		"NUL":      message("a\x00", wire.VolumeWrite),
		"long":     message(strings.Repeat("a", wire.VolumePathLimit+1), wire.VolumeWrite),
	} {
		if err := n.add(m); err == nil {
			t.Errorf("%s: %+v was accepted", name, m)
		}
	}
	for _, p := range []string{"", "a", "a/b\xff", "...", "a/..b"} {
		if err := n.add(message(p, wire.VolumeRename)); err != nil {
			t.Errorf("%q: %v", p, err)
		}
	}
	if err := New(Config{}).Notify(message("a", wire.VolumeWrite)); err == nil {
		t.Error("a guest without such volumes accepts changes in them")
	}
}

func TestNoticesAreBounded(t *testing.T) {
	n := queued()
	for i := range noticeLimit + 10 {
		if err := n.add(message(fmt.Sprint("f", i), wire.VolumeCreate)); err != nil {
			t.Fatal(err)
		}
	}
	if len(n.queue) != noticeLimit || len(n.ops) != noticeLimit || n.queue[0].path != "f10" {
		t.Errorf("%d wait, the first is %+v", len(n.queue), n.queue[0])
	}
	for _, c := range []struct{ op, want string }{
		{wire.VolumeWrite, wire.VolumeCreate}, {wire.VolumeRemove, wire.VolumeRemove}, {wire.VolumeWrite, wire.VolumeWrite},
	} {
		if err := n.add(message("f20", c.op)); err != nil {
			t.Fatal(err)
		}
		if got := n.ops[notice{"0", "f20"}]; got != c.want {
			t.Errorf("with %s it is %s, want %s", c.op, got, c.want)
		}
	}
	if len(n.queue) != noticeLimit {
		t.Errorf("%d wait", len(n.queue))
	}
}

// The events that a watcher sees, of real files, which stay as they are.
func TestEvents(t *testing.T) {
	for name, c := range map[string]struct {
		path, op string
		watch    string
		want     []string
	}{
		"write":            {"d/f", wire.VolumeWrite, "d", []string{"ATTRIB f", "MODIFY f", "CLOSE_WRITE f"}},
		"create":           {"d/f", wire.VolumeCreate, "d", []string{"ATTRIB f", "MODIFY f", "CLOSE_WRITE f"}},
		"create directory": {"d", wire.VolumeCreate, ".", []string{"ATTRIB d"}},
		"remove":           {"d/gone", wire.VolumeRemove, "d", []string{"ATTRIB "}},
		"rename":           {"gone", wire.VolumeRename, ".", []string{"ATTRIB "}},
		"fifo":             {"d/fifo", wire.VolumeWrite, "d", []string{"ATTRIB fifo"}},
		"link":             {"d/link", wire.VolumeWrite, "d", nil},
		"through a link":   {"d/link/f", wire.VolumeWrite, "d", nil},
		"file as path":     {"d/f/x", wire.VolumeRemove, "d", []string{"ATTRIB f", "MODIFY f", "CLOSE_WRITE f"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, err := range []error{
				os.Mkdir(filepath.Join(dir, "d"), 0o755),
				os.WriteFile(filepath.Join(dir, "d/f"), []byte("x"), 0o644),
				unix.Mkfifo(filepath.Join(dir, "d/fifo"), 0o644),
				os.Symlink(".", filepath.Join(dir, "d/link")),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			old := []unix.Timespec{{Sec: 1000, Nsec: 1}, {Sec: 2000, Nsec: 2}}
			if err := unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, "d/f"), old, 0); err != nil {
				t.Fatal(err)
			}
			in := watch(t, filepath.Join(dir, c.watch))
			n := newNotifier([]*volume{{Volume: wire.Volume{ID: "0", Kind: wire.Volume9P, Notify: true}, dir: dir}}, nil)
			// The last event, by which the test knows that there are no more.
			last := watch(t, filepath.Join(dir, "d/fifo"))
			for _, m := range []wire.HostMessage{message(c.path, c.op), message("d/fifo", wire.VolumeCreate)} {
				if err := n.add(m); err != nil {
					t.Fatal(err)
				}
			}
			read(t, last)
			<-n.stop()
			got := read(t, in)
			// The kernel makes one of equal events that follow each other.
			want := c.want
			if c.watch == "d" && c.path != "d/fifo" {
				want = append(want, "ATTRIB fifo")
			}
			if !slices.Equal(got, want) {
				t.Errorf("events %q, want %q", got, want)
			}
			var st unix.Stat_t
			if err := unix.Stat(filepath.Join(dir, "d/f"), &st); err != nil || st.Mtim != old[1] || st.Size != 1 {
				t.Errorf("the file became %+v, %v", st, err)
			}
		})
	}
}

func watch(t *testing.T, path string) int {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_ATTRIB|unix.IN_MODIFY|unix.IN_CLOSE_WRITE); err != nil {
		t.Fatal(err)
	}
	return fd
}

// read waits for events and returns those that are there.
func read(t *testing.T, fd int) (events []string) {
	t.Helper()
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 60000); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	n, err := unix.Read(fd, buf)
	if err != nil {
		t.Fatalf("no event: %v", err)
	}
	for b := buf[:n]; len(b) > 0; {
		mask, length := binary.NativeEndian.Uint32(b[4:]), int(binary.NativeEndian.Uint32(b[12:]))
		name := strings.TrimRight(string(b[unix.SizeofInotifyEvent:unix.SizeofInotifyEvent+length]), "\x00")
		for _, k := range []struct {
			bit  uint32
			name string
		}{{unix.IN_ATTRIB, "ATTRIB"}, {unix.IN_MODIFY, "MODIFY"}, {unix.IN_CLOSE_WRITE, "CLOSE_WRITE"}} {
			if mask&k.bit != 0 {
				events = append(events, k.name+" "+name)
			}
		}
		b = b[unix.SizeofInotifyEvent+length:]
	}
	return events
}

func TestPins(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"a/b/c", "x"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/", filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := newPins(dir, func() {})
	defer p.close()
	pinned := func() (names []string) {
		for name := range p.dirs {
			names = append(names, name)
		}
		slices.Sort(names)
		return names
	}
	if got := pinned(); !slices.Equal(got, []string{"a", "a/b", "a/b/c", "x"}) {
		t.Errorf("pinned %q", got)
	}
	p.remove("a/b")
	if p.add("file") || p.add("out") || p.add("x") || p.add("none") || !p.add("a/b") {
		t.Error("what is no new directory was pinned")
	}
	if got := pinned(); !slices.Equal(got, []string{"a", "a/b", "x"}) {
		t.Errorf("pinned %q", got)
	}
	if newPins(filepath.Join(dir, "file"), nil) != nil {
		t.Error("a file was pinned")
	}
}

// A change of a path that leads out of the volume is of nothing.
func TestNothingOutsideIsTouched(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	in := watch(t, outside)
	w := &watched{dir: dir}
	for _, op := range []string{wire.VolumeWrite, wire.VolumeRemove} {
		w.tell("link/f", op)
		w.tell("link", op)
	}
	buf := make([]byte, 4096)
	if n, err := unix.Read(in, buf); err != unix.EAGAIN {
		t.Errorf("%d bytes of events, %v", n, err)
	}
}

func FuzzNotices(f *testing.F) {
	f.Add("0", []byte("a/b"), wire.VolumeWrite)
	f.Add("0", []byte("../a"), wire.VolumeRemove)
	f.Add("1", []byte("a//b\x00"), "")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, volume string, path []byte, op string) {
		n := queued()
		if n.add(wire.HostMessage{Volume: volume, Path: path, Op: op}) != nil {
			return
		}
		p := n.queue[0].path
		if rel, err := filepath.Rel("/v", filepath.Join("/v", p)); err != nil || strings.HasPrefix(rel, "../") || rel == ".." {
			t.Errorf("%q leads to %q", p, rel)
		}
		(&watched{dir: dir}).tell(p, op)
	})
}
