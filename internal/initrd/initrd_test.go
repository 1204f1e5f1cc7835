package initrd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cavaliergopher/cpio"
)

func options(modules ...Module) Options {
	return Options{Agent: strings.NewReader("the agent"), Runc: strings.NewReader("runc!"), Modules: modules}
}

func write(t *testing.T, o Options) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, o); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// list reads an archive with an independent reader.
func list(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	files := make(map[string]string)
	r := cpio.NewReader(bytes.NewReader(archive))
	inodes := make(map[int64]string)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := inodes[h.Inode]; ok {
			t.Errorf("%s and %s have the same inode number, as hard links do", h.Name, other)
		}
		inodes[h.Inode] = h.Name
		if h.ModTime.Unix() != 0 || h.Uid != 0 || h.Guid != 0 {
			t.Errorf("%s has time %v, owner %d:%d", h.Name, h.ModTime, h.Uid, h.Guid)
		}
		files[h.Name] = fmt.Sprintf("%o %s", uint32(h.Mode), data)
	}
}

func TestWrite(t *testing.T) {
	got := list(t, write(t, options(
		Module{Name: "zz_first", Data: strings.NewReader("1")},
		Module{Name: "a-second", Data: strings.NewReader("22")},
		Module{Name: "third", Data: strings.NewReader("333"), Feature: "tunnels"},
		Module{Name: "fourth", Data: strings.NewReader("4"), Feature: "tunnels"},
	)))
	want := map[string]string{
		"bin": "40755 ", "dev": "40755 ", "proc": "40755 ", "sys": "40755 ", "run": "40755 ", "tmp": "40755 ",
		"ephemeral": "40755 ", "rootfs": "40755 ", "rootfs.base": "40755 ", "modules": "40755 ",
		"init": "100755 the agent", "bin/runc": "100755 runc!",
		"dev/console": "20600 ", "dev/null": "20666 ",
		"modules/000-zz_first.ko": "100644 1", "modules/001-a-second.ko": "100644 22",
		"modules/tunnels": "40755 ", "modules/tunnels/002-third.ko": "100644 333", "modules/tunnels/003-fourth.ko": "100644 4",
	}
	for name, content := range want {
		if got[name] != content {
			t.Errorf("%s is %q, want %q", name, got[name], content)
		}
	}
	if len(got) != len(want) {
		t.Errorf("there are %d files, want %d: %v", len(got), len(want), got)
	}
}

func TestDirectoriesComeFirst(t *testing.T) {
	r := cpio.NewReader(bytes.NewReader(write(t, options(Module{Name: "m", Data: strings.NewReader("m"), Feature: "f"}))))
	seen := map[string]bool{}
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if dir := path.Dir(h.Name); dir != "." && !seen[dir] {
			t.Errorf("%s comes before its directory", h.Name)
		}
		seen[h.Name] = true
	}
}

func TestDeterministic(t *testing.T) {
	module := func() Module { return Module{Name: "m", Data: strings.NewReader("m")} }
	if !bytes.Equal(write(t, options(module())), write(t, options(module()))) {
		t.Error("two initrds of the same parts differ")
	}
}

// The kernel unpacks archives that follow each other, at multiples of 4.
func TestWriteModulesCanFollow(t *testing.T) {
	base := write(t, options())
	var modules bytes.Buffer
	if err := WriteModules(&modules, []Module{{Name: "virtio_blk", Data: strings.NewReader("odd")}}); err != nil {
		t.Fatal(err)
	}
	if len(base)%4 != 0 || modules.Len()%4 != 0 {
		t.Errorf("lengths %d and %d are no multiples of 4", len(base), modules.Len())
	}
	if got := list(t, modules.Bytes())["modules/000-virtio_blk.ko"]; got != "100644 odd" {
		t.Errorf("the module is %q", got)
	}
}

// GNU cpio sees the device numbers, which the other reader does not tell.
func TestDeviceNumbers(t *testing.T) {
	path, err := exec.LookPath("cpio")
	if err != nil {
		t.Fatal("this test needs cpio: apt-get install cpio")
	}
	cmd := exec.Command(path, "-itvn", "--quiet")
	cmd.Stdin = bytes.NewReader(write(t, options()))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	nodes := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); strings.HasPrefix(line, "c") {
			nodes[f[len(f)-1]] = strings.ReplaceAll(strings.Join(f[4:6], ""), " ", "")
		}
	}
	if nodes["dev/console"] != "5,1" || nodes["dev/null"] != "1,3" {
		t.Errorf("the nodes are %v in\n%s", nodes, out)
	}
}

func TestWriteErrors(t *testing.T) {
	broken := errors.New("broken disk")
	for name, o := range map[string]Options{
		"no agent":     {Runc: strings.NewReader("x")},
		"no runc":      {Agent: strings.NewReader("x")},
		"empty agent":  {Agent: strings.NewReader(""), Runc: strings.NewReader("x")},
		"broken agent": {Agent: iotest.ErrReader(broken), Runc: strings.NewReader("x")},
		"path":         options(Module{Name: "../init", Data: strings.NewReader("x")}),
		"slash":        options(Module{Name: "a/b", Data: strings.NewReader("x")}),
		"no name":      options(Module{Name: "", Data: strings.NewReader("x")}),
		"empty module": options(Module{Name: "m", Data: strings.NewReader("")}),
		"feature":      options(Module{Name: "m", Data: strings.NewReader("x"), Feature: "../m"}),
		"too many":     options(make([]Module, maxModules+1)...),
	} {
		if err := Write(io.Discard, o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := Write(failingWriter{broken}, options()); !errors.Is(err, broken) {
		t.Errorf("a full disk is %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }
