package vmmbundle

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"io"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakeMachine is the tree of a machine with a QEMU of few parts.
func fakeMachine() map[string]any {
	return map[string]any{
		"usr/bin/qemu-system-x86_64": fakeELF{
			interp: "/lib64/ld-linux-x86-64.so.2", needed: []string{"libc.so.6", "libglib.so.0"},
			rodata: "noise\x00QEMU emulator version 7.2.22 (Fake)\nCopyright\x00",
		},
		"lib":                                                "-> usr/lib",
		"lib64/ld-linux-x86-64.so.2":                         "-> /lib/x86_64-linux-gnu/ld.so",
		"usr/lib/x86_64-linux-gnu/ld.so":                     fakeELF{},
		"usr/lib/x86_64-linux-gnu/libc.so.6":                 fakeELF{needed: []string{"ld-linux-x86-64.so.2"}},
		"usr/lib/x86_64-linux-gnu/libglib.so.0":              "-> libglib.so.0.1",
		"usr/lib/x86_64-linux-gnu/libglib.so.0.1":            fakeELF{rodata: "glib"},
		"usr/lib/x86_64-linux-gnu/libtcg.so":                 fakeELF{},
		"usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so":  fakeELF{needed: []string{"libtcg.so"}},
		"usr/lib/x86_64-linux-gnu/qemu/accel-tcg-i386.so":    fakeELF{},
		"usr/lib/x86_64-linux-gnu/qemu/hw-display-virtio.so": fakeELF{needed: []string{"libGL.so"}},
		"usr/share/qemu/linuxboot_dma.bin":                   "boot",
		"usr/share/seabios/bios-256k.bin":                    "bios",
		"usr/share/seabios/vgabios.bin":                      "vga",
		"usr/share/qemu/qboot.rom":                           "qboot",
	}
}

func collect(t testing.TB, o Options) (*Index, []byte) {
	t.Helper()
	var buf bytes.Buffer
	index, err := Collect(t.Context(), o, &buf)
	if err != nil {
		t.Fatal(err)
	}
	return index, buf.Bytes()
}

func TestCollect(t *testing.T) {
	index, archive := collect(t, Options{Arch: "amd64", Root: makeTree(t, fakeMachine()).root})
	var names []string
	for _, f := range index.Files {
		names = append(names, f.Name)
	}
	want := []string{
		"bin/qemu-system-x86_64",
		"lib/ld-linux-x86-64.so.2", "lib/libc.so.6", "lib/libglib.so.0", "lib/libtcg.so",
		"lib/qemu/accel-tcg-x86_64.so",
		"share/qemu/bios-256k.bin", "share/qemu/linuxboot_dma.bin", "share/qemu/qboot.rom",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	if index.Version != "7.2.22 (Fake)" || index.Arch != "amd64" || index.Entry != want[0] || index.Loader != want[1] {
		t.Errorf("index is %+v", index)
	}

	tr := tar.NewReader(bytes.NewReader(archive))
	for i := 0; ; i++ {
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if name := slices.Concat([]string{indexName}, want)[i]; hdr.Name != name {
			t.Errorf("member %d is %s, want %s", i, hdr.Name, name)
		}
		if hdr.ModTime.Unix() != 0 || hdr.Uid != 0 || hdr.Uname != "" || hdr.Typeflag != tar.TypeReg {
			t.Errorf("%s is not free of its origin: %+v", hdr.Name, hdr)
		}
		if strings.HasSuffix(hdr.Name, "libglib.so.0") {
			if b, err := io.ReadAll(tr); err != nil || !bytes.Equal(b, fakeELF{rodata: "glib"}.bytes()) {
				t.Errorf("%s is not the file behind the link (%v)", hdr.Name, err)
			}
		}
	}

	// The same machine elsewhere, written at another time.
	if _, again := collect(t, Options{Arch: "amd64", Root: makeTree(t, fakeMachine()).root}); !bytes.Equal(archive, again) {
		t.Error("the same files give another archive")
	}
}

func TestCollectWithoutModule(t *testing.T) {
	files := fakeMachine()
	delete(files, "usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so")
	index, _ := collect(t, Options{Arch: "amd64", Root: makeTree(t, files).root})
	for _, f := range index.Files {
		if path.Dir(f.Name) == moduleDir || f.Name == "lib/libtcg.so" {
			t.Errorf("%s is in the bundle", f.Name)
		}
	}
}

func TestCollectStatic(t *testing.T) {
	files := fakeMachine()
	files["opt/qemu"] = fakeELF{machine: elf.EM_AARCH64, rodata: "QEMU emulator version 9\n"}
	index, _ := collect(t, Options{Arch: "arm64", QEMU: "/opt/qemu", Root: makeTree(t, files).root})
	if index.Loader != "" || len(index.Files) != 1 || index.Entry != "bin/qemu-system-aarch64" {
		t.Errorf("index is %+v", index)
	}
}

func TestCollectRefuses(t *testing.T) {
	const program = "usr/bin/qemu-system-x86_64"
	for _, test := range []struct {
		name   string
		change func(files map[string]any)
		want   string
	}{
		{"missing", func(f map[string]any) { delete(f, program) }, "there is no such file"},
		{"a script", func(f map[string]any) { f[program] = "#!/bin/sh\nexec qemu" }, "is not an ELF file"},
		{"another machine's", func(f map[string]any) { f[program] = fakeELF{machine: elf.EM_AARCH64} }, "it runs on EM_AARCH64 machines"},
		{"something else", func(f map[string]any) { f[program] = fakeELF{rodata: "hello"} }, "does not look like QEMU"},
		{"version without end", func(f map[string]any) {
			f[program] = fakeELF{rodata: "QEMU emulator version 7" + strings.Repeat("x", 300) + "\n"}
		}, "does not look like QEMU"},
		{"no firmware", func(f map[string]any) { delete(f, "usr/share/seabios/bios-256k.bin") }, "its firmware bios-256k.bin is not in any of"},
		{"no library", func(f map[string]any) { delete(f, "usr/lib/x86_64-linux-gnu/libtcg.so") }, "accel-tcg-x86_64.so needs the library libtcg.so"},
		{"no loader", func(f map[string]any) {
			delete(f, "lib64/ld-linux-x86-64.so.2")
			f["usr/lib/x86_64-linux-gnu/libc.so.6"] = fakeELF{}
		}, "no such file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			files := fakeMachine()
			test.change(files)
			_, err := Collect(t.Context(), Options{Arch: "amd64", Root: makeTree(t, files).root}, io.Discard)
			wantError(t, err, test.want)
		})
	}
	_, err := Collect(t.Context(), Options{Arch: "riscv64"}, io.Discard)
	wantError(t, err, "only for amd64 and arm64")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Collect(ctx, Options{Arch: "amd64", Root: makeTree(t, fakeMachine()).root}, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	_, err = Collect(t.Context(), Options{Arch: "amd64"}, io.Discard)
	wantError(t, err, "there is no qemu-system-x86_64 on PATH")
}
