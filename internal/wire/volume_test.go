package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func share(id, target string) Volume {
	return Volume{ID: id, Kind: Volume9P, Target: target, Cache: CacheNone, MSize: MaxMSize}
}

func disk(id, target, device string) Volume {
	return Volume{ID: id, Kind: VolumeDisk, Target: target, Device: device, Type: "ext4"}
}

func TestVolumesRoundTrip(t *testing.T) {
	file := share("1", "/etc/config")
	file.File, file.Notify, file.ReadOnly = true, true, true
	named := disk("2", "/var/lib/db", "/dev/vdaa")
	named.Subdir, named.CopyUp = "data", true
	want := []Volume{
		share("0", "/srv"), file, named,
		{ID: "3", Kind: VolumeTmpfs, Target: "/srv/cache", Size: 64 << 20, Mode: 0o1777, NoSUID: true, NoDev: true, NoExec: true},
		{ID: "fs", Kind: VolumeVirtioFS, Target: "/home/ä", Notify: true},
	}
	var buf bytes.Buffer
	if err := WriteManifest(&buf, &BootManifest{Version: ManifestVersion, Volumes: want}); err != nil {
		t.Fatal(err)
	}
	m, err := ReadManifest(&buf)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(m.Volumes); got != fmt.Sprint(want) {
		t.Errorf("%s became %s", fmt.Sprint(want), got)
	}
}

func TestVolumeCheck(t *testing.T) {
	long := "/" + strings.Repeat("n", 255)
	for name, c := range map[string]struct {
		change func(v *Volume)
		words  string
	}{
		"as it is":          {func(v *Volume) {}, ""},
		"long name":         {func(v *Volume) { v.Target = long }, ""},
		"file":              {func(v *Volume) { v.File = true }, ""},
		"disk":              {func(v *Volume) { *v = disk("0", "/a", "/dev/vdzzz") }, ""},
		"tmpfs":             {func(v *Volume) { *v = Volume{ID: "0", Kind: VolumeTmpfs, Target: "/a"} }, ""},
		"no ID":             {func(v *Volume) { v.ID = "" }, "ID"},
		"path as ID":        {func(v *Volume) { v.ID = "../a" }, "ID"},
		"long ID":           {func(v *Volume) { v.ID = strings.Repeat("1", 17) }, "ID"},
		"no kind":           {func(v *Volume) { v.Kind = "" }, "kind"},
		"unknown kind":      {func(v *Volume) { v.Kind = "nfs" }, `"nfs"`},
		"no target":         {func(v *Volume) { v.Target = "" }, "absolute path"},
		"relative target":   {func(v *Volume) { v.Target = "a" }, "absolute path"},
		"root":              {func(v *Volume) { v.Target = "/" }, "where the image is"},
		"dots":              {func(v *Volume) { v.Target = "/a/../b" }, "absolute path"},
		"slash at the end":  {func(v *Volume) { v.Target = "/a/" }, "absolute path"},
		"NUL":               {func(v *Volume) { v.Target = "/a\x00" }, "nobody's name"},
		"no UTF-8":          {func(v *Volume) { v.Target = "/a\xff" }, "not UTF-8"},
		"longer name":       {func(v *Volume) { v.Target = long + "n" }, "nobody's name"},
		"long path":         {func(v *Volume) { v.Target = strings.Repeat("/a", 2048) }, "4096 bytes"},
		"device of a share": {func(v *Volume) { v.Device = "/dev/vdb" }, "nothing of a device"},
		"type of a share":   {func(v *Volume) { v.Type = "ext4" }, "nothing of a type"},
		"subdirectory":      {func(v *Volume) { v.Subdir = "data" }, "nothing of a subdirectory"},
		"copy":              {func(v *Volume) { v.CopyUp = true }, "nothing of a copy"},
		"size of a share":   {func(v *Volume) { v.Size = 1 }, "nothing of a size"},
		"mode of a share":   {func(v *Volume) { v.Mode = 1 }, "nothing of a mode"},
		"owner of a share":  {func(v *Volume) { v.GID = 1 }, "nothing of an owner"},
		"owner -1":          {func(v *Volume) { *v = Volume{ID: "0", Kind: VolumeTmpfs, Target: "/a", UID: 1<<32 - 1} }, "which is nobody"},
		"no cache mode":     {func(v *Volume) { v.Cache = "" }, "cache mode"},
		"cache mode":        {func(v *Volume) { v.Cache = "loose,posixacl" }, "cache mode"},
		"small messages":    {func(v *Volume) { v.MSize = MinMSize - 1 }, "message size"},
		"large messages":    {func(v *Volume) { v.MSize = MaxMSize + 1 }, "message size"},
		"cache of virtiofs": {func(v *Volume) { v.Kind = VolumeVirtioFS; v.MSize = 0 }, "nothing of a cache mode"},
		"msize of virtiofs": {func(v *Volume) { v.Kind = VolumeVirtioFS; v.Cache = "" }, "nothing of a message size"},
		"no device":         {func(v *Volume) { *v = disk("0", "/a", "") }, "virtio disk"},
		"any device":        {func(v *Volume) { *v = disk("0", "/a", "/dev/vd/../sda") }, "virtio disk"},
		"partition":         {func(v *Volume) { *v = disk("0", "/a", "/dev/vda1") }, "virtio disk"},
		"no type":           {func(v *Volume) { *v = disk("0", "/a", "/dev/vdb"); v.Type = "" }, "must be ext4"},
		"deep subdirectory": {func(v *Volume) { *v = disk("0", "/a", "/dev/vdb"); v.Subdir = "a/b" }, "one name"},
		"file on a disk":    {func(v *Volume) { *v = disk("0", "/a", "/dev/vdb"); v.File = true }, "nothing of a single file"},
		"notify on a disk":  {func(v *Volume) { *v = disk("0", "/a", "/dev/vdb"); v.Notify = true }, "nothing of notices"},
		"negative size":     {func(v *Volume) { *v = Volume{ID: "0", Kind: VolumeTmpfs, Target: "/a", Size: -1} }, "-1 bytes"},
		"mode":              {func(v *Volume) { *v = Volume{ID: "0", Kind: VolumeTmpfs, Target: "/a", Mode: 0o10000} }, "permission bits"},
	} {
		v := share("0", "/a")
		c.change(&v)
		err := v.Check()
		if c.words == "" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.words != "" && (err == nil || !strings.Contains(err.Error(), c.words)) {
			t.Errorf("%s: %v; want an error with %q", name, err, c.words)
		}
	}
}

