package app

import (
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// RunInitScript replaces this process by the app's init script, with the
// user's arguments and with BAKE_EXE in its environment: a path under which
// the script can run the app, with BAKE_RUN_VM=1, even when the file has been
// moved. It returns only if that fails.
func RunInitScript(script []byte, exe *os.File, args, environ []string) error {
	f, err := scriptFile(script)
	if err != nil {
		return err
	}
	defer f.Close()
	// Both files must outlive exec: the interpreter opens the script by its
	// number, and the script the app.
	for _, file := range []*os.File{f, exe} {
		if _, err := unix.FcntlInt(file.Fd(), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("prepare to run the init script: %w", err)
		}
	}
	env := append(environ, fmt.Sprintf("BAKE_EXE=%s/%d", fdDir, exe.Fd()))
	path := fmt.Sprintf("%s/%d", fdDir, f.Fd())
	err = syscall.Exec(path, append([]string{path}, args...), env)
	return fmt.Errorf("run the init script: %w; it must begin with #! and the path of an interpreter that this machine has", err)
}

func writeScript(f *os.File, script []byte) error {
	if _, err := f.Write(script); err != nil {
		return fmt.Errorf("write the init script to %s: %w", f.Name(), err)
	}
	_, err := f.Seek(0, io.SeekStart)
	return err
}
