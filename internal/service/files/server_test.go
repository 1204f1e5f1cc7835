//go:build linux

package files

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/wire"
)

// A rig is a server with a guest's way to it.
type rig struct {
	*Server
	addr    string
	served  chan error
	changes chan Change

	mu   sync.Mutex
	said []string
}

func (r *rig) say(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

func (r *rig) log() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.said, "\n")
}

func newRig(t *testing.T, volumes ...Volume) *rig {
	t.Helper()
	r := &rig{served: make(chan error, 1), changes: make(chan Change, 1<<16), addr: filepath.Join(t.TempDir(), "s")}
	t.Setenv("FILES_TEST_SECRET", "secret")
	var err error
	r.Server, err = Start(t.Context(), program.Path(t), volumes, Options{
		Dir: t.TempDir(), Warn: r.say, Verbose: r.say, Changed: func(c Change) { r.changes <- c },
	})
	for _, v := range volumes {
		v.Root.Close()
		if v.Socket != nil {
			v.Socket.Close()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		if t.Failed() {
			t.Logf("it said: %s", r.log())
		}
	})
	return r
}

// serve waits until the process serves, and then gives it what dial makes.
func (r *rig) serve(t *testing.T) {
	t.Helper()
	if err := r.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	go func() { r.served <- r.Serve(t.Context(), ln) }()
}

