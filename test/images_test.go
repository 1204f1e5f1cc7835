//go:build linux

package test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// A file is one entry of a layer.
type file struct {
	tar.Header
	data string
}

// stamp is the time of every file of the images, so that each test run makes
// the same ones.
var stamp = time.Date(2001, 9, 9, 1, 46, 40, 0, time.UTC)

func dir(name string, mode int64) file {
	return file{Header: tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode}}
}

func regular(name string, mode int64, data string) file {
	return file{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}, data: data}
}

func symlink(name, target string) file {
	return file{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}}
}

func hardlink(name, target string) file {
	return file{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}}
}

func device(typ byte, name string, mode, major, minor int64) file {
	return file{Header: tar.Header{Typeflag: typ, Name: name, Mode: mode, Devmajor: major, Devminor: minor}}
}

func (f file) owned(uid, gid int) file {
	f.Uid, f.Gid = uid, gid
	return f
}

func (f file) attr(name, value string) file {
	f.PAXRecords = map[string]string{"SCHILY.xattr." + name: value}
	return f
}

// writeTar writes the entries as a tar.
func writeTar(w io.Writer, files []file) error {
	tw := tar.NewWriter(w)
	for _, f := range files {
		h := f.Header
		h.ModTime, h.Format, h.Size = stamp, tar.FormatPAX, int64(len(f.data))
		if err := tw.WriteHeader(&h); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		if _, err := io.WriteString(tw, f.data); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return tw.Close()
}

func layerOf(files []file) (v1.Layer, error) {
	var buf bytes.Buffer
	if err := writeTar(&buf, files); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(buf.Bytes())), nil
	})
}

func thisArch() string { return runtime.GOARCH }

func otherArch() string {
	if runtime.GOARCH == "amd64" {
		return "arm64"
	}
	return "amd64"
}

// imageOf makes an image of layers.
func imageOf(arch string, config v1.Config, layers ...[]file) (v1.Image, error) {
	img := empty.Image
	for _, files := range layers {
		l, err := layerOf(files)
		if err != nil {
			return nil, err
		}
		if img, err = mutate.AppendLayers(img, l); err != nil {
			return nil, err
		}
	}
	cf, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture, cf.Created, cf.Config = "linux", arch, v1.Time{Time: stamp}, config
	return mutate.ConfigFile(img, cf)
}

// busyboxFiles are a small root filesystem: busybox, probe, and accounts.
func busyboxFiles(probe string) ([]file, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("the tests' images hold a static busybox: install busybox-static, or run `make deps` (%w)", err)
	}
	busybox, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if bytes.Contains(busybox, []byte("/lib64/ld-linux")) {
		return nil, fmt.Errorf("%s is not static: install busybox-static, or run `make deps`", path)
	}
	list, err := exec.Command(path, "--list").Output()
	if err != nil {
		return nil, err
	}
	files := []file{
		dir("bin", 0o755), dir("dev", 0o755), dir("etc", 0o755), dir("home", 0o755), dir("proc", 0o555),
		dir("root", 0o700), dir("sys", 0o555), dir("tmp", 0o1777), dir("var", 0o755), dir("home/app", 0o700).owned(1000, 1000),
		regular("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n"),
		regular("etc/group", 0o644, "root:x:0:\napp:x:1000:\nextra:x:2000:app\nmore:x:3000:root,app\n"),
		regular("bin/busybox", 0o755, string(busybox)),
		regular("bin/probe", 0o755, probe),
	}
	for _, applet := range lines(string(list)) {
		if applet != "busybox" {
			files = append(files, symlink("bin/"+applet, "busybox"))
		}
	}
	return files, nil
}

// capNetRaw is a security.capability attribute: cap_net_raw=ep, version 2 of
// struct vfs_cap_data in linux/capability.h.
const capNetRaw = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// dataLayers hold one of everything that a layer can hold and, in the upper
// two, of everything that it can do to the layers below.
func dataLayers() [][]file {
	return [][]file{
		{
			dir("data", 0o755),
			regular("data/plain", 0o644, "plain\n").owned(1000, 1001),
			regular("data/secret", 0o600, "secret\n"),
			regular("data/nobody's", 0o000, "mode 0\n").owned(65534, 65534),
			regular("data/big-owner", 0o640, "").owned(2000000000, 2000000001),
			regular("data/setuid", 0o4755, "#!/bin/sh\n"),
			regular("data/setgid", 0o2755, "#!/bin/sh\n").owned(0, 50),
			dir("data/sticky", 0o1777),
			dir("data/shared", 0o2775).owned(0, 50),
			regular("data/hard1", 0o644, "one inode\n"),
			hardlink("data/hard2", "data/hard1"),
			hardlink("data/sticky/hard3", "data/hard1"),
			symlink("data/to-plain", "plain"),
			symlink("data/to-nowhere", "../no/where"),
			device(tar.TypeChar, "data/null", 0o666, 1, 3),
			device(tar.TypeBlock, "data/loop", 0o660, 7, 300).owned(0, 6),
			device(tar.TypeFifo, "data/fifo", 0o620, 0, 0),
			regular("data/coloured", 0o644, "attributes\n").attr("user.colour", "blue"),
			regular("data/capable", 0o755, "capabilities\n").attr("security.capability", capNetRaw),
			regular("data/a name with spaces, ünï©ode and \n", 0o644, "name\n"),
			regular("data/"+strings.Repeat("n", 255), 0o644, "long\n"),
			regular("data/large", 0o644, strings.Repeat("0123456789abcdef", 200_000)),
			dir("data/deep", 0o755), dir("data/deep/er", 0o755), dir("data/deep/er/still", 0o700),
			regular("data/deep/er/still/bottom", 0o644, "bottom\n"),

			regular("data/gone", 0o644, "whited out\n"),
			dir("data/gone-dir", 0o755), regular("data/gone-dir/file", 0o644, "whited out\n"),
			dir("data/opaque", 0o755), regular("data/opaque/old", 0o644, "hidden\n"),
			dir("data/opaque/sub", 0o755), regular("data/opaque/sub/old", 0o644, "hidden\n"),
			regular("data/becomes-dir", 0o644, "file\n"),
			dir("data/becomes-file", 0o755), regular("data/becomes-file/inside", 0o644, "hidden\n"),
			dir("data/changes", 0o755), regular("data/changes/kept", 0o644, "kept\n"),
			regular("data/back", 0o644, "first\n"),
		},
		{
			regular("data/.wh.gone", 0o644, ""),
			regular("data/.wh.gone-dir", 0o644, ""),
			dir("data/opaque", 0o750), regular("data/opaque/.wh..wh..opq", 0o644, ""),
			regular("data/opaque/new", 0o644, "new\n"),
			dir("data/becomes-dir", 0o755), regular("data/becomes-dir/inside", 0o644, "inside\n"),
			regular("data/becomes-file", 0o644, "file now\n"),
			dir("data/changes", 0o711).owned(7, 8),
			regular("data/.wh.back", 0o644, ""),
		},
		{
			regular("data/back", 0o644, "second\n"),
			// One name of three goes: the inode and its other names stay.
			regular("data/sticky/.wh.hard3", 0o644, ""),
		},
	}
}

