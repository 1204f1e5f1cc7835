package kernel

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// putBundle writes a bundle into a store as kernel/build.sh does, last changed so many hours ago.
func putBundle(t *testing.T, s Store, id, arch, source string, hours int) {
	t.Helper()
	image := makeArm64Image(testVersion)
	meta := Meta{Format: Format, Arch: arch, Version: testVersion, Source: source, Image: "Image", ImageSHA256: sum(image)}
	data, err := json.Marshal(meta)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(s.Root, id, "Image"), image)
	name := filepath.Join(s.Root, id, MetaName)
	writeFile(t, name, data)
	when := time.Now().Add(-time.Duration(hours) * time.Hour)
	if err := os.Chtimes(name, when, when); err != nil {
		t.Fatal(err)
	}
}

func TestStore(t *testing.T) {
	s := Store{Root: t.TempDir()}
	putBundle(t, s, "imported-new", "arm64", "imported Image", 0)
	putBundle(t, s, "ours-old", "arm64", "bake, from linux-source", 9)
	putBundle(t, s, "ours-new", "arm64", "bake, from linux-source", 5)
	putBundle(t, s, "other-arch", "amd64", "imported vmlinuz", 1)
	putBundle(t, s, ".work-1", "arm64", "bake, not finished", 0)
	writeFile(t, filepath.Join(s.Root, "build-arm64.log"), []byte("CC kernel/fork.o\n"))

	bundles, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, b := range bundles {
		ids = append(ids, b.ID())
	}
	if want := []string{"ours-new", "ours-old", "imported-new", "other-arch"}; !slices.Equal(ids, want) {
		t.Errorf("got %q, want %q", ids, want)
	}
	for arch, want := range map[string]string{"arm64": "ours-new", "amd64": "other-arch"} {
		b, err := s.Find(arch)
		if err != nil || b.ID() != want {
			t.Errorf("%s: got %v and the error %v, want %s", arch, b, err, want)
		}
	}
}

func TestFindNone(t *testing.T) {
	s := Store{Root: filepath.Join(t.TempDir(), "none")}
	_, err := s.Find("amd64")
	if !errors.Is(err, ErrNoKernel) || !strings.Contains(err.Error(), "make kernel-amd64") || !strings.Contains(err.Error(), "bake kernel import") {
		t.Errorf("got the error %v, which does not name the cures", err)
	}
}

func TestDamagedBundleIsReported(t *testing.T) {
	s := Store{Root: t.TempDir()}
	putBundle(t, s, "good", "arm64", "imported", 0)
	writeFile(t, filepath.Join(s.Root, "bad", MetaName), []byte("{"))
	bundles, err := s.List()
	if len(bundles) != 1 || err == nil || !strings.Contains(err.Error(), "bad") {
		t.Errorf("got %d bundles and the error %v", len(bundles), err)
	}
	if _, err := s.Find("arm64"); err != nil {
		t.Errorf("a damaged neighbour hides a good kernel: %v", err)
	}
	if _, err := s.Find("amd64"); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("got the error %v, which does not say that a bundle is damaged", err)
	}
}

func TestMetaErrors(t *testing.T) {
	zero := strings.Repeat("0", 64)
	good := Meta{Format: Format, Arch: "amd64", Version: "6.1.0", Image: "vmlinux", ImageSHA256: zero,
		Modules: []Module{{Name: "ext4", File: "modules/000-ext4.ko", SHA256: zero}}}
	if err := good.validate(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(*Meta)
		want   string
	}{
		{"newer format", func(m *Meta) { m.Format = 2 }, "format 2"},
		{"architecture", func(m *Meta) { m.Arch = "../x" }, "architecture"},
		{"version", func(m *Meta) { m.Version = "a b" }, "version"},
		{"absolute image", func(m *Meta) { m.Image = "/etc/passwd" }, "not inside"},
		{"no image", func(m *Meta) { m.Image = "" }, "not inside"},
		{"module outside", func(m *Meta) { m.Modules[0].File = "../../x" }, "not inside"},
		{"module that is not clean", func(m *Meta) { m.Modules[0].File = "a/../b" }, "not inside"},
		{"module name", func(m *Meta) { m.Modules[0].Name = "a/b" }, "module name"},
		{"hash", func(m *Meta) { m.ImageSHA256 = "abc" }, "SHA-256"},
		{"many modules", func(m *Meta) { m.Modules = make([]Module, maxModules+1) }, "cannot be right"},
		{"feature", func(m *Meta) { m.Modules[0].Feature = "../ext4" }, "no name of one"},
	} {
		m := good
		m.Modules = slices.Clone(good.Modules)
		tt.change(&m)
		if err := m.validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got the error %v, want one with %q", tt.name, err, tt.want)
		}
	}
}

func TestOpenBareImage(t *testing.T) {
	vmlinux := makeVmlinux(t, testVersion)
	name := filepath.Join(t.TempDir(), "vmlinuz")
	writeFile(t, name, makeBzImage(compressAs(t, "gzip", vmlinux)))
	b, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	if b.Arch != "amd64" || b.Version != testVersion || b.Dir != "" || len(b.Modules) != 0 {
		t.Errorf("got %+v", b)
	}
	if err := b.Verify(); err != nil {
		t.Error(err)
	}
	r, size, err := b.OpenImage()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil || size != int64(len(vmlinux)) || !bytes.Equal(data, vmlinux) {
		t.Errorf("got %d bytes, size %d, error %v", len(data), size, err)
	}
	if _, _, err := b.OpenModule(0); err == nil {
		t.Error("a bundle without modules opened one")
	}
}

func TestPrintList(t *testing.T) {
	s := Store{Root: t.TempDir()}
	putBundle(t, s, "cafe", "arm64", "bake, from linux-source", 0)
	bundles, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := PrintList(&table, bundles); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(table.String()), "\n")
	if len(lines) != 2 || strings.Join(strings.Fields(lines[1]), " ") != "arm64 6.1.0-test 0.0 MB 0 cafe bake, from linux-source" {
		t.Errorf("got\n%s", table.String())
	}

	var out bytes.Buffer
	if err := PrintListJSON(&out, bundles); err != nil {
		t.Fatal(err)
	}
	var list []map[string]any
	if err := json.Unmarshal(out.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || list[0]["id"] != "cafe" || list[0]["version"] != testVersion || fmt.Sprint(list[0]["size"]) == "0" {
		t.Errorf("got %s", out.String())
	}

	out.Reset()
	if err := PrintListJSON(&out, nil); err != nil || strings.TrimSpace(out.String()) != "[]" {
		t.Errorf("an empty list is %q (error %v)", out.String(), err)
	}
	table.Reset()
	if err := PrintList(&table, nil); err != nil || !strings.Contains(table.String(), "make kernel") {
		t.Errorf("an empty list says %q (error %v)", table.String(), err)
	}
}
