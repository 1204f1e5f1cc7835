//go:build linux

package sftp

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// program is a real client, which not every machine has.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("there is no %s here", name)
	}
	return path
}

// server is a program that serves as this package does, whatever its arguments.
func serverProgram(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	file := filepath.Join(t.TempDir(), "server")
	must(t, os.WriteFile(file, fmt.Appendf(nil, "#!/bin/sh\n%s=1 exec %s\n", serveVariable, self), 0o755))
	return file
}

func run(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	b, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, b)
	}
	return string(b)
}

func TestSFTPProgram(t *testing.T) {
	sftp, server := program(t, "sftp"), serverProgram(t)
	local, remote := t.TempDir(), t.TempDir()
	data := bytes.Repeat([]byte("some text\n"), 300_000)
	must(t, os.WriteFile(local+"/big", data, 0o640))
	must(t, os.MkdirAll(local+"/tree/a/b", 0o750))
	must(t, os.WriteFile(local+"/tree/a/b/f", []byte("f"), 0o600))
	old := time.Unix(1_000_000_000, 0)
	must(t, os.Chtimes(local+"/big", old, old))
	out := run(t, strings.NewReplacer("LOCAL", local, "REMOTE", remote).Replace(`
cd REMOTE
put -p LOCAL/big
put -R LOCAL/tree
mkdir made
rename big renamed
symlink renamed link
ln renamed hard
chmod 600 renamed
ls -l
df .
get -p renamed LOCAL/back
get -R tree LOCAL/treeback
rm link
rmdir made
pwd
`), sftp, "-b", "-", "-D", server)
	for _, want := range []string{"Remote working directory: " + remote, "-rw-------", "tree", "link"} {
		if !strings.Contains(out, want) {
			t.Errorf("sftp does not say %q:\n%s", want, out)
		}
	}
	b, err := os.ReadFile(local + "/back")
	if err != nil || !bytes.Equal(b, data) {
		t.Errorf("what came back is different: %d bytes, %v", len(b), err)
	}
	st, err := os.Stat(local + "/back")
	must(t, err)
	if !st.ModTime().Equal(old) || st.Mode().Perm() != 0o600 {
		t.Errorf("it is of %v with %v", st.ModTime(), st.Mode())
	}
	if b, err := os.ReadFile(local + "/treeback/a/b/f"); string(b) != "f" {
		t.Errorf("the tree came back with %q, %v", b, err)
	}
	var hard, renamed unix.Stat_t
	must(t, unix.Stat(remote+"/hard", &hard))
	must(t, unix.Stat(remote+"/renamed", &renamed))
	if hard.Ino != renamed.Ino {
		t.Error("the hard link is another file")
	}
}

// scp(1) speaks SFTP since OpenSSH 9.
func TestSCPProgram(t *testing.T) {
	scp, server := program(t, "scp"), serverProgram(t)
	local, remote := t.TempDir(), t.TempDir()
	must(t, os.MkdirAll(local+"/d/e", 0o755))
	must(t, os.WriteFile(local+"/d/e/f", []byte("text"), 0o751))
	run(t, "", scp, "-s", "-r", "-p", "-S", server, local+"/d", "host:"+remote)
	run(t, "", scp, "-s", "-r", "-p", "-S", server, "host:"+remote+"/d", local+"/back")
	for _, file := range []string{remote + "/d/e/f", local + "/back/e/f"} {
		b, err := os.ReadFile(file)
		if err != nil || string(b) != "text" {
			t.Errorf("%s holds %q, %v", file, b, err)
		}
		if st, err := os.Stat(file); err == nil && st.Mode().Perm() != 0o751 {
			t.Errorf("%s has %v", file, st.Mode())
		}
	}
}

// A file system of the kernel's over the server.
func TestSSHFSProgram(t *testing.T) {
	sshfs, server := program(t, "sshfs"), serverProgram(t)
	if os.Geteuid() != 0 || unix.Access("/dev/fuse", unix.R_OK|unix.W_OK) != nil {
		t.Skip("mounting takes root and /dev/fuse")
	}
	remote, mount := t.TempDir(), t.TempDir()
	run(t, "", sshfs, "-o", "ssh_command="+server, "host:"+remote, mount)
	defer func() {
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	out := run(t, "", "sh", "-ec", `cd "$0"
mkdir -m 700 d
echo one >d/f
echo two >>d/f
dd if=/dev/zero of=big bs=64k count=40 conv=fsync status=none
ln -s f d/l
ln d/f d/h
echo new >n
mv n d/f
chmod 751 d/f
touch -d @1000000000 d/f
truncate -s 2 d/f
sync -d big
cat d/h d/l
stat -c '%a %Y %s' d/f
stat -c '%a' d
df . | tail -n 1 | wc -l
rm -r d`, mount)
	if want := "one\ntwo\nne751 "; !strings.HasPrefix(out, want) || !strings.HasSuffix(out, " 2\n700\n1\n") {
		t.Errorf("the mounted files are different:\n%s", out)
	}
	st, err := os.Stat(remote + "/big")
	if err != nil || st.Size() != 40*64<<10 {
		t.Errorf("the big file is %v, %v", st, err)
	}
	if _, err := os.Stat(remote + "/d"); err == nil {
		t.Error("the directory is still there")
	}
}