func TestCheckVolumes(t *testing.T) {
	many := func(n int) (volumes []Volume) {
		for i := range n {
			volumes = append(volumes, share(fmt.Sprint(i), fmt.Sprintf("/%d", i)))
		}
		return volumes
	}
	for name, c := range map[string]struct {
		volumes []Volume
		words   string
	}{
		"none":            {nil, ""},
		"the most":        {many(MaxVolumes), ""},
		"too many":        {many(MaxVolumes + 1), "64 are the most"},
		"one in another":  {[]Volume{share("0", "/a"), share("1", "/a/b/c"), share("2", "/a/b/d"), share("3", "/ab")}, ""},
		"inner first":     {[]Volume{share("0", "/a/b/c"), share("1", "/a")}, `"/a" comes after one that is inside it`},
		"same place":      {[]Volume{share("0", "/a"), share("1", "/a")}, "same place"},
		"same ID":         {[]Volume{share("0", "/a"), share("0", "/b")}, "two volumes have the ID 0"},
		"same device":     {[]Volume{disk("0", "/a", "/dev/vdb"), disk("1", "/b", "/dev/vdb")}, "both on /dev/vdb"},
		"one that is bad": {[]Volume{share("0", "/a"), {ID: "1"}}, "volume 1"},
	} {
		err := CheckVolumes(c.volumes)
		if c.words == "" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.words != "" && (err == nil || !strings.Contains(err.Error(), c.words)) {
			t.Errorf("%s: %v; want an error with %q", name, err, c.words)
		}
	}
	if err := WriteManifest(io.Discard, &BootManifest{Volumes: many(MaxVolumes + 1)}); err == nil {
		t.Error("a manifest that no agent takes was written")
	}
	var buf bytes.Buffer
	if err := WriteJSON(&buf, &BootManifest{Version: ManifestVersion, Volumes: []Volume{{ID: "?"}}}, ManifestLimit); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadManifest(&buf); err == nil || !strings.Contains(err.Error(), "ID") {
		t.Errorf("a manifest with a bad volume: %v", err)
	}
}

