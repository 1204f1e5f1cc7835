package inspect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bake/internal/payload"
)

// buildApp makes an app of a small carrier.
func buildApp(t *testing.T, sources ...payload.Source) string {
	t.Helper()
	carrier := filepath.Join(t.TempDir(), "carrier")
	cmd := exec.Command("go", "build", "-o", carrier, "../payload/testdata/selfcheck")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f, err := os.Open(carrier)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "app")
	if err := payload.Create(t.Context(), path, io.NewSectionReader(f, 0, info.Size()), sources); err != nil {
		t.Fatal(err)
	}
	return path
}

func manifest(t *testing.T) payload.Source {
	t.Helper()
	uid := uint32(0)
	b, err := payload.EncodeManifest(&payload.Manifest{
		Version: payload.ManifestVersion, BakeVersion: "0.1", Target: payload.Target{OS: "linux", Arch: "amd64"},
		Image:    payload.Image{Ref: "redis:7"},
		Rootfs:   payload.Rootfs{Type: "erofs"},
		Kernel:   payload.Kernel{Version: "6.12.1", Source: "debian"},
		Defaults: payload.Defaults{MemoryMiB: 512},
		Network:  payload.Network{Allow: []string{"*.example.com:443", "10.0.0.0/8"}, Deny: []string{"\x1b[2J"}, HostLoopback: true, Disabled: true},
		Process: payload.Process{
			Entrypoint: []string{"/bin/sh", "-c", "echo 'two words'", ""},
			Env:        []string{"PATH=/bin", "EVIL=\x1b]0;owned\a\nfake: row"},
			UID:        &uid,
			Labels:     map[string]string{"b": "2", "a": "1"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return payload.BytesSource(payload.PartManifest, b)
}

func TestPrint(t *testing.T) {
	path := buildApp(t, manifest(t), payload.BytesSource("rootfs", bytes.Repeat([]byte("r"), 3<<20)), payload.BytesSource("sbom", nil))
	r, err := Inspect(path)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := r.Print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"target", "linux/amd64", "redis:7", "6.12.1 (debian)", "512 MiB", "PATH=/bin",
		`/bin/sh -c "echo 'two words'" ""`, `"EVIL=\x1b]0;owned\a\nfake: row"`, "3.0 MiB", "0 B",
		"allow net      *.example.com:443\nallow net      10.0.0.0/8\ndeny net       \"\\x1b[2J\"\n",
		"host loopback  allowed\nnetwork        disabled\n",
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
	if strings.ContainsAny(out.String(), "\x1b\a") {
		t.Error("control characters reach the terminal")
	}
	if strings.Index(out.String(), "a=1") > strings.Index(out.String(), "b=2") {
		t.Error("labels are not sorted")
	}
	if err := r.Print(failingWriter{}); !errors.Is(err, errFull) {
		t.Errorf("writing fails with %v", err)
	}
}

var errFull = errors.New("full")

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errFull }

// The names in the JSON are an interface: this test changes only by additions.
func TestJSON(t *testing.T) {
	path := buildApp(t, manifest(t), payload.BytesSource("rootfs", []byte("root")))
	r, err := Inspect(path)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := r.PrintJSON(&out); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Path, Carrier string
		Size          int64
		Payload       struct{ Offset, Size int64 }
		Parts         []struct {
			Name         string
			Offset, Size int64
			SHA256       string `json:"sha256"`
		}
		Manifest map[string]any
	}
	dec := json.NewDecoder(&out)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&got); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.Path != path || got.Carrier != "elf" || got.Size != int64(len(file)) || len(got.Parts) != 2 {
		t.Errorf("report is %+v", got)
	}
	if root := got.Parts[1]; root.Name != "rootfs" || string(file[root.Offset:root.Offset+root.Size]) != "root" {
		t.Errorf("rootfs is not where the report says: %+v", root)
	}
	if got.Manifest["image"].(map[string]any)["ref"] != "redis:7" {
		t.Errorf("manifest is %v", got.Manifest)
	}
	if allow := got.Manifest["network"].(map[string]any)["allow"]; fmt.Sprint(allow) != "[*.example.com:443 10.0.0.0/8]" {
		t.Errorf("the allowed network is %v", allow)
	}
}

func TestVerify(t *testing.T) {
	path := buildApp(t, manifest(t), payload.BytesSource("rootfs", []byte("root file system")), payload.BytesSource("kernel", []byte("k")))
	var out bytes.Buffer
	if err := Verify(t.Context(), path, &out); err != nil {
		t.Fatal(err)
	}
	if want := "ok  rootfs (16 B)\nok  kernel (1 B)\n"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("output %q, want %q at the end", out.String(), want)
	}

	alter(t, path, "root file system", "rOOt file system")
	out.Reset()
	err := Verify(t.Context(), path, &out)
	if err == nil || !strings.Contains(err.Error(), `"rootfs" does not match its hash`) {
		t.Errorf("altered app: %v", err)
	}
	if !strings.Contains(out.String(), "BAD rootfs") || !strings.Contains(out.String(), "ok  kernel") {
		t.Errorf("output %q", out.String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Verify(ctx, path, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := Verify(t.Context(), path, failingWriter{}); !errors.Is(err, errFull) {
		t.Errorf("writing fails with %v", err)
	}
}

// A payload whose hashes are all right may still hold a manifest that is not.
func TestVerifyReadsTheManifest(t *testing.T) {
	path := buildApp(t, payload.BytesSource(payload.PartManifest, []byte(`{"version":7}`)))
	if err := Verify(t.Context(), path, io.Discard); !errors.Is(err, payload.ErrNewer) {
		t.Errorf("verify: %v", err)
	}
	if _, err := Inspect(path); !errors.Is(err, payload.ErrNewer) {
		t.Errorf("inspect: %v", err)
	}
}

func TestExtract(t *testing.T) {
	content := bytes.Repeat([]byte("kernel "), 20_000)
	path := buildApp(t, payload.BytesSource("kernel", content), payload.BytesSource("rootfs", []byte("root file system")))
	dir := t.TempDir()
	dst := filepath.Join(dir, "out")
	if err := ExtractFile(t.Context(), path, "kernel", dst); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(dst); err != nil || !bytes.Equal(got, content) {
		t.Errorf("extracted %d bytes, %v", len(got), err)
	}
	var out bytes.Buffer
	if err := Extract(t.Context(), path, "rootfs", &out); err != nil || out.String() != "root file system" {
		t.Errorf("extracted %q, %v", out.String(), err)
	}

	alter(t, path, "root file system", "rOOt file system")
	for _, test := range []struct{ part, want string }{{"rootfs", "does not match its hash"}, {"vmm", `no part named "vmm"`}} {
		err := ExtractFile(t.Context(), path, test.part, dst)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.part, err)
		}
	}
	if got, err := os.ReadFile(dst); err != nil || !bytes.Equal(got, content) {
		t.Errorf("a failed extraction changed what was there (%v)", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the directory holds %v, %v", entries, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Extract(ctx, path, "kernel", io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestNotAnApp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(path, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		second(Inspect(path)), Verify(t.Context(), path, io.Discard), Extract(t.Context(), path, "x", io.Discard),
	} {
		if !errors.Is(err, payload.ErrNoPayload) {
			t.Errorf("%v is not ErrNoPayload", err)
		}
	}
	if _, err := Inspect(path + "missing"); err == nil || !strings.Contains(err.Error(), "there is no file") {
		t.Errorf("missing file: %v", err)
	}
}

func second(_ Report, err error) error { return err }

func alter(t *testing.T, path, old, new string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(old)) {
		t.Fatalf("no %q in %s", old, path)
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(b, []byte(old), []byte(new)), 0o600); err != nil {
		t.Fatal(err)
	}
}
