package kernel

import (
	"context"
	"debug/elf"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// distribution writes what a distribution's kernel package unpacks to and returns its root. Modules of the map that are
// nil are left out; others are added to, or replace, those of a complete kernel.
func distribution(t *testing.T, change map[string]*ko) string {
	t.Helper()
	root := t.TempDir()
	vmlinux := makeVmlinux(t, testVersion)
	writeFile(t, filepath.Join(root, "boot", "vmlinuz-"+testVersion), makeBzImage(withSize(compressAs(t, "zstd", vmlinux), len(vmlinux))))

	modules := map[string]*ko{
		"drivers/virtio/virtio_ring.ko":               {depends: ""},
		"drivers/virtio/virtio.ko.xz":                 {depends: "virtio_ring"},
		"drivers/virtio/virtio_mmio.ko.zst":           {depends: "virtio,virtio_ring"},
		"drivers/virtio/virtio_pci.ko.gz":             {depends: "virtio_pci_modern_dev,virtio"},
		"drivers/virtio/virtio_pci_modern_dev.ko":     {},
		"drivers/block/virtio_blk.ko":                 {depends: "virtio"},
		"net/vmw_vsock/vsock.ko":                      {},
		"net/vmw_vsock/vmw_vsock_virtio_transport.ko": {depends: "vsock,virtio"},
		"fs/erofs/erofs.ko":                           {depends: "libcrc32c"},
		"lib/libcrc32c.ko":                            {softdep: "pre: crc32c"},
		"crypto/crc32c_generic.ko":                    {},
		"fs/overlayfs/overlay.ko":                     {},
		"drivers/net/tun.ko":                          {},
		"drivers/char/hw_random/virtio-rng.ko":        {depends: "virtio"},
		"drivers/net/unrelated.ko":                    {},
	}
	for name, m := range change {
		if m == nil {
			delete(modules, name)
			continue
		}
		modules[name] = m
	}
	tree := filepath.Join(root, "lib", "modules", testVersion)
	for name, m := range modules {
		m := *m
		m.name, _ = moduleFileName(filepath.Base(name))
		if m.version == "" {
			m.version = testVersion
		}
		data := m.bytes(t)
		for suffix, format := range map[string]string{".xz": "xz", ".zst": "zstd", ".gz": "gzip"} {
			if strings.HasSuffix(name, suffix) {
				data = compressAs(t, format, data)
			}
		}
		writeFile(t, filepath.Join(tree, "kernel", filepath.FromSlash(name)), data)
	}
	writeFile(t, filepath.Join(tree, "modules.builtin"), []byte("kernel/fs/ext4/ext4.ko\nkernel/drivers/md/dm-mod.ko\n"))
	return root
}

func vmlinuz(root string) string { return filepath.Join(root, "boot", "vmlinuz-"+testVersion) }

func TestImport(t *testing.T) {
	root := distribution(t, nil)
	store := Store{Root: filepath.Join(t.TempDir(), "not", "there", "yet")}
	b, err := Import(t.Context(), store, ImportOptions{Image: vmlinuz(root), ModulesDir: root})
	if err != nil {
		t.Fatal(err)
	}
	if b.Arch != "amd64" || b.Version != testVersion || b.Source != "imported vmlinuz-"+testVersion || b.Ours() {
		t.Errorf("got %+v", b.Meta)
	}
	var order []string
	for i, m := range b.Modules {
		order = append(order, m.Name)
		if m.File != b.ModulePath(i) {
			t.Errorf("module %d is in %s, want %s", i, m.File, b.ModulePath(i))
		}
	}
	want := []string{"virtio_ring", "virtio", "virtio_mmio", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk", "vsock",
		"vmw_vsock_virtio_transport", "crc32c_generic", "libcrc32c", "erofs", "overlay", "tun", "virtio_rng"}
	if !slices.Equal(order, want) {
		t.Errorf("load order:\n got %q\nwant %q", order, want)
	}
	if !slices.ContainsFunc(b.Notes, func(n string) bool { return strings.HasPrefix(n, "no squashfs: ") }) {
		t.Errorf("the notes do not say that squashfs is missing: %q", b.Notes)
	}
	if slices.ContainsFunc(b.Notes, func(n string) bool { return strings.Contains(n, "dm_mod") }) {
		t.Errorf("the notes say that dm_mod is missing, but it is built in: %q", b.Notes)
	}
	if err := b.Verify(); err != nil {
		t.Error(err)
	}
	// Compressed modules are stored plain.
	for i := range b.Modules {
		r, size, err := b.OpenModule(i)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		r.Close()
		if err != nil || int64(len(data)) != size || !strings.HasPrefix(string(data), "\x7fELF") {
			t.Errorf("module %d: %d bytes of %d, error %v", i, len(data), size, err)
		}
	}

	again, err := Import(t.Context(), store, ImportOptions{Image: vmlinuz(root)}) // finds lib/modules beside boot
	if err != nil {
		t.Fatal(err)
	}
	if again.Dir != b.Dir {
		t.Errorf("importing again made %s beside %s", again.Dir, b.Dir)
	}
	if left, err := os.ReadDir(store.Root); err != nil || len(left) != 1 {
		t.Errorf("the store has %v (error %v), want one bundle and nothing else", left, err)
	}
}

// What WireGuard alone needs is loaded for it alone.
func TestImportFeature(t *testing.T) {
	root := distribution(t, map[string]*ko{
		"drivers/net/wireguard/wireguard.ko":  {depends: "libcurve25519,udp_tunnel,libcrc32c"},
		"net/ipv4/udp_tunnel.ko":              {},
		"lib/crypto/libcurve25519.ko":         {depends: "libcurve25519-generic"},
		"lib/crypto/libcurve25519-generic.ko": {},
	})
	b, err := Import(t.Context(), Store{Root: t.TempDir()}, ImportOptions{Image: vmlinuz(root), ModulesDir: root})
	if err != nil {
		t.Fatal(err)
	}
	features := map[string][]string{}
	for i, m := range b.Modules {
		features[m.Feature] = append(features[m.Feature], m.Name)
		if m.File != b.ModulePath(i) || (m.Feature != "") != strings.HasPrefix(m.File, "modules/wireguard/") {
			t.Errorf("module %s is in %s", m.Name, m.File)
		}
	}
	if want := []string{"libcurve25519_generic", "libcurve25519", "udp_tunnel", "wireguard"}; !slices.Equal(features["wireguard"], want) {
		t.Errorf("WireGuard has %q, want %q", features["wireguard"], want)
	}
	if !slices.Contains(features[""], "libcrc32c") || len(features) != 2 {
		t.Errorf("all others are %q", features)
	}
	if err := b.Verify(); err != nil {
		t.Error(err)
	}
	if again, err := openDir(b.Dir); err != nil || !slices.Equal(again.Modules, b.Modules) {
		t.Errorf("read back: %+v, %v", again, err)
	}
}

// A module of a feature that everybody needed would be loaded too late.
func TestFeaturesComeLast(t *testing.T) {
	feature := ""
	for _, w := range wants() {
		if feature != "" && w.feature != feature {
			t.Errorf("%q, of the feature %q, comes after the feature %q", w.modules, w.feature, feature)
		}
		feature = w.feature
	}
}

func TestImportErrors(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change map[string]*ko
		opt    ImportOptions
		want   string
	}{
		{"needed module missing", map[string]*ko{"fs/erofs/erofs.ko": nil}, ImportOptions{}, "the kernel has no erofs"},
		{"no transport", map[string]*ko{"drivers/virtio/virtio_mmio.ko.zst": nil, "drivers/virtio/virtio_pci.ko.gz": nil}, ImportOptions{}, "virtio_mmio or virtio_pci"},
		{"dependency missing", map[string]*ko{"lib/libcrc32c.ko": nil}, ImportOptions{}, "module erofs depends on libcrc32c"},
		{"circle", map[string]*ko{"drivers/virtio/virtio_ring.ko": {depends: "virtio"}}, ImportOptions{}, "in a circle"},
		{"another release", map[string]*ko{"drivers/net/tun.ko": {version: "6.1.0-other"}}, ImportOptions{}, "is for Linux 6.1.0-other"},
		{"another architecture", map[string]*ko{"drivers/net/tun.ko": {machine: elf.EM_AARCH64}}, ImportOptions{}, "is for arm64"},
		{"no such tree", nil, ImportOptions{ModulesDir: "testdata"}, "has no modules of Linux " + testVersion},
		{"source of ours", nil, ImportOptions{Source: "bake, honestly"}, "kept for kernels"},
		{"image missing", nil, ImportOptions{Image: "testdata/none"}, "no such file"},
		{"image is a directory", nil, ImportOptions{Image: "testdata"}, "not a regular file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := distribution(t, tt.change)
			opt := tt.opt
			if opt.Image == "" {
				opt.Image = vmlinuz(root)
			}
			store := Store{Root: t.TempDir()}
			_, err := Import(t.Context(), store, opt)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got the error %v, want one with %q", err, tt.want)
			}
			if left, err := os.ReadDir(store.Root); err != nil || len(left) != 0 {
				t.Errorf("a failed import left %v in the store (error %v)", left, err)
			}
		})
	}
}

