package platform

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestMain(m *testing.M) {
	if role := os.Getenv("PLATFORM_TEST_ROLE"); role != "" {
		runRole(role)
		return
	}
	os.Exit(m.Run())
}

// helper starts this test binary in a role and returns it with its first line
// of output.
func helper(t *testing.T, role string, env ...string) (*exec.Cmd, string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), append(env, "PLATFORM_TEST_ROLE="+role)...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the helper %s said nothing: %v", role, err)
	}
	return cmd, strings.TrimSpace(line)
}

func privateDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestRunDirUsesXDGRuntimeDirOnlyIfPrivate(t *testing.T) {
	good := privateDir(t)
	open := privateDir(t)
	os.Chmod(open, 0o755)
	link := filepath.Join(good, "link")
	os.Symlink(good, link)
	long := filepath.Join(good, strings.Repeat("x", 80))
	os.Mkdir(long, 0o700)
	for _, tc := range []struct {
		name, dir string
		used      bool
	}{
		{"private", good, true},
		{"open to others", open, false},
		{"symbolic link", link, false},
		{"missing", filepath.Join(good, "none"), false},
		{"too long for sockets", long, false},
		{"unset", "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("XDG_RUNTIME_DIR", tc.dir)
			d, err := NewRunDir()
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if used := strings.HasPrefix(d.Path(), tc.dir+"/bake/") && tc.dir != ""; used != tc.used {
				t.Errorf("the directory is %s; in XDG_RUNTIME_DIR: %v, want %v", d.Path(), used, tc.used)
			}
			st, err := os.Stat(d.Path())
			if err != nil || st.Mode() != fs.ModeDir|0o700 {
				t.Errorf("stat: %v %v, want a directory with mode 0700", st, err)
			}
			if n := len(d.Path() + "/vm/v.sock_4294967295"); n > 103 {
				t.Errorf("a socket's path would have %d bytes", n)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(d.Path()); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("after Close: %v", err)
			}
			if err := d.Close(); err != nil {
				t.Errorf("second Close: %v", err)
			}
		})
	}
}

func TestPrivateRefuses(t *testing.T) {
	dir := privateDir(t)
	file := filepath.Join(dir, "file")
	os.WriteFile(file, nil, 0o600)
	for _, tc := range []struct {
		name, path, want string
		uid              int
	}{
		{"file", file, "is not a directory", os.Getuid()},
		{"somebody else's", dir, "belongs to user", os.Getuid() + 1},
		{"missing", filepath.Join(dir, "none"), "no such file", os.Getuid()},
	} {
		if err := private(tc.path, tc.uid); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want an error with %q", tc.name, err, tc.want)
		}
	}
}

func TestSweepRemovesWhatTheDeadLeftAndNothingElse(t *testing.T) {
	base := privateDir(t)
	mine, err := newRunDir(base)
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	os.WriteFile(filepath.Join(mine.Path(), "v.sock"), nil, 0o600)
	foreign := filepath.Join(base, "not-a-run-dir")
	os.Mkdir(foreign, 0o700)
	living, livingPath := helper(t, "rundir", "PLATFORM_TEST_BASE="+base)
	dead, deadPath := helper(t, "rundir", "PLATFORM_TEST_BASE="+base)
	os.WriteFile(filepath.Join(deadPath, "v.sock"), nil, 0o600)
	dead.Process.Kill()
	dead.Wait()

	n, err := sweep(base)
	if err != nil || n != 1 {
		t.Errorf("sweep = %d, %v, want 1 directory", n, err)
	}
	for path, want := range map[string]bool{mine.Path(): true, foreign: true, livingPath: true, deadPath: false} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: exists: %v, want %v", path, err == nil, want)
		}
	}
	living.Process.Kill()
	living.Wait()
	if n, err := sweep(base); err != nil || n != 1 {
		t.Errorf("second sweep = %d, %v, want 1 directory", n, err)
	}
}

func TestSweepRacesWithNewRunDir(t *testing.T) {
	base := privateDir(t)
	stop := make(chan struct{})
	var sweeper sync.WaitGroup
	sweeper.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := sweep(base); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for range 500 {
		d, err := newRunDir(base)
		if err != nil {
			t.Error(err)
			break
		}
		if err := os.WriteFile(filepath.Join(d.Path(), "s"), nil, 0o600); err != nil {
			t.Errorf("a directory in use was swept: %v", err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	sweeper.Wait()
}
