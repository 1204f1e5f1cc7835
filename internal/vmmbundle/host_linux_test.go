package vmmbundle

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// hostQEMU bundles the QEMU of the machine that the test runs on.
func hostQEMU(t testing.TB) (*Index, []byte) {
	t.Helper()
	arch, err := newArchitecture(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("qemu-system-" + arch.name); err != nil {
		t.Fatalf("qemu-system-%s is missing: apt-get install qemu-system-%s", arch.name, map[string]string{"x86_64": "x86", "aarch64": "arm"}[arch.name])
	}
	return collect(t, Options{Arch: runtime.GOARCH})
}

// The dynamic loader itself is the judge of what this machine's QEMU needs.
func TestCollectAgreesWithLdd(t *testing.T) {
	index, archive := hostQEMU(t)
	program, err := exec.LookPath(path.Base(index.Entry))
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ldd", program).CombinedOutput()
	if err != nil {
		t.Fatalf("ldd: %v\n%s", err, out)
	}
	want := make(map[string][sha256.Size]byte)
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line) // "libc.so.6 => /lib/libc.so.6 (0x...)" or "/lib64/ld-linux.so.2 (0x...)"
		switch {
		case len(fields) == 4 && fields[1] == "=>":
			want[fields[0]] = hashFile(t, fields[2])
		case len(fields) == 2 && filepath.IsAbs(fields[0]):
			want[filepath.Base(fields[0])] = hashFile(t, fields[0])
		}
	}
	got := make(map[string][sha256.Size]byte)
	tr := tar.NewReader(bytes.NewReader(archive))
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if path.Dir(hdr.Name) == libDir {
			h := sha256.New()
			if _, err := io.Copy(h, tr); err != nil {
				t.Fatal(err)
			}
			got[path.Base(hdr.Name)] = [sha256.Size]byte(h.Sum(nil))
		}
	}
	if len(got) < 10 || !maps.Equal(want, got) {
		t.Errorf("libraries differ: %s", cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))))
	}
}

func hashFile(t *testing.T, path string) [sha256.Size]byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(b)
}
