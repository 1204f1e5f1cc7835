//go:build boot && linux

package boottest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	// The agent that is built is the one that is here.
	_ "bake/internal/agent"
	"bake/internal/initrd"
)

// What all guests are made of.
var kernel, runc, modules, busybox, arch, initrdFile, image string

func TestMain(m *testing.M) {
	code, err := prepare(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "boottest:", err)
		code = 1
	}
	os.Exit(code)
}

func prepare(m *testing.M) (int, error) {
	kernel, runc, modules = os.Getenv("BAKE_TEST_KERNEL"), os.Getenv("BAKE_TEST_RUNC"), os.Getenv("BAKE_TEST_MODULES")
	if kernel == "" || runc == "" {
		return 0, fmt.Errorf("set BAKE_TEST_KERNEL to a guest kernel and BAKE_TEST_RUNC to a static runc")
	}
	var err error
	if busybox = os.Getenv("BAKE_TEST_BUSYBOX"); busybox == "" {
		if busybox, err = exec.LookPath("busybox"); err != nil {
			return 0, err
		}
	}
	if arch = os.Getenv("BAKE_TEST_ARCH"); arch == "" {
		arch = "amd64"
	}
	dir, err := os.MkdirTemp("", "boottest")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	agent := filepath.Join(dir, "bake-agent")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", agent, "bake/cmd/bake-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build the agent: %w: %s", err, out)
	}
	if initrdFile, err = makeInitrd(dir, agent); err != nil {
		return 0, err
	}
	if image, err = makeImage(dir, nil); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

func makeInitrd(dir, agent string) (string, error) {
	var o initrd.Options
	for _, part := range []struct {
		path string
		set  func(*os.File)
	}{
		{agent, func(f *os.File) { o.Agent = f }},
		{runc, func(f *os.File) { o.Runc = f }},
	} {
		f, err := os.Open(part.path)
		if err != nil {
			return "", err
		}
		defer f.Close()
		part.set(f)
	}
	if modules != "" {
		files, err := filepath.Glob(filepath.Join(modules, "*.ko"))
		if err != nil {
			return "", err
		}
		for _, name := range files {
			f, err := os.Open(name)
			if err != nil {
				return "", err
			}
			defer f.Close()
			_, base, _ := strings.Cut(strings.TrimSuffix(filepath.Base(name), ".ko"), "-")
			o.Modules = append(o.Modules, initrd.Module{Name: base, Data: f})
		}
	}
	path := filepath.Join(dir, "initrd")
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return path, initrd.Write(f, o)
}

// makeImage makes a small image of busybox, with a change to its files unless
// that is nil.
func makeImage(dir string, change func(root string) error) (string, error) {
	root := filepath.Join(dir, "root")
	for _, d := range []string{"bin", "etc", "tmp", "home/baker", "data", "dev", "proc", "sys"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return "", err
		}
	}
	if err := exec.Command("cp", busybox, filepath.Join(root, "bin/busybox")).Run(); err != nil {
		return "", err
	}
	applets, err := exec.Command("busybox", "--list").Output()
	if err != nil {
		return "", err
	}
	for _, a := range strings.Fields(string(applets)) {
		if a != "busybox" {
			if err := os.Symlink("busybox", filepath.Join(root, "bin", a)); err != nil {
				return "", err
			}
		}
	}
	for name, f := range map[string]struct {
		content string
		mode    os.FileMode
	}{
		"etc/passwd":      {"root:x:0:0:root:/root:/bin/sh\nbaker:x:1000:1001::/home/baker:/bin/sh\n", 0o644},
		"etc/group":       {"root:x:0:\nbaker:x:1001:\noven:x:1002:baker\nflour:x:1003:baker\n", 0o644},
		"etc/resolv.conf": {"nameserver 192.0.2.53\n", 0o644},
		"tmp/of-image":    {"kept\n", 0o644},
		"bin/notexec":     {"#!/bin/sh\n", 0o644},
		"bin/garbage":     {"\x7fELF, or not\n", 0o755},
		"bin/nointerp":    {"#!/no/such/interpreter\n", 0o755},
		"bin/init":        {"#!/bin/sh\ntrap 'echo got TERM; exit 5' TERM\necho pid $$\nwhile :; do sleep 1; done\n", 0o755},
		"data/a/b":        {"deep\n", 0o644},
	} {
		path := filepath.Join(root, name)
		os.Remove(path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(path, []byte(f.content), f.mode); err != nil {
			return "", err
		}
	}
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o1777|os.ModeSticky); err != nil {
		return "", err
	}
	if change != nil {
		if err := change(root); err != nil {
			return "", err
		}
	}
	path := filepath.Join(dir, "image.erofs")
	if out, err := exec.Command("mkfs.erofs", "-T0", path, root).CombinedOutput(); err != nil {
		return "", fmt.Errorf("mkfs.erofs: %w: %s", err, out)
	}
	return path, nil
}