// dial is the guest's mount of a volume.
func (r *rig) dial(t *testing.T, id string) (net.Conn, error) {
	t.Helper()
	conn, err := net.Dial("unix", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := wire.WriteVolumeHello(conn, id); err != nil {
		t.Fatal(err)
	}
	return conn, wire.ReadVolumeAnswer(conn)
}

func (r *rig) mount(t *testing.T, id string) net.Conn {
	t.Helper()
	conn, err := r.dial(t, id)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func ask(t *testing.T, conn net.Conn, p probe) answer {
	t.Helper()
	if err := wire.WriteJSON(conn, p, 1<<16); err != nil {
		t.Fatal(err)
	}
	var a answer
	if err := wire.ReadJSON(conn, &a, 1<<16); err != nil {
		t.Fatal(err)
	}
	return a
}

// share opens a directory or file as an app does.
func openRoot(t *testing.T, id, path string, change ...func(*Volume)) Volume {
	t.Helper()
	f, err := os.OpenFile(path, unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	v := Volume{ID: id, Root: f, Path: path}
	for _, c := range change {
		c(&v)
	}
	return v
}

func readOnly(v *Volume) { v.ReadOnly = true }
func notify(v *Volume)   { v.Notify = true }
func file(v *Volume)     { v.File = true }

func write(t *testing.T, path string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// What the process can do once it serves, tried by the process itself: even a
// server whose walking is wrong reaches nothing else.
func TestTheProcessReachesItsVolumesOnly(t *testing.T) {
	abi, err := landlockABI()
	if errors.Is(err, errNoLandlock) {
		r := newRig(t, openRoot(t, "0", t.TempDir()))
		r.serve(t)
		r.mount(t, "0")
		if !strings.Contains(r.log(), "not confined by Landlock") {
			t.Errorf("it said %q", r.log())
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	rw, ro, outside := t.TempDir(), t.TempDir(), t.TempDir()
	secret := write(t, filepath.Join(outside, "secret"))
	single := write(t, filepath.Join(outside, "single"))
	write(t, filepath.Join(rw, "f"))
	write(t, filepath.Join(ro, "f"))
	if err := os.Symlink(secret, filepath.Join(rw, "link")); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, openRoot(t, "0", rw), openRoot(t, "1", ro, readOnly), openRoot(t, "2", single, file))
	r.serve(t)
	for _, tc := range []struct {
		id   string
		p    probe
		want unix.Errno
		abi  int
	}{
		{"0", probe{"openat", "f", unix.O_RDWR}, 0, 1},
		{"0", probe{"openat", "new", unix.O_RDWR | unix.O_CREAT}, 0, 1},
		{"0", probe{"openat", "f", unix.O_RDWR | unix.O_TRUNC}, 0, 1},
		{"0", probe{"openat", ".", unix.O_RDONLY}, 0, 1},
		{"0", probe{"openat", "../..", unix.O_RDONLY}, unix.EACCES, 1},
		{"0", probe{"openat", "link", unix.O_RDONLY}, unix.EACCES, 1},
		{"0", probe{"openat", secret, unix.O_RDONLY}, unix.EACCES, 1},
		{"0", probe{"open", secret, unix.O_WRONLY | unix.O_TRUNC}, unix.EACCES, 1},
		{"0", probe{"open", filepath.Join(outside, "new"), unix.O_WRONLY | unix.O_CREAT}, unix.EACCES, 1},
		{"0", probe{"open", "/etc/passwd", unix.O_RDONLY}, unix.EACCES, 1},
		{"0", probe{"open", "/", unix.O_RDONLY}, unix.EACCES, 1},
		{"0", probe{"open", "/proc/self/mem", unix.O_RDWR}, unix.EACCES, 1},
		{"0", probe{"open", fmt.Sprintf("/proc/%d/mem", os.Getpid()), unix.O_RDWR}, unix.EACCES, 1},
		{"0", probe{"mknod", "null", 0}, unix.EACCES, 1},
		{"0", probe{"connect", "", 0}, unix.EACCES, 4},
		{"0", probe{"kill", "", 0}, unix.EPERM, 6},
		{"1", probe{"openat", "f", unix.O_RDONLY}, 0, 1},
		{"1", probe{"openat", "f", unix.O_WRONLY}, unix.EACCES, 1},
		{"1", probe{"openat", "new", unix.O_WRONLY | unix.O_CREAT}, unix.EACCES, 1},
		{"2", probe{"open", single, unix.O_RDWR}, 0, 1},
	} {
		if abi < tc.abi {
			continue
		}
		t.Run(fmt.Sprint(tc.id, tc.p), func(t *testing.T) {
			if a := ask(t, r.mount(t, tc.id), tc.p); a.Errno != tc.want || a.Text != "" {
				t.Errorf("got %v %s, want %v", a.Errno, a.Text, tc.want)
			}
		})
	}
	var st struct {
		Env        []string
		Dir        string
		NoNewPrivs int
		Core, Caps uint64
	}
	if err := json.Unmarshal([]byte(ask(t, r.mount(t, "0"), probe{Op: "state"}).Text), &st); err != nil {
		t.Fatal(err)
	}
	var kept uint64
	for c := range keptCapabilities {
		kept |= 1 << c
	}
	if len(st.Env) != 0 || st.Dir != "/" || st.NoNewPrivs != 1 || st.Core != 0 || st.Caps&^kept != 0 {
		t.Errorf("got %+v", st)
	}
	if data, err := os.ReadFile(secret); err != nil || string(data) != "x" {
		t.Errorf("the secret is %q, %v", data, err)
	}
}

func TestRefusals(t *testing.T) {
	near, far, err := SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	dir := t.TempDir()
	r := newRig(t, openRoot(t, "0", dir), openRoot(t, "1", dir, func(v *Volume) { v.Socket = near }))
	r.serve(t)
	for id, want := range map[string]string{"7": "no volume", "1": "virtiofs"} {
		if _, err := r.dial(t, id); !errors.Is(err, wire.ErrVolumeRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("volume %s: %v, want %q", id, err, want)
		}
	}
	var open []net.Conn
	for range maxConnections {
		open = append(open, r.mount(t, "0"))
	}
	if _, err := r.dial(t, "0"); err == nil || !strings.Contains(err.Error(), "connections already") {
		t.Errorf("one connection more: %v", err)
	}
	// The end of one makes room.
	open[0].Close()
	deadline := time.Now().Add(time.Minute)
	for {
		if _, err := r.dial(t, "0"); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	// The other way has its socket.
	if _, err := far.Write([]byte{42}); err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := io.ReadFull(far, b[:]); err != nil || b[0] != 42 {
		t.Errorf("the vhost-user socket gives %v, %v", b, err)
	}
}

func TestItsDeathIsToldInASentence(t *testing.T) {
	r := newRig(t, openRoot(t, "0", t.TempDir()))
	r.serve(t)
	conn := r.mount(t, "0")
	if err := r.process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := r.Err(); !errors.Is(err, ErrGone) || !strings.Contains(err.Error(), "killed") {
		t.Errorf("got %v", err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the mount reads %v", err)
	}
	if err := <-r.served; !errors.Is(err, ErrGone) {
		t.Errorf("Serve returned %v", err)
	}
}

// What the process reports is checked: a guest may have taken it over.
func FuzzReports(f *testing.F) {
	for _, m := range []report{{Type: reportReady}, {Type: reportFailed, Text: "why"}, {Type: reportChange, Volume: "0", Path: []byte("a\xff"), Op: "create"}, {Type: reportWarning, Text: "\x1b[2J"}} {
		var b bytes.Buffer
		if err := wire.WriteJSON(&b, m, reportLimit); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Add([]byte("\xff\xff\xff\xff{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		said := func(format string, args ...any) {
			if text := fmt.Sprintf(format, args...); strings.ContainsFunc(text, func(r rune) bool { return r < ' ' }) {
				t.Errorf("%q reaches the terminal", text)
			}
		}
		s := &Server{ready: make(chan struct{}), options: Options{Warn: said, Verbose: said, Changed: func(c Change) {
			if len(c.Path) == 0 || len(c.Path) > wire.VolumePathLimit {
				t.Errorf("a path of %d bytes is passed on", len(c.Path))
			}
		}}}
		r := bytes.NewReader(data)
		for {
			m, err := readReport(r)
			if err != nil {
				return
			}
			s.handle(m)
		}
	})
}

func FuzzDescription(f *testing.F) {
	f.Add([]byte(`{"parent":1,"volumes":[{"id":"0","path":"/x","socket":6}],"sockets":1}`))
	f.Add([]byte(`{"sockets":-1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.Write(data); err != nil {
			t.Fatal(err)
		}
		d, err := readDescription(file)
		if err != nil {
			return
		}
		for _, v := range d.Volumes {
			if v.Socket != 0 && (v.Socket < fdVolumes+len(d.Volumes) || v.Socket >= fdVolumes+2*len(d.Volumes)) {
				t.Errorf("descriptor %d is no socket's", v.Socket)
			}
		}
	})
}

func TestCloseEndsTheProcess(t *testing.T) {
	r := newRig(t, openRoot(t, "0", t.TempDir()))
	r.serve(t)
	conn := r.mount(t, "0")
	r.Close()
	if err := r.Err(); err != ErrGone {
		t.Errorf("got %v", err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the mount reads %v", err)
	}
}

func TestWhatCannotBeServedIsSaid(t *testing.T) {
	for _, tc := range []struct {
		name    string
		volumes []Volume
	}{
		{"a directory for a file", []Volume{openRoot(t, "0", t.TempDir(), file)}},
		{"a file for a directory", []Volume{openRoot(t, "0", write(t, filepath.Join(t.TempDir(), "f")))}},
		{"one ID twice", []Volume{openRoot(t, "0", t.TempDir()), openRoot(t, "0", t.TempDir())}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, tc.volumes...)
			if err := r.Ready(t.Context()); err == nil {
				t.Error("it serves")
			}
		})
	}
	if s, err := Start(t.Context(), filepath.Join(t.TempDir(), "none"), nil, Options{Dir: t.TempDir()}); err == nil {
		s.Close()
		t.Error("a program that does not exist runs")
	}
}

// parent is an app that dies without a word: it gives its server one
// connection, its descriptor 3, and waits to be killed.
func parent(dir string) int {
	root, err := os.OpenFile(dir, unix.O_PATH, 0)
	if err != nil {
		return 2
	}
	s, err := Start(context.Background(), os.Getenv("FILES_TEST_PROGRAM"), []Volume{{ID: "0", Root: root, Path: dir}}, Options{Dir: dir})
	if err != nil || s.Ready(context.Background()) != nil {
		return 3
	}
	conn := os.NewFile(3, "conn")
	if sendFile(s.control, conn) != nil {
		return 4
	}
	conn.Close()
	select {}
}

func TestItDiesWithItsParent(t *testing.T) {
	near, far, err := SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	exe := program.Path(t)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "FILES_TEST_PARENT="+t.TempDir(), "FILES_TEST_PROGRAM="+exe)
	cmd.ExtraFiles = []*os.File{far}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	far.Close()
	conn, err := net.FileConn(near)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	if err := wire.WriteVolumeHello(conn, "0"); err != nil {
		t.Fatal(err)
	}
	if err := wire.ReadVolumeAnswer(conn); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	// The connection has one holder left, the server.
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the server lives: %v", err)
	}
}
