package vmmbundle

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// isolatedEnv makes the test's executable run another program in an otherwise empty file system: it names the
// new root, and the arguments are the program.
const isolatedEnv = "BAKE_TEST_NEW_ROOT"

func TestMain(m *testing.M) {
	if root := os.Getenv(isolatedEnv); root != "" {
		fmt.Fprintln(os.Stderr, enterAndRun(root, os.Args[1:]))
		os.Exit(125)
	}
	os.Exit(m.Run())
}

// enterAndRun is in a mount namespace of its own. It returns only if something fails.
func enterAndRun(root string, argv []string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, p := range []string{"/dev/null", "/dev/zero", "/dev/urandom", "/proc"} {
		if err := unix.Mount(p, filepath.Join(root, p), "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("bind %s: %w", p, err)
		}
	}
	if err := unix.Chroot(root); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	env := slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, isolatedEnv) })
	return fmt.Errorf("run %s: %w", argv[0], unix.Exec(argv[0], argv, env))
}

// bareRoot is a directory with nothing in it but /dev, /proc and an unpacked bundle of this machine's QEMU,
// and the command that starts it there.
func bareRoot(t *testing.T) (root string, c Command) {
	t.Helper()
	_, archive := hostQEMU(t)
	root = t.TempDir()
	for _, dir := range []string{"dev", "proc", "tmp", "cache"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"null", "zero", "urandom"} {
		if err := os.WriteFile(filepath.Join(root, "dev", file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := unpack(t, archive, filepath.Join(root, "cache"))
	if err != nil {
		t.Fatal(err)
	}
	if c, err = NewCommand(dir); err != nil {
		t.Fatal(err)
	}
	for _, list := range [][]string{c.Args, c.Env} {
		for i := range list {
			list[i] = strings.ReplaceAll(list[i], root, "")
		}
	}
	return root, c
}

// isolated returns a command for argv in root.
func isolated(ctx context.Context, root string, c Command, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append(slices.Clone(c.Args), args...)...)
	cmd.Env = append([]string{isolatedEnv + "=" + root}, c.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if uid := os.Getuid(); uid != 0 { // as root in a user namespace
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	return cmd
}

func TestRunsWhereNothingIsInstalled(t *testing.T) {
	root, c := bareRoot(t)
	out, err := isolated(t.Context(), root, c, "--version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "QEMU emulator version ") {
		t.Errorf("%v: %s", err, out)
	}
	// Proof of the emptiness: the emulator without its loader cannot even start.
	out, err = isolated(t.Context(), root, Command{Args: c.Args[len(c.Args)-3:]}, "--version").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "no such file or directory") {
		t.Errorf("without its loader: %v: %s", err, out)
	}
}

// The machines that apps run on start a distribution's kernel with nothing but what is in the bundle.
func TestBootsWhereNothingIsInstalled(t *testing.T) {
	kernel := stockKernel(t)
	root, c := bareRoot(t)
	if err := copyFile(kernel, filepath.Join(root, "vmlinuz")); err != nil {
		t.Fatal(err)
	}
	machines := map[string][]string{
		"amd64": {"microvm", "microvm,acpi=off", "q35"},
		"arm64": {"virt"},
	}[runtime.GOARCH]
	cpu, console := "max,-erms", "ttyS0"
	if runtime.GOARCH == "arm64" {
		cpu, console = "max", "ttyAMA0"
	}
	for _, machine := range machines {
		t.Run(machine, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			cmd := isolated(ctx, root, c,
				"-M", machine, "-accel", "tcg", "-cpu", cpu, "-m", "256", "-nodefaults", "-no-user-config", "-display", "none",
				"-no-reboot", "-serial", "stdio", "-kernel", "/vmlinuz", "-append", "console="+console+" panic=-1")
			log := waitFor(t, cmd, "Linux version ")
			if !strings.Contains(log, "Linux version ") {
				t.Errorf("the kernel did not start:\n%s", log)
			}
		})
	}
}

// waitFor starts cmd and returns what it wrote up to the line with text, or all of it. It ends cmd.
func waitFor(t *testing.T, cmd *exec.Cmd, text string) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	w.Close()
	if err != nil {
		t.Fatalf("start in a new mount namespace (needs root or unprivileged user namespaces): %v", err)
	}
	var log strings.Builder
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fmt.Fprintln(&log, lines.Text())
		if strings.Contains(lines.Text(), text) {
			break
		}
	}
	_ = cmd.Process.Kill() // it may have ended by itself
	_ = cmd.Wait()
	return log.String()
}

// stockKernel returns Debian's cloud kernel for this architecture, or the one that $BAKE_TEST_KERNEL names. It
// is downloaded once into the user's cache.
func stockKernel(t *testing.T) string {
	t.Helper()
	if p := os.Getenv("BAKE_TEST_KERNEL"); p != "" {
		return p
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	kernel := filepath.Join(cache, "bake", "test", "vmlinuz-cloud-"+runtime.GOARCH)
	if _, err := os.Stat(kernel); err == nil {
		return kernel
	}
	temp, err := downloadKernel(t.Context(), t.TempDir())
	if err != nil {
		t.Fatalf("get a kernel to boot, with apt-get download (or set BAKE_TEST_KERNEL to a vmlinuz): %v", err)
	}
	if err := os.MkdirAll(filepath.Dir(kernel), 0o755); err != nil {
		t.Fatal(err)
	}
	partial := fmt.Sprintf("%s.%d", kernel, os.Getpid())
	if err := errors.Join(copyFile(temp, partial), os.Rename(partial, kernel)); err != nil {
		t.Fatal(err)
	}
	return kernel
}

// downloadKernel leaves the kernel that the meta package depends on in dir.
func downloadKernel(ctx context.Context, dir string) (string, error) {
	meta := "linux-image-cloud-" + runtime.GOARCH
	run := func(name string, args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir = dir
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, stderr.String())
		}
		return string(out), nil
	}
	depends, err := run("apt-cache", "depends", meta)
	if err != nil {
		return "", err
	}
	_, pkg, found := strings.Cut(depends, "Depends: ")
	if pkg, _, _ = strings.Cut(pkg, "\n"); !found || path.Base(pkg) != pkg {
		return "", fmt.Errorf("%s depends on no kernel: %q", meta, depends)
	}
	if _, err := run("apt-get", "download", pkg); err != nil {
		return "", err
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(debs) != 1 {
		return "", fmt.Errorf("apt-get download left %q (%v)", debs, err)
	}
	if _, err := run("dpkg", "-x", debs[0], "."); err != nil {
		return "", err
	}
	kernels, err := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		return "", fmt.Errorf("%s holds %q (%v)", pkg, kernels, err)
	}
	return kernels[0], nil
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}
