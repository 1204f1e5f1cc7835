//go:build linux

// Command posix says how much of a file system's semantics a directory has: it
// runs a table of some hundreds of cases on it, each a system call and what
// must come of it by POSIX.1-2017 and the Linux man pages.
//
//	posix [flags] DIR     runs the cases in directories that it makes in DIR
//	posix -list           names them
//	posix fsx [flags] FILE
//	                      does random operations on a file and checks each
//	                      against what the file must hold
//	posix count FILE      writes numbers, each made durable before it is told
//	posix counted FILE N  says whether the number is there
//	posix watch DIR       tells what inotify says of a directory
//	posix locked FILE PROG...
//	                      runs a program while it holds the lock of fcntl(2)
//
// Each failure is one line; the last line counts. Where a case needs what not
// every file system of Linux has (holes, attributes, O_TMPFILE, ...) and gets
// the errno for that, this is a failure too, unless -host names the output of
// a run on the file system behind this one, which could not do it either.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	var err error
	args := os.Args[1:]
	switch {
	case len(args) > 0 && args[0] == "fsx":
		err = fsxMain(args[1:])
	case len(args) == 2 && args[0] == "count":
		err = count(args[1])
	case len(args) == 3 && args[0] == "counted":
		err = counted(args[1], args[2])
	case len(args) == 2 && args[0] == "watch":
		err = watch(args[1])
	case len(args) > 2 && args[0] == "locked":
		err = locked(args[1], args[2:])
	case len(args) > 0 && args[0] == "child":
		err = child(args[1:])
	default:
		err = casesMain(args)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "posix:", err)
		os.Exit(1)
	}
}

// A runner is one run over the cases.
type runner struct {
	dir         string
	plain       int // the user who is not root, in cases that need one
	entries     int // of large directories
	user        bool
	oneOwner    bool // all files are one user's, and stay so
	known       []string
	hostLacks   []string
	run         string
	failed      int
	passed      int
	unsupported []string
}

func casesMain(args []string) error {
	var r runner
	flags := flag.NewFlagSet("posix", flag.ContinueOnError)
	list := flags.Bool("list", false, "name the cases")
	user := flags.Int("user", 0, "run as the user and group with this `ID`, with what such a user can do")
	known := flags.String("known", "", "the `file` with the names of cases that fail, one a line, and reasons after #")
	host := flags.String("host", "", "the `file` with the output of a run on the file system behind this one")
	flags.BoolVar(&r.oneOwner, "one-owner", false, "cases that give a file to another user, and may not, are known to fail")
	flags.StringVar(&r.run, "run", "", "run only the cases whose name begins with `prefix`")
	flags.IntVar(&r.entries, "entries", 10_000, "`number` of files in large directories")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *list {
		for _, c := range cases() {
			fmt.Println(c.name)
		}
		return nil
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("name one directory to work in, not %q", flags.Args())
	}
	dir, err := filepath.Abs(flags.Arg(0))
	if err != nil {
		return err
	}
	r.dir, r.plain, r.user = dir, 1000, *user != 0 || os.Getuid() != 0
	if *known != "" {
		text, err := os.ReadFile(*known)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			name, _, _ := strings.Cut(line, "#")
			if name = strings.TrimSpace(name); name != "" {
				r.known = append(r.known, name)
			}
		}
	}
	if *host != "" {
		if r.hostLacks, err = lacks(*host); err != nil {
			return err
		}
	}
	return r.main(*user)
}

// lacks reads from the output of a run what is not supported.
func lacks(path string) (names []string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if name, ok := strings.CutPrefix(lines.Text(), "not supported: "); ok {
			name, _, _ = strings.Cut(name, ": ")
			names = append(names, name)
		}
	}
	return names, lines.Err()
}

func (r *runner) main(user int) error {
	all := cases()
	for _, name := range r.known {
		if !slices.ContainsFunc(all, func(c testCase) bool { return c.name == name }) {
			return fmt.Errorf("there is no case %q that could be known to fail", name)
		}
	}
	syscall.Umask(0)
	work, err := os.MkdirTemp(r.dir, "posix-")
	if err != nil {
		return err
	}
	if err := os.Chmod(work, 0o755); err != nil {
		return err
	}
	if user != 0 {
		if err := os.Chown(work, user, user); err != nil {
			return err
		}
		if err := become(user); err != nil {
			return err
		}
	}
	runs := func(c testCase) bool { return strings.HasPrefix(c.name, r.run) && !(r.user && c.root) }
	all = slices.DeleteFunc(all, func(c testCase) bool { return !runs(c) })
	r.known = slices.DeleteFunc(r.known, func(name string) bool {
		return !slices.ContainsFunc(all, func(c testCase) bool { return c.name == name })
	})
	for _, c := range all {
		r.one(work, c)
	}
	if left, err := names(work); (err != nil || len(left) > 0) && r.failed == 0 {
		return fmt.Errorf("%q is left in the directory (%v)", left, err)
	}
	os.Remove(work) // a user who is not root leaves it, empty
	who := "root"
	if r.user {
		who = fmt.Sprintf("user %d", os.Getuid())
	}
	fmt.Printf("%d cases as %s: %d passed, %d failed, %d known to fail, %d not supported\n",
		r.passed+r.failed+len(r.known)+len(r.unsupported), who, r.passed, r.failed, len(r.known), len(r.unsupported))
	if r.failed > 0 {
		return fmt.Errorf("%d cases failed", r.failed)
	}
	return nil
}

// patience bounds a case. It asserts nothing: what takes so long hangs.
const patience = 3 * time.Minute

func (r *runner) one(work string, c testCase) {
	alarm := time.AfterFunc(patience, func() {
		fmt.Printf("FAIL %s: does not end\n", c.name)
		os.Exit(1)
	})
	defer alarm.Stop()
	t := &T{runner: r, dir: filepath.Join(work, "d")}
	err := t.do(c.run)
	known := slices.Contains(r.known, c.name)
	_, lacking := err.(notSupported)
	_, owners := err.(severalOwners)
	switch {
	case owners && !known:
		r.known = append(r.known, c.name)
	case err != nil && known:
	case err == nil && known:
		r.known = slices.DeleteFunc(r.known, func(name string) bool { return name == c.name })
		r.passed++
		fmt.Printf("is known to fail and passes: %s\n", c.name)
	case lacking:
		fmt.Printf("not supported: %s: %v\n", c.name, err)
		r.unsupported = append(r.unsupported, c.name)
		if !r.allows(c.name) {
			r.failed++
			r.unsupported = r.unsupported[:len(r.unsupported)-1]
			fmt.Printf("FAIL %s: should be supported\n", c.name)
		}
	case err != nil:
		r.failed++
		fmt.Printf("FAIL %s: %v\n", c.name, err)
	default:
		r.passed++
	}
}

// allows says whether the case may lack support: where nothing is behind this
// file system, its run is what others are compared with.
func (r *runner) allows(name string) bool {
	return r.hostLacks == nil || slices.Contains(r.hostLacks, name)
}

// become gives up root for good.
func become(user int) error {
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("give up root's groups: %w", err)
	}
	if err := syscall.Setgid(user); err != nil {
		return fmt.Errorf("become group %d: %w", user, err)
	}
	if err := syscall.Setuid(user); err != nil {
		return fmt.Errorf("become user %d: %w", user, err)
	}
	runtime.GC() // no finalizer of root's runs later
	return nil
}
