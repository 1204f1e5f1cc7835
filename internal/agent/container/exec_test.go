//go:build linux

package container

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"bake/internal/agent/reaper"
	"bake/internal/wire"
)

func TestMergeEnv(t *testing.T) {
	base := []string{"A=1", "B=2", "AB=3"}
	got := mergeEnv(base, []string{"A=4", "C=5", "A=6"})
	if want := []string{"B=2", "AB=3", "C=5", "A=6"}; !slices.Equal(got, want) {
		t.Errorf("the environment is %q, want %q", got, want)
	}
	if !slices.Equal(base, []string{"A=1", "B=2", "AB=3"}) {
		t.Errorf("the command's has become %q", base)
	}
}

func TestProcessFor(t *testing.T) {
	c := &Container{cfg: Config{Process: wire.Process{
		Args: []string{"server"}, Env: []string{"A=1"}, Cwd: "srv", User: "baker", UID: number(5), GID: number(6), Terminal: true, Rows: 1, Cols: 2,
	}}}
	for name, x := range map[string]struct {
		cfg  ExecConfig
		want wire.Process
	}{
		"as the command": {ExecConfig{Args: []string{"x"}},
			wire.Process{Args: []string{"x"}, Env: []string{"A=1"}, Cwd: "/srv", User: "baker", UID: number(5), GID: number(6)}},
		"otherwise": {ExecConfig{Args: []string{"x"}, Env: []string{"A=2"}, Cwd: "/", User: "0", Terminal: true, Rows: 3, Cols: 4},
			wire.Process{Args: []string{"x"}, Env: []string{"A=2"}, Cwd: "/", User: "0", Terminal: true, Rows: 3, Cols: 4}},
	} {
		if diff := cmp.Diff(x.want, c.processFor(x.cfg)); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}

func TestLookupLogin(t *testing.T) {
	usual := tree(t, map[string]string{"etc/passwd": passwd + "second:x:1000:1001::/home/second:/bin/second\nnoshell:x:8:8::/:\n", "etc/group": group})
	scratch := tree(t, nil)
	for name, c := range map[string]struct {
		root string
		p    wire.Process
		want string // name, number, home and shell
	}{
		"root":                {usual, wire.Process{User: "root"}, "root 0 /root /bin/sh"},
		"name":                {usual, wire.Process{User: "baker"}, "baker 1000 /home/baker /bin/sh"},
		"of the same number":  {usual, wire.Process{User: "second"}, "second 1000 /home/second /bin/second"},
		"number":              {usual, wire.Process{User: "1000"}, "baker 1000 /home/baker /bin/sh"},
		"number of nobody":    {usual, wire.Process{User: "4242"}, "4242 4242 / /bin/sh"},
		"no shell":            {usual, wire.Process{User: "noshell"}, "noshell 8 / /bin/sh"},
		"with a group":        {usual, wire.Process{User: "baker:oven"}, "baker 1000 /home/baker /bin/sh"},
		"the command's":       {usual, wire.Process{}, "root 0 /root /bin/sh"},
		"root in scratch":     {scratch, wire.Process{User: "root"}, "root 0 / /bin/sh"},
		"a number in scratch": {scratch, wire.Process{User: "7"}, "7 7 / /bin/sh"},
	} {
		l, err := lookupLogin(c.root, c.p)
		if got := fmt.Sprintf("%s %d %s %s", l.Name, l.UID, l.Home, l.Shell); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
	for _, root := range []string{usual, scratch} {
		if l, err := lookupLogin(root, wire.Process{User: "nosuch"}); err == nil || !strings.Contains(err.Error(), `"nosuch"`) {
			t.Errorf("somebody who does not exist is %+v, %v", l, err)
		}
	}
}

// inContainer is a container whose first process is in a mount namespace of its
// own, where /mnt is empty and open to all.
func inContainer(t *testing.T) *Container {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("making a mount namespace takes root")
	}
	r := reaper.New()
	t.Cleanup(r.Stop)
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer out.Close()
	init, err := r.Start(sh, []string{"sh", "-c", "mount -t tmpfs -o mode=1777 none /mnt && echo && exec sleep 1000"}, &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{nil, out, os.Stderr}, Sys: &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = init.Signal(unix.SIGKILL)
		init.Status()
	})
	out.Close()
	if _, err := in.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return &Container{init: init, entered: make(chan struct{}, maxEntered)}
}

func TestEnter(t *testing.T) {
	c := inContainer(t)
	const file = "/mnt/made-by-the-test-of-enter"
	var threads sync.Map
	var all sync.WaitGroup
	for range 2 * runtime.NumCPU() {
		all.Go(func() {
			err := c.Enter(func() error {
				threads.Store(unix.Gettid(), true)
				return os.WriteFile(file, nil, 0o600)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if _, ok := threads.Load(unix.Getpid()); ok {
		t.Error("the main thread was lent")
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is here, outside: %v", err)
	}
	baker := Account{UID: 4242, GID: 4243, Groups: []uint32{4244}}
	err := c.EnterAs(baker, func() error {
		if _, err := os.ReadFile(file); !errors.Is(err, os.ErrPermission) {
			t.Errorf("somebody else may read the file: %v", err)
		}
		if err := os.WriteFile(file+"2", nil, 0o600); err != nil {
			return err
		}
		var st unix.Stat_t
		err := unix.Stat(file+"2", &st)
		if st.Uid != baker.UID || st.Gid != baker.GID {
			t.Errorf("the file belongs to %d:%d", st.Uid, st.Gid)
		}
		groups, _ := unix.Getgroups()
		if !slices.Equal(groups, []int{4244}) {
			t.Errorf("the groups are %v", groups)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if uid := unix.Geteuid(); uid != 0 {
		t.Errorf("the process is user %d", uid)
	}
	if err := c.Enter(func() error { panic("x") }); err == nil {
		t.Error("a panic is no error")
	}

	_ = c.init.Signal(unix.SIGKILL)
	c.init.Status()
	if err := c.Enter(func() error { return nil }); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("a container that has ended: %v", err)
	}
}

// A container that keeps threads does not get all that there are.
func TestEnterIsBounded(t *testing.T) {
	c := inContainer(t)
	held := make(chan struct{})
	entered := make(chan struct{}, maxEntered)
	var all sync.WaitGroup
	for range maxEntered {
		all.Go(func() {
			_ = c.Enter(func() error {
				entered <- struct{}{}
				<-held
				return nil
			})
		})
	}
	for range maxEntered {
		<-entered
	}
	if err := c.Enter(func() error { return nil }); !errors.Is(err, errEntered) {
		t.Errorf("one more: %v", err)
	}
	close(held)
	all.Wait()
	if err := c.Enter(func() error { return nil }); err != nil {
		t.Error(err)
	}
}