func TestImportWithoutModules(t *testing.T) {
	root := distribution(t, nil)
	if err := os.RemoveAll(filepath.Join(root, "lib")); err != nil {
		t.Fatal(err)
	}
	b, err := Import(t.Context(), Store{Root: t.TempDir()}, ImportOptions{Image: vmlinuz(root), Source: "a line\nand another"})
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Modules) != 0 || len(b.Notes) != 1 || b.Source != "a line and another" {
		t.Errorf("got %+v", b.Meta)
	}
}

func TestImportCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	root := distribution(t, nil)
	if _, err := Import(ctx, Store{Root: t.TempDir()}, ImportOptions{Image: vmlinuz(root)}); !errors.Is(err, context.Canceled) {
		t.Errorf("got the error %v", err)
	}
}

func TestImportAtOnce(t *testing.T) {
	root := distribution(t, nil)
	store := Store{Root: t.TempDir()}
	dirs := make([]string, 8)
	var wg sync.WaitGroup
	for i := range dirs {
		wg.Go(func() {
			b, err := Import(context.Background(), store, ImportOptions{Image: vmlinuz(root)})
			if err != nil {
				t.Error(err)
				return
			}
			dirs[i] = b.Dir
		})
	}
	wg.Wait()
	if len(slices.Compact(dirs)) != 1 {
		t.Errorf("eight imports of one kernel gave %q", dirs)
	}
	if left, err := os.ReadDir(store.Root); err != nil || len(left) != 1 {
		t.Errorf("the store has %v (error %v), want one bundle", left, err)
	}
}

