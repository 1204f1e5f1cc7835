package volume

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// With this set the test's executable is another user of a volume.
const roleVariable = "BAKE_TEST_HOLD_VOLUME"

// With this too it leaves the lock to a child and ends.
const heirVariable = "BAKE_TEST_LEAVE_VOLUME"

func TestMain(m *testing.M) {
	if store, name, ok := strings.Cut(os.Getenv(roleVariable), "="); ok {
		f, err := NewStore(store).Open(name, false)
		fmt.Println(err == nil)
		if err == nil && os.Getenv(heirVariable) != "" {
			heir := exec.Command("cat")
			heir.Stdin, heir.Stdout, heir.ExtraFiles = os.Stdin, os.Stdout, []*os.File{f}
			if err := heir.Start(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0) // and leave it
		}
		if err == nil {
			bufio.NewReader(os.Stdin).ReadByte() // until the end
			f.Close()
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Another process has the volume: the error names it, and the list does.
func TestHolderIsNamed(t *testing.T) {
	s := testStore(t)
	if err := s.Create("x", MinSize); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args[0] = "./postgres"
	cmd.Env = append(os.Environ(), roleVariable+"="+s.Dir()+"=x")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer stdin.Close()
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "true\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	_, oerr := s.Open("x", false)
	_, rerr := s.Open("x", true)
	for what, err := range map[string]error{"Open": oerr, "Open to read": rerr, "Remove": s.Remove("x")} {
		if !errors.Is(err, ErrInUse) || !numbersAreShown(t, s.Path("x")) && !strings.Contains(err.Error(), "another app") && !strings.Contains(err.Error(), "an app") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if !numbersAreShown(t, s.Path("x")) {
		t.Logf("/proc/locks has other numbers than stat(2) for %s, so the holder cannot be named", s.Dir())
		return
	}
	by := fmt.Sprintf("postgres (process %d)", cmd.Process.Pid)
	for what, err := range map[string]error{"Open": oerr, "Open to read": rerr, "Remove": s.Remove("x")} {
		if !strings.Contains(err.Error(), "it is in use by "+by) {
			t.Errorf("%s: %v does not name %s", what, err, by)
		}
	}
	if info, err := s.Inspect("x"); err != nil || info.InUse != by {
		t.Errorf("Inspect = %+v, %v", info, err)
	}
}

// numbersAreShown says whether this filesystem's locks can be found.
func numbersAreShown(t *testing.T, path string) bool {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return lockHolder(f).pid != 0
}

func TestHolderIn(t *testing.T) {
	const locks = `1: FLOCK  ADVISORY  WRITE 704 00:1f:12 0 EOF
1: -> FLOCK  ADVISORY  READ 705 00:1f:99 0 EOF
2: POSIX  ADVISORY  READ 706 00:1f:99 128 128
3: FLOCK  ADVISORY  WRITE 707 00:1f:99 0 EOF
4: FLOCK  ADVISORY  WRITE -1 fe:01:7 0 EOF
5: FLOCK
`
	for id, want := range map[string]int{"00:1f:12": 704, "00:1f:99": 707, "fe:01:7": 0, "00:1f:1": 0} {
		if got := holderIn(locks, id); got != want {
			t.Errorf("the holder of %s is %d, want %d", id, got, want)
		}
	}
}

func TestMountDevice(t *testing.T) {
	const mounts = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n36 21 0:31 /@home /home rw - btrfs /dev/sdb rw\n40 21 x / /x rw\n"
	for id, want := range map[string][2]uint32{"21": {8, 1}, "36": {0, 31}} {
		major, minor, ok := mountDevice("pos:\t0\nflags:\t02\nmnt_id:\t"+id+"\nino:\t5\n", mounts)
		if !ok || [2]uint32{major, minor} != want {
			t.Errorf("mount %s: %d:%d, %v, want %v", id, major, minor, ok, want)
		}
	}
	for _, id := range []string{"", "3", "40"} {
		if _, _, ok := mountDevice("mnt_id:\t"+id+"\n", mounts); ok {
			t.Errorf("mount %q is found", id)
		}
	}
}

// A process took the lock and died, and another has inherited it, as a VM that
// is killed with its app does for a moment: that is nobody to be named, and the
// next user waits until it is gone.
func TestLockOfTheDyingIsWaitedFor(t *testing.T) {
	s := testStore(t)
	if err := s.Create("x", MinSize); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+s.Dir()+"=x", heirVariable+"=1")
	stdin, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdin, cmd.Stdout = stdin, stdout
	err = cmd.Run()
	stdin.Close()
	stdout.Close()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(s.Path("x"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := flock(f, unix.LOCK_SH|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Fatalf("the heir does not have the lock: %v", err)
	}
	if h := lockHolder(f); h.pid != 0 {
		t.Errorf("%v has the lock and is dead", h)
	}
	in.Close() // the heir ends
	if _, err := io.Copy(io.Discard, out); err != nil {
		t.Fatal(err)
	}
	v, err := s.Open("x", false)
	if err != nil {
		t.Fatal(err)
	}
	v.Close()
}

func TestSocketsAreRefusedWithTheirReason(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	spec := Spec{Host: path, Target: "/s"}
	if err := spec.Resolve("/", "/"); err == nil || !strings.Contains(err.Error(), "is a socket") {
		t.Error(err)
	}
}
