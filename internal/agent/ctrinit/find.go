//go:build linux

package ctrinit

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A failure is a command that cannot be run: an exit code of docker-run(1) and
// a sentence.
type failure struct {
	code    int
	message string
}

func notFound(format string, a ...any) *failure {
	return &failure{code: 127, message: fmt.Sprintf(format, a...)}
}

func notExecutable(format string, a ...any) *failure {
	return &failure{code: 126, message: fmt.Sprintf(format, a...)}
}

// find looks the command up as execvp(3) does: a name without a slash in its
// PATH, where a file that may not be executed is passed over.
func find(s *Start) (string, *failure) {
	if len(s.Args) == 0 || s.Args[0] == "" {
		return "", notFound("the command to run is empty: give one after --, or build the app from an image that has one")
	}
	name := cmp.Or(s.Path, s.Args[0])
	if strings.Contains(name, "/") {
		if err := executable(name); err != nil {
			return "", cannotRun(name, name, err)
		}
		return name, nil
	}
	path := variable(s.Env, "PATH")
	var denied string
	for _, dir := range filepath.SplitList(path) {
		if dir == "" {
			dir = "."
		}
		file := dir + "/" + name
		err := executable(file)
		if err == nil {
			return file, nil
		}
		if denied == "" && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EISDIR)) {
			denied = file
		}
	}
	if denied != "" {
		return "", cannotRun(name, denied, executable(denied))
	}
	return "", notFound("the command %q was not found in the container's PATH (%s)", name, path)
}

func variable(env []string, key string) string {
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, key+"="); ok {
			return v
		}
	}
	return ""
}

// executable says why this process may not execute a file: EISDIR, or the
// error of stat(2) or access(2). It does not look into it.
func executable(file string) error {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return unix.EISDIR
	}
	return unix.Access(file, unix.X_OK)
}

// cannotRun explains an error of execve(2), or of looking for what to execute.
func cannotRun(name, file string, err error) *failure {
	switch {
	case errors.Is(err, unix.ENOENT) && executable(file) == nil:
		return notFound("the command %q cannot run: the interpreter or dynamic loader that %s asks for is not in the image", name, file)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return notFound("the command %q was not found in the container: %s does not exist", name, file)
	case errors.Is(err, unix.EISDIR), isDir(file):
		return notExecutable("the command %q cannot run: %s is a directory", name, file)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return notExecutable("the command %q cannot run: permission denied for user %d on %s; is it executable?", name, unix.Geteuid(), file)
	case errors.Is(err, unix.ENOEXEC):
		return notExecutable("the command %q cannot run: exec format error: %s is no program of this architecture and no script with a #! line", name, file)
	case errors.Is(err, unix.E2BIG):
		return notExecutable("the command %q cannot run: its arguments and environment are longer than the kernel allows", name)
	}
	return notExecutable("the command %q cannot run: %v", name, errnoOf(err))
}

func isDir(file string) bool {
	st, err := os.Stat(file)
	return err == nil && st.IsDir()
}

// errnoOf leaves out what os.StartProcess wraps around the errno.
func errnoOf(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}