// flatData is what dataLayers come to, for the tar of a root filesystem.
func flatData() []file {
	var flat []file
	dropped := func(name string) bool {
		for _, prefix := range []string{
			"data/gone", "data/opaque", "data/becomes-dir", "data/becomes-file", "data/changes/", "data/back", "data/sticky/hard3",
		} {
			if name == prefix || strings.HasPrefix(name, strings.TrimSuffix(prefix, "/")+"/") || strings.HasPrefix(name, "data/gone") {
				return true
			}
		}
		return false
	}
	for _, f := range dataLayers()[0] {
		if !dropped(f.Name) {
			flat = append(flat, f)
		}
	}
	return append(flat,
		dir("data/opaque", 0o750), regular("data/opaque/new", 0o644, "new\n"),
		dir("data/becomes-dir", 0o755), regular("data/becomes-dir/inside", 0o644, "inside\n"),
		regular("data/becomes-file", 0o644, "file now\n"),
		dir("data/changes", 0o711).owned(7, 8), regular("data/changes/kept", 0o644, "kept\n"),
		regular("data/back", 0o644, "second\n"),
	)
}

// makeImages makes every image of the registry, by its path.
func makeImages(probePath string) (map[string]v1.Image, error) {
	b, err := os.ReadFile(probePath)
	if err != nil {
		return nil, err
	}
	probe := string(b)
	base, err := busyboxFiles(probe)
	if err != nil {
		return nil, err
	}
	shell := v1.Config{Cmd: []string{"sh"}, Env: []string{"PATH=/usr/local/bin:/bin"}}
	images := map[string]v1.Image{}
	for _, i := range []struct {
		path   string
		arch   string
		config v1.Config
		layers [][]file
	}{
		{"busybox", thisArch(), shell, [][]file{base}},
		{"busybox:2", thisArch(), v1.Config{Cmd: []string{"echo", "the second edition"}}, [][]file{base}},
		{"layers", thisArch(), shell, append([][]file{base}, dataLayers()...)},
		// One static program and nothing else: no shell, no /etc, not even /proc.
		{"probe", thisArch(), v1.Config{Entrypoint: []string{"/probe"}, Cmd: []string{"report", "from", "the image"}},
			[][]file{{regular("probe", 0o755, probe)}}},
		{"configured", thisArch(), v1.Config{
			Entrypoint: []string{"probe", "report"},
			Cmd:        []string{"one", "two words"},
			Env:        []string{"PATH=/bin", "COLOUR=blue", "EMPTY=", "SHAPE=round"},
			WorkingDir: "/srv/made for this",
			User:       "app",
			// The app does not publish it by itself.
			ExposedPorts: map[string]struct{}{"8080/tcp": {}, "8081-8082/tcp": {}, "8080/udp": {}, "9/sctp": {}},
			StopSignal:   "SIGUSR1",
			Labels:       map[string]string{"org.opencontainers.image.title": "configured"},
		}, [][]file{base}},
		{"stopped-by-usr1", thisArch(), v1.Config{Cmd: []string{"/bin/probe", "signals", "7"}, StopSignal: "SIGUSR1"}, [][]file{base}},
		{"stopped-by-37", thisArch(), v1.Config{Cmd: []string{"/bin/probe", "signals", "7"}, StopSignal: "37"}, [][]file{base}},
		{"checked", thisArch(), v1.Config{Cmd: []string{"/bin/sh"}, Healthcheck: &v1.HealthConfig{
			Test: []string{"CMD-SHELL", "cat /tmp/well"}, Interval: time.Second, Retries: 2,
		}}, [][]file{base}},
		{"no-command", thisArch(), v1.Config{}, [][]file{base}},
		{"ghost", thisArch(), v1.Config{Cmd: []string{"id"}, User: "ghost"}, [][]file{base}},
		{"private/busybox", thisArch(), shell, [][]file{base}},
		{"foreign", otherArch(), shell, [][]file{base}},
	} {
		img, err := imageOf(i.arch, i.config, i.layers...)
		if err != nil {
			return nil, fmt.Errorf("make the image %s: %w", i.path, err)
		}
		images[i.path] = img
	}
	return images, nil
}
