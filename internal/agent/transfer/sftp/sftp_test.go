//go:build linux

package sftp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/sys/unix"
)

// serveVariable makes the test's executable a server.
const serveVariable = "BAKE_TEST_SFTP"

func TestMain(m *testing.M) {
	if os.Getenv(serveVariable) != "" {
		if err := Serve(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// connect returns a client of another's making.
func connect(t *testing.T) *sftp.Client {
	t.Helper()
	fromClient, toServer := io.Pipe()
	fromServer, toClient := io.Pipe()
	served := make(chan error, 1)
	go func() {
		err := Serve(fromClient, toClient)
		toClient.CloseWithError(err)
		served <- err
	}()
	c, err := sftp.NewClientPipe(fromServer, toServer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		toServer.Close()
		_ = c.Close()
		if err := <-served; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestReadAndWrite(t *testing.T) {
	c, dir := connect(t), t.TempDir()
	data := make([]byte, 3<<20+17)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	f, err := c.Create(dir + "/f")
	must(t, err)
	_, err = f.ReadFrom(bytes.NewReader(data)) // many requests under way
	must(t, err)
	must(t, f.Sync()) // fsync@openssh.com
	must(t, f.Close())
	f, err = c.Open(dir + "/f")
	must(t, err)
	var got bytes.Buffer
	_, err = f.WriteTo(&got)
	must(t, err)
	if !bytes.Equal(got.Bytes(), data) {
		t.Error("what was read is not what was written")
	}
	if n, err := f.ReadAt(make([]byte, 10), int64(len(data))-5); n != 5 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
	must(t, f.Close())

	for range 2 {
		f, err = c.OpenFile(dir+"/log", os.O_WRONLY|os.O_APPEND|os.O_CREATE)
		must(t, err)
		_, err = f.Write([]byte("line\n"))
		must(t, err)
		must(t, f.Close())
	}
	if b, _ := os.ReadFile(dir + "/log"); string(b) != "line\nline\n" {
		t.Errorf("after appending twice there is %q", b)
	}
	if _, err := c.OpenFile(dir+"/log", os.O_WRONLY|os.O_CREATE|os.O_EXCL); err == nil {
		t.Error("a file that is there was made")
	}
}

func TestNames(t *testing.T) {
	c, dir := connect(t), t.TempDir()
	must(t, os.WriteFile(dir+"/a", []byte("a"), 0o644))
	must(t, os.WriteFile(dir+"/b", []byte("b"), 0o644))
	must(t, c.Mkdir(dir+"/d"))
	must(t, c.Symlink("../a", dir+"/d/l"))
	if to, err := c.ReadLink(dir + "/d/l"); err != nil || to != "../a" {
		t.Errorf("the link holds %q, %v", to, err)
	}
	if real, err := c.RealPath(dir + "/d/l"); err != nil || real != dir+"/a" {
		t.Errorf("its real path is %q, %v", real, err)
	}
	if real, err := c.RealPath(dir + "/d/new"); err != nil || real != dir+"/d/new" {
		t.Errorf("that of nothing is %q, %v", real, err)
	}
	if wd, err := c.Getwd(); err != nil || !filepath.IsAbs(wd) {
		t.Errorf("the working directory is %q, %v", wd, err)
	}
	must(t, c.Link(dir+"/a", dir+"/hard"))
	if err := c.Rename(dir+"/a", dir+"/b"); err == nil {
		t.Error("a rename replaced a file")
	}
	must(t, c.PosixRename(dir+"/a", dir+"/b"))
	if b, _ := os.ReadFile(dir + "/b"); string(b) != "a" {
		t.Errorf("after the rename b holds %q", b)
	}
	must(t, c.Rename(dir+"/b", dir+"/c"))
	must(t, c.Remove(dir+"/c"))
	if err := c.RemoveDirectory(dir + "/d"); err == nil {
		t.Error("a directory with files was removed")
	}
	must(t, c.Remove(dir+"/d/l"))
	must(t, c.RemoveDirectory(dir+"/d"))
	if _, err := c.Stat(dir + "/d"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is gone: %v", err)
	}
	if _, err := c.ReadDir(dir + "/hard"); err == nil {
		t.Error("a file was listed")
	}
}

func TestAttributes(t *testing.T) {
	c, dir := connect(t), t.TempDir()
	must(t, os.WriteFile(dir+"/f", []byte("0123456789"), 0o644))
	must(t, os.Symlink("f", dir+"/l"))
	must(t, c.Truncate(dir+"/f", 4))
	must(t, c.Chmod(dir+"/f", 0o711))
	must(t, c.Chtimes(dir+"/f", time.Unix(5, 0), time.Unix(6, 0)))
	if os.Geteuid() == 0 {
		must(t, c.Chown(dir+"/f", 12, 34))
	}
	st, err := c.Stat(dir + "/l")
	must(t, err)
	raw := st.Sys().(*sftp.FileStat)
	if raw.Size != 4 || raw.Atime != 5 || raw.Mtime != 6 || raw.Mode&0o777 != 0o711 {
		t.Errorf("the file is %+v", raw)
	}
	if os.Geteuid() == 0 && (raw.UID != 12 || raw.GID != 34) {
		t.Errorf("it belongs to %d:%d", raw.UID, raw.GID)
	}
	if st, err := c.Lstat(dir + "/l"); err != nil || st.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", st, err)
	}
	vfs, err := c.StatVFS(dir)
	must(t, err)
	var want unix.Statfs_t
	must(t, unix.Statfs(dir, &want))
	if vfs.Bsize != uint64(want.Bsize) || vfs.Blocks != want.Blocks || vfs.Namemax != uint64(want.Namelen) {
		t.Errorf("the file system is %+v, want %+v", vfs, want)
	}
	if err := c.Chmod(dir+"/no", 0o644); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("chmod of nothing: %v", err)
	}
}

func TestManyNames(t *testing.T) {
	c, dir := connect(t), t.TempDir()
	for i := range 1000 {
		must(t, os.WriteFile(fmt.Sprintf("%s/%0255d", dir, i), nil, 0o644))
	}
	list, err := c.ReadDir(dir)
	if err != nil || len(list) != 1000 {
		t.Fatalf("%d names, %v", len(list), err)
	}
}

func TestLine(t *testing.T) {
	var s server
	for mode, want := range map[uint32]string{
		unix.S_IFREG | 0o644: "-rw-r--r--", unix.S_IFDIR | 0o1777: "drwxrwxrwt", unix.S_IFREG | 0o6755: "-rwsr-sr-x",
		unix.S_IFREG | 0o6644: "-rwSr-Sr--", unix.S_IFLNK | 0o777: "lrwxrwxrwx", unix.S_IFDIR | 0o1770: "drwxrwx--T",
		unix.S_IFCHR | 0o600: "crw-------", unix.S_IFSOCK | 0o600: "srw-------",
	} {
		if got := s.line("name", &unix.Stat_t{Mode: mode}); !strings.HasPrefix(got, want+" ") || !strings.HasSuffix(got, " name") {
			t.Errorf("%o is %q, want %s", mode, got, want)
		}
	}
}

// request is one packet.
func request(kind uint8, id uint32, build func(e *encoder)) []byte {
	var e encoder
	e.begin(kind, id)
	build(&e)
	return bytes.Clone(e.packet())
}

// talk sends packets and returns the answers behind the first, which is the
// version.
func talk(t *testing.T, packets ...[]byte) (answers []*decoder) {
	t.Helper()
	all := request(typeInit, 3, func(*encoder) {})
	for _, p := range packets {
		all = append(all, p...)
	}
	var out bytes.Buffer
	must(t, Serve(bytes.NewReader(all), &out))
	for b := out.Bytes(); len(b) > 0; {
		n := 4 + binary.BigEndian.Uint32(b)
		answers = append(answers, &decoder{b: b[4:n]})
		b = b[n:]
	}
	return answers[1:]
}

// What no client of another's making asks for.
func TestExtensions(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/f", []byte("0123456789"), 0o644))
	must(t, os.Symlink("f", dir+"/l"))
	t.Setenv("HOME", dir)
	text := func(id uint32, texts ...string) []byte {
		return request(typeExtended, id, func(e *encoder) {
			for _, s := range texts {
				e.string(s)
			}
		})
	}
	answers := talk(t,
		text(1, "limits@openssh.com"),
		text(2, "expand-path@openssh.com", "~/f"),
		text(3, "no-such@example.com"),
		request(typeExtended, 4, func(e *encoder) {
			e.string("lsetstat@openssh.com")
			e.string(dir + "/l")
			e.uint32(attrTimes)
			e.uint32(7)
			e.uint32(8)
		}),
		request(typeOpen, 5, func(e *encoder) { e.string(dir + "/f"); e.uint32(openRead); e.uint32(0) }),
		request(typeOpen, 6, func(e *encoder) { e.string(dir + "/g"); e.uint32(openWrite | openCreate); e.uint32(0) }),
		request(typeExtended, 7, func(e *encoder) {
			e.string("copy-data")
			e.string("\x00\x00\x00\x01")
			e.uint64(2)
			e.uint64(5)
			e.string("\x00\x00\x00\x02")
			e.uint64(1)
		}),
		request(typeExtended, 8, func(e *encoder) {
			e.string("users-groups-by-id@openssh.com")
			e.string("\x00\x00\x00\x00")
			e.string("\x00\x00\x00\x00\xff\xff\xff\x00")
		}),
		request(typeMkdir, 9, func(e *encoder) { e.string(dir + "/d"); e.uint32(attrPermissions); e.uint32(0o700) }),
		request(typeClose, 10, func(e *encoder) { e.string("\x00\x00\x00\x02") }),
		request(typeClose, 11, func(e *encoder) { e.string("\x00\x00\x00\x02") }),
		request(99, 12, func(e *encoder) {}),
		request(typeRead, 13, func(e *encoder) { e.string("\x00\x00") }),
		text(14, "home-directory", ""),
	)
	if len(answers) != 14 {
		t.Fatalf("%d answers", len(answers))
	}
	for i, want := range []uint8{
		typeReply, typeName, typeStatus, typeStatus, typeHandle, typeHandle, typeStatus, typeReply,
		typeStatus, typeStatus, typeStatus, typeStatus, typeStatus, typeName,
	} {
		kind, id := answers[i].uint8(), answers[i].uint32()
		if kind != want || id != uint32(i+1) {
			t.Errorf("answer %d is a %d to %d, want a %d", i+1, kind, id, want)
		}
	}
	for i, want := range map[int]uint32{
		3: statusUnsupported, 4: statusOK, 7: statusOK, 9: statusOK, 10: statusOK, 11: statusNoSuchFile, 12: statusUnsupported, 13: statusBadMessage,
	} {
		d := answers[i-1]
		if code, words := d.uint32(), d.string(); code != want {
			t.Errorf("the status of %d is %d (%s), want %d", i, code, words, want)
		}
	}
	if d := answers[1]; d.uint32() != 1 || d.string() != dir+"/f" {
		t.Error("~ is not expanded")
	}
	if d := answers[13]; d.uint32() != 1 || d.string() != dir {
		t.Error("the home directory is another")
	}
	if b, _ := os.ReadFile(dir + "/g"); string(b) != "\x0023456" {
		t.Errorf("the copy holds %q", b)
	}
	var st unix.Stat_t
	must(t, unix.Lstat(dir+"/l", &st))
	if st.Mtim.Sec != 8 {
		t.Errorf("the link is of %d", st.Mtim.Sec)
	}
	if st, err := os.Stat(dir + "/d"); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the directory is %v, %v", st, err)
	}
	if d := answers[7]; d.string() != "\x00\x00\x00\x04root" || !strings.HasSuffix(d.string(), "4294967040") {
		t.Error("the names of users and groups are others")
	}
}

func FuzzServe(f *testing.F) {
	for _, kind := range []uint8{typeStat, typeRealpath, typeReadlink, typeOpendir} {
		f.Add(request(kind, 1, func(e *encoder) { e.string("/") }))
	}
	f.Add(request(typeOpen, 1, func(e *encoder) { e.string("/proc/self/status"); e.uint32(openRead); e.uint32(0) }))
	f.Add(request(typeRead, 1, func(e *encoder) { e.string("\x00\x00\x00\x01"); e.uint64(1 << 63); e.uint32(1<<32 - 1) }))
	f.Add(append(request(typeOpendir, 1, func(e *encoder) { e.string("/proc") }), request(typeReaddir, 2, func(e *encoder) { e.string("\x00\x00\x00\x01") })...))
	f.Add(request(typeExtended, 1, func(e *encoder) {
		e.string("users-groups-by-id@openssh.com")
		e.string(strings.Repeat("\x00", 4000))
		e.string("")
	}))
	f.Fuzz(func(t *testing.T, b []byte) {
		// Nothing that changes this machine: what writes is answered by the
		// decoders alone.
		s := server{handles: map[uint32]*handle{}}
		defer s.closeAll()
		for len(b) >= 5 {
			n := min(int(binary.BigEndian.Uint32(b)), len(b)-4, maxPacket)
			if n < 5 {
				return
			}
			d := &decoder{b: b[4 : 4+n]}
			kind, id := d.uint8(), d.uint32()
			switch kind {
			case typeOpen:
				// with its flags taken away
				name := d.string()
				_, _ = d.uint32(), d.attrs()
				if strings.HasPrefix(name, "/proc/self/s") {
					e := encoder{}
					e.string(name)
					e.uint32(openRead)
					e.uint32(0)
					_ = s.do(typeOpen, id, &decoder{b: e.b})
				}
			case typeStat, typeLstat, typeFstat, typeRead, typeReaddir, typeOpendir, typeRealpath, typeReadlink, typeClose:
				_ = s.do(kind, id, d)
			case typeExtended:
				if name := d.string(); name == "users-groups-by-id@openssh.com" {
					_ = s.accountNames(id, d)
				}
			default:
				_ = d.attrs()
			}
			if len(s.reply.b) > maxPacket+1024 {
				t.Fatalf("an answer of %d bytes", len(s.reply.b))
			}
			b = b[4+n:]
		}
	})
}