func TestImportReplacesDamaged(t *testing.T) {
	root := distribution(t, nil)
	store := Store{Root: t.TempDir()}
	b, err := Import(t.Context(), store, ImportOptions{Image: vmlinuz(root)})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(b.Dir, b.Modules[3].File), []byte("damage"))
	if err := b.Verify(); err == nil || !strings.Contains(err.Error(), b.Modules[3].File+" was altered") {
		t.Fatalf("Verify of a damaged bundle: %v", err)
	}
	if b, err = Import(t.Context(), store, ImportOptions{Image: vmlinuz(root)}); err != nil {
		t.Fatal(err)
	}
	if err := b.Verify(); err != nil {
		t.Errorf("after another import: %v", err)
	}
	if left, err := os.ReadDir(store.Root); err != nil || len(left) != 1 {
		t.Errorf("the store has %v (error %v), want one bundle", left, err)
	}
}

func TestUpdatesComeFirst(t *testing.T) {
	root := distribution(t, nil)
	tree := filepath.Join(root, "lib", "modules", testVersion)
	newer := ko{name: "tun", version: testVersion, softdep: "pre: nothing"}.bytes(t)
	writeFile(t, filepath.Join(tree, "updates", "tun.ko"), newer)
	b, err := Import(t.Context(), Store{Root: t.TempDir()}, ImportOptions{Image: vmlinuz(root)})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(b.Modules, func(m Module) bool { return m.Name == "tun" })
	if i < 0 || b.Modules[i].SHA256 != sum(newer) {
		t.Error("the module in updates/ was not taken")
	}
}

func TestOpenErrors(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got the error %v", err)
	}
	if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a kernel bundle") {
		t.Errorf("got the error %v", err)
	}
}