func TestVolumeHello(t *testing.T) {
	var buf bytes.Buffer
	if err := WriteVolumeHello(&buf, "12"); err != nil {
		t.Fatal(err)
	}
	if id, err := ReadVolumeHello(&buf); err != nil || id != "12" {
		t.Errorf("got %q, %v", id, err)
	}
	if err := WriteVolumeHello(&buf, "/srv"); err == nil || buf.Len() != 0 {
		t.Errorf("a path went for an ID: %v", err)
	}
	WriteFrame(&buf, []byte("a\x1b[2J"), 100)
	if _, err := ReadVolumeHello(&buf); err == nil || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("a control sequence: %v", err)
	}
	WriteFrame(&buf, make([]byte, 17), 100)
	if _, err := ReadVolumeHello(&buf); !errors.Is(err, ErrFrameTooLong) {
		t.Errorf("a long ID: %v", err)
	}
}

func TestVolumeAnswer(t *testing.T) {
	var buf bytes.Buffer
	WriteVolumeAnswer(&buf, "")
	if err := ReadVolumeAnswer(&buf); err != nil {
		t.Error(err)
	}
	WriteVolumeAnswer(&buf, "there is no such volume")
	if err := ReadVolumeAnswer(&buf); !errors.Is(err, ErrVolumeRefused) || !strings.HasSuffix(err.Error(), ": there is no such volume") {
		t.Errorf("a refusal: %v", err)
	}
	for _, long := range []string{strings.Repeat("€", VolumeAnswerLimit), strings.Repeat("\xff", VolumeAnswerLimit+1)} {
		if err := WriteVolumeAnswer(&buf, long); err != nil {
			t.Fatal(err)
		}
		if err := ReadVolumeAnswer(&buf); !errors.Is(err, ErrVolumeRefused) {
			t.Errorf("a long refusal: %v", err)
		}
	}
	if err := ReadVolumeAnswer(&buf); !errors.Is(err, io.EOF) {
		t.Errorf("no answer: %v", err)
	}
}

// What CheckVolumes takes leads to no other place than it names.
func FuzzVolumes(f *testing.F) {
	for _, v := range [][]Volume{
		{share("0", "/a"), share("1", "/a/b")},
		{disk("0", "/a", "/dev/vdb")},
		{{ID: "0", Kind: VolumeTmpfs, Target: "/tmp", Size: 1, Mode: 0o755}},
		{share("0", "/a/.."), share("0", "/a\x00/b")},
	} {
		b, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var volumes []Volume
		if json.Unmarshal(b, &volumes) != nil || CheckVolumes(volumes) != nil {
			return
		}
		for i, v := range volumes {
			if strings.ContainsAny(v.ID, "/.,=\x00") || len(v.Tag()) > 36 {
				t.Errorf("the ID %q was accepted", v.ID)
			}
			if !strings.HasPrefix(v.Target, "/") || strings.HasSuffix(v.Target, "/") || strings.Contains(v.Target+"/", "/../") || strings.ContainsRune(v.Target, 0) {
				t.Errorf("the target %q was accepted", v.Target)
			}
			if strings.Contains(v.Subdir, "/") || v.Subdir == ".." || v.Subdir == "." {
				t.Errorf("the subdirectory %q was accepted", v.Subdir)
			}
			for _, w := range volumes[i+1:] {
				if strings.HasPrefix(v.Target+"/", w.Target+"/") {
					t.Errorf("%q comes after %q", w.Target, v.Target)
				}
			}
			var buf bytes.Buffer
			if err := WriteVolumeHello(&buf, v.ID); err != nil {
				t.Error(err)
			}
			if id, err := ReadVolumeHello(&buf); err != nil || id != v.ID {
				t.Errorf("%q became %q, %v", v.ID, id, err)
			}
		}
	})
}
