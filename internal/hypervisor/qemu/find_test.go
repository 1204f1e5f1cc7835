//go:build linux

package qemu

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"bake/internal/hypervisor"
)

// fakeQEMU is a program that answers as QEMU does, and writes down with what
// it was called. boot is what it does when it is to boot something.
type fakeQEMU struct{ path, log string }

func newFakeQEMU(t *testing.T, boot string) fakeQEMU {
	t.Helper()
	dir := t.TempDir()
	q := fakeQEMU{path: filepath.Join(dir, "qemu-system-fake"), log: filepath.Join(dir, "log")}
	script := `#!/bin/sh
echo "$*" >>` + q.log + `
case "$*" in
--version) echo "QEMU emulator version 9.8.7 (Test)"; echo "Copyright" ;;
*"-device help") printf 'name "virtio-blk-device", bus virtio-bus\nname "vhost-user-vsock-device", bus virtio-bus\nname "vhost-user-vsock-pci", bus PCI\nname "vhost-user-fs-device", bus virtio-bus\nname "vhost-user-fs-pci", bus PCI\nname "virtio-balloon-device", bus virtio-bus\nname "virtio-balloon-pci", bus PCI\n' ;;
"-machine help") printf 'Supported machines are:\nmicrovm              microvm (i386)\nq35  x\n' ;;
"-accel help") printf 'Accelerators supported in QEMU binary:\ntcg\nkvm\n' ;;
*) ` + boot + ` ;;
esac
`
	if err := os.WriteFile(q.path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return q
}

// boots is how often it was to boot.
func (q fakeQEMU) boots(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(q.log)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Count(string(b), "-kernel")
}

func testConfig(arch string) hypervisor.Config {
	kernel := elf(nil)
	if arch == "arm64" {
		kernel = image(nil)
	}
	return hypervisor.Config{Arch: arch, CPUs: 1, MemoryMiB: 256, Kernel: hypervisor.Resource{Name: "kernel", Bytes: kernel}}
}

func TestAccelerator(t *testing.T) {
	kvm := filepath.Join(t.TempDir(), "kvm")
	if err := os.WriteFile(kvm, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	other := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	const panics = `echo "early"; echo "[ 0.3] Kernel panic - not syncing: VFS: Unable to mount root fs"`
	for _, tc := range []struct {
		name, boot, arch, device, accel string
		want, warning                   string
	}{
		{"runs and exits", panics, "", kvm, "", accelKVM, ""},
		{"runs and stays", panics + "; exec sleep 60", "", kvm, "", accelKVM, ""},
		{"aborts", `echo "qemu-x: error: failed to set MSR" >&2; kill -ABRT $$`, "", kvm, "", accelTCG, "aborted: failed to set MSR"},
		{"refuses", `echo "qemu-x: no such machine" >&2; exit 1`, "", kvm, "", accelTCG, "exit status 1: no such machine"},
		{"resets", `echo early`, "", kvm, "", accelTCG, "reset the machine"},
		{"spins silently", `exec sleep 60`, "", kvm, "", accelTCG, "get anywhere"},
		{"hangs later", `echo early; exec sleep 60`, "", kvm, "", accelTCG, "get anywhere"},
		{"talks for ever", `while :; do echo hello; sleep 0.1; done`, "", kvm, "", accelTCG, "not up within"},
		{"no device", `exit 1`, "", kvm + "-none", "", accelTCG, "there is no /dev/kvm"},
		{"other architecture", `exit 1`, other, kvm, "", accelTCG, "this machine is not"},
		{"wanted TCG", `exit 1`, "", kvm, accelTCG, accelTCG, ""},
		{"wanted KVM", `exit 1`, "", kvm + "-none", accelKVM, accelKVM, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := newFakeQEMU(t, tc.boot)
			cache := filepath.Join(t.TempDir(), "not", "yet", "there")
			for i := range 3 {
				var warnings []string
				d := &Driver{
					Command: []string{q.path}, Arch: tc.arch, Accel: tc.accel, CacheDir: cache, kvmDevice: tc.device, Verbose: true,
					probeLimits: &probeLimits{300 * time.Millisecond, 500 * time.Millisecond, 800 * time.Millisecond},
					Warnf: func(format string, args ...any) {
						warnings = append(warnings, strings.TrimSpace(format), args[0].(error).Error())
					},
				}
				for range 2 {
					desc, err := d.Describe(t.Context(), testConfig(d.arch()))
					if err != nil {
						t.Fatal(err)
					}
					if desc.Accelerator != tc.want {
						t.Errorf("driver %d: accelerator %s, want %s", i, desc.Accelerator, tc.want)
					}
				}
				if all := strings.Join(warnings, " "); (len(warnings) != 0) != (tc.warning != "") || !strings.Contains(all, tc.warning) || len(warnings) > 2 {
					t.Errorf("driver %d: warnings %q, want one with %q", i, warnings, tc.warning)
				}
			}
			if n := q.boots(t); n > 1 {
				t.Errorf("%d probe boots, want at most 1", n)
			}
		})
	}
}

func TestAcceleratorErrors(t *testing.T) {
	q := newFakeQEMU(t, "exit 1")
	d := &Driver{Command: []string{q.path}, Accel: "hvf"}
	if _, err := d.Describe(t.Context(), testConfig(runtime.GOARCH)); err == nil || !strings.Contains(err.Error(), "BAKE_QEMU_ACCEL") {
		t.Errorf("a wrong accelerator: %v", err)
	}
	if err := whyNoDevice(&fs.PathError{Err: fs.ErrPermission}); !strings.Contains(err.Error(), "usermod -aG kvm") {
		t.Errorf("no permission: %v", err)
	}
}

// A QEMU that changed, or another kernel, is probed again.
func TestProbeKeys(t *testing.T) {
	q := newFakeQEMU(t, `exit 1`)
	kvm := filepath.Join(t.TempDir(), "kvm")
	if err := os.WriteFile(kvm, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cache := t.TempDir()
	describe := func(cfg hypervisor.Config) {
		t.Helper()
		d := &Driver{Command: []string{q.path}, CacheDir: cache, kvmDevice: kvm}
		if _, err := d.Describe(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	cfg := testConfig(runtime.GOARCH)
	describe(cfg)
	describe(cfg)
	if n := q.boots(t); n != 1 {
		t.Fatalf("%d boots, want 1", n)
	}
	other := testConfig(runtime.GOARCH)
	other.Kernel.Bytes[len(other.Kernel.Bytes)-1]++
	describe(other)
	if n := q.boots(t); n != 2 {
		t.Errorf("after another kernel: %d boots, want 2", n)
	}
	now := time.Now().Add(time.Hour)
	if err := os.Chtimes(q.path, now, now); err != nil {
		t.Fatal(err)
	}
	describe(cfg)
	if n := q.boots(t); n != 3 {
		t.Errorf("after another QEMU: %d boots, want 3", n)
	}
	// What is broken or from before the last boot does not count.
	entries, err := filepath.Glob(filepath.Join(cache, "kvm-*"))
	if err != nil || len(entries) != 3 {
		t.Fatalf("the cache has %v, %v", entries, err)
	}
	for i, e := range entries {
		content := []string{"", "{", `{"boot":"another","problem":""}`}[i]
		if err := os.WriteFile(e, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	describe(cfg)
	describe(other)
	if n := q.boots(t); n != 5 {
		t.Errorf("after the cache broke: %d boots, want 5", n)
	}
}

func TestFind(t *testing.T) {
	q := newFakeQEMU(t, "exit 1")
	t.Run("BAKE_QEMU", func(t *testing.T) {
		t.Setenv("BAKE_QEMU", q.path)
		d := &Driver{}
		p, err := d.find(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := facts{Version: "9.8.7 (Test)", Sandbox: true, VsockMMIO: true, VsockPCI: true, FSMMIO: true, FSPCI: true, BalloonMMIO: true, BalloonPCI: true, MicroVM: true, TCG: true}
		if p.facts != want || p.name() != "qemu-system-fake" {
			t.Errorf("%s: %+v, want %+v", p.name(), p.facts, want)
		}
	})
	t.Run("BAKE_QEMU missing", func(t *testing.T) {
		t.Setenv("BAKE_QEMU", "/nonexistent/qemu")
		if err := (&Driver{}).Available(t.Context()); err == nil || !strings.Contains(err.Error(), "BAKE_QEMU names /nonexistent/qemu") {
			t.Errorf("Available: %v", err)
		}
	})
	t.Run("nothing", func(t *testing.T) {
		t.Setenv("BAKE_QEMU", "")
		t.Setenv("PATH", t.TempDir())
		for arch, pkg := range map[string]string{"amd64": "apt install qemu-system-x86", "arm64": "apt install qemu-system-arm"} {
			err := (&Driver{Arch: arch}).Available(t.Context())
			if _, there := os.Stat("/usr/libexec/qemu-kvm"); there == nil && arch == runtime.GOARCH {
				continue
			}
			if err == nil || !strings.Contains(err.Error(), pkg) || !strings.Contains(err.Error(), "--vmm qemu") {
				t.Errorf("%s: %v, want an error with %q", arch, err, pkg)
			}
		}
	})
	t.Run("no vsock", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "qemu")
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho something\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := (&Driver{Command: []string{path}}).Available(t.Context()); err == nil || !strings.Contains(err.Error(), "vhost-user-vsock") {
			t.Errorf("Available: %v", err)
		}
	})
	t.Run("no file system device", func(t *testing.T) {
		for _, devices := range []string{"vhost-user-vsock-pci", "vhost-user-vsock-pci vhost-user-fs-device", "vhost-user-vsock-pci vhost-user-fs-pci"} {
			path := filepath.Join(t.TempDir(), "qemu")
			script := "#!/bin/sh\nfor d in " + devices + "; do echo \"name \\\"$d\\\", bus x\"; done\n"
			if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			d := &Driver{Command: []string{path}, Arch: "amd64", Machine: machineQ35}
			if got, want := d.Capabilities().VhostUserFS, strings.Contains(devices, "fs-pci"); got != want {
				t.Errorf("a q35 with %s: VhostUserFS = %v", devices, got)
			}
		}
	})
	t.Run("not QEMU", func(t *testing.T) {
		if err := (&Driver{Command: []string{"/bin/false"}}).Available(t.Context()); err == nil || !strings.Contains(err.Error(), "/bin/false") {
			t.Errorf("Available: %v", err)
		}
	})
	t.Run("PATH", func(t *testing.T) {
		t.Setenv("BAKE_QEMU", "")
		t.Setenv("PATH", filepath.Dir(q.path))
		if err := os.Symlink(q.path, filepath.Join(filepath.Dir(q.path), "qemu-system-aarch64")); err != nil {
			t.Fatal(err)
		}
		command, err := (&Driver{Arch: "arm64"}).look()
		if err != nil || len(command) != 1 || filepath.Base(command[0]) != "qemu-system-aarch64" {
			t.Errorf("look = %q, %v", command, err)
		}
	})
}
