package volume

import (
	"reflect"
	"strings"
	"testing"
)

func ptr[T any](v T) *T { return &v }

func TestParse(t *testing.T) {
	for s, want := range map[string]Spec{
		"./data:/data":                    {Host: "./data", Target: "/data"},
		"/srv:/srv/":                      {Host: "/srv", Target: "/srv"},
		"a/b:/x/../y//z":                  {Host: "a/b", Target: "/y/z"},
		".:/src":                          {Host: ".", Target: "/src"},
		"..:/src":                         {Host: "..", Target: "/src"},
		"~:/home":                         {Host: "~", Target: "/home"},
		"~/x:/x:ro":                       {Host: "~/x", Target: "/x", ReadOnly: true},
		"/ä b:/ü ö":                       {Host: "/ä b", Target: "/ü ö"},
		"/\xff:/x":                        {Host: "/\xff", Target: "/x"},
		"/a:/b:rw":                        {Host: "/a", Target: "/b"},
		"/a:/b:ro,ro":                     {Host: "/a", Target: "/b", ReadOnly: true},
		"/a:/b:nosuid,nodev,noexec":       {Host: "/a", Target: "/b", NoSUID: true, NoDev: true, NoExec: true},
		"/a:/b:suid,dev,exec":             {Host: "/a", Target: "/b"},
		"/a:/b:create,notify":             {Host: "/a", Target: "/b", Create: true, Notify: true},
		"/a:/b:cache=loose":               {Host: "/a", Target: "/b", Cache: "loose"},
		"/a:/b:uid=0,gid=1000":            {Host: "/a", Target: "/b", UID: ptr(uint32(0)), GID: ptr(uint32(1000))},
		"/a:/b:z":                         {Host: "/a", Target: "/b"},
		"/a:/b:ro,Z":                      {Host: "/a", Target: "/b", ReadOnly: true},
		"/a:/b:cached":                    {Host: "/a", Target: "/b"},
		"/a:/b:delegated,rprivate":        {Host: "/a", Target: "/b"},
		"/a:/b:consistent":                {Host: "/a", Target: "/b"},
		"pg:/var/lib/postgresql/data":     {Kind: KindNamed, Name: "pg", Target: "/var/lib/postgresql/data"},
		"pg:/data:ro,nocopy":              {Kind: KindNamed, Name: "pg", Target: "/data", ReadOnly: true, NoCopy: true},
		"a_b.c-9:/data:z":                 {Kind: KindNamed, Name: "a_b.c-9", Target: "/data"},
		"7:/data":                         {Kind: KindNamed, Name: "7", Target: "/data"},
		"c:/data":                         {Kind: KindNamed, Name: "c", Target: "/data"},
		"disk.img:/data:ext4":             {Kind: KindImage, Host: "disk.img", Target: "/data"},
		"./disk.img:/data:ext4,ro,noexec": {Kind: KindImage, Host: "./disk.img", Target: "/data", ReadOnly: true, NoExec: true},
		"/dev/sdb1:/data:ext4":            {Kind: KindImage, Host: "/dev/sdb1", Target: "/data"},
		"/a:/procfs":                      {Host: "/a", Target: "/procfs"},
	} {
		if got, err := Parse(s); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Parse(%q) = %+v, %v, want %+v", s, got, err, want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for s, want := range map[string]string{
		"":                                     "write HOST:CONTAINER",
		"data":                                 "write HOST:CONTAINER",
		"/data":                                "only a path in the container",
		":/data":                               "before the first colon is empty",
		":":                                    "before the first colon is empty",
		"/a:":                                  "the path in the container is empty",
		"/a::ro":                               "the path in the container is empty",
		"/a:b":                                 "does not begin with a slash",
		"/a:b:/c":                              "colon in it cannot be written",
		"/a:/b:/c":                             "colon in it cannot be written",
		"/a:/b:c:/d":                           "colon in it cannot be written",
		"/a:/b:ro:z":                           "colon in it cannot be written",
		"/a:/b:":                               "nothing after the last colon",
		"/a:/b:ro,":                            "one of its flags is empty",
		"/a:/b:,":                              "one of its flags is empty",
		"/a:/":                                 "its root",
		"/a:/..":                               "its root",
		"/a:/proc":                             "/proc",
		"/a:/x/../proc/sys":                    "/proc",
		"/a:/b\x01":                            "control characters",
		"/a:/\xff":                             "UTF-8",
		"/a\x00:/b":                            "NUL",
		"/a:/" + strings.Repeat("x", 256):      "more than 255 bytes",
		"/a:/" + strings.Repeat("x/", 2100):    "more than 4095 bytes",
		`C:\data:/data`:                        "Windows",
		"c:/x:/data":                           "Windows",
		"/a:/b:readonly":                       "the flags of a volume are ro, rw, nosuid, nodev, noexec, uid=…, gid=…, create, notify, cache=none|mmap|loose, ext4, nocopy",
		"/a:/b:RO":                             `no flag "RO"`,
		"/a:/b: ro":                            `no flag " ro"`,
		"/a:/b:size=1g":                        `no flag "size=1g"`,
		"/a:/b:ro,rw":                          "opposite",
		"/a:/b:rw,ro":                          "opposite",
		"/a:/b:suid,nosuid":                    "opposite",
		"/a:/b:ro=1":                           "takes no value",
		"/a:/b:cache":                          "needs a value",
		"/a:/b:uid=":                           "needs a value",
		"/a:/b:cache=writeback":                "none, mmap, loose",
		"/a:/b:cache=none,cache=mmap":          "twice",
		"/a:/b:uid=root":                       "its number",
		"/a:/b:uid=-1":                         "its number",
		"/a:/b:uid=4294967295":                 "its number",
		"/a:/b:gid=4294967296":                 "its number",
		"/a:/b:rshared":                        "rshared cannot be had",
		"/a:/b:slave":                          "slave cannot be had",
		"/a:/b:nocopy":                         "nothing of the image",
		"/a:/b:" + strings.Repeat("ro,", 1000): "not that many",
		"pg:/data:create":                      "it is made when it is not there",
		"pg:/data:uid=1":                       "owners of their own",
		"pg:/data:cache=none":                  "says nothing about a named volume",
		"pg:/data:notify":                      "says nothing about a named volume",
		"d.img:/data:ext4,create":              "mkfs.ext4",
		"d.img:/data:ext4,nocopy":              "says nothing about a disk image",
		"-x:/data":                             "cannot be a volume's name",
		".x:/data":                             "cannot be a volume's name",
		"a b:/data":                            "cannot be a volume's name",
		"ä:/data":                              "cannot be a volume's name",
		`a\b:/data`:                            "cannot be a volume's name",
		strings.Repeat("x", 129) + ":/data":    "128 is the most",
	} {
		got, err := Parse(s)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%.60q) = %+v, error %v, want one with %q", s, got, err, want)
		}
		if !reflect.DeepEqual(got, Spec{}) {
			t.Errorf("Parse(%.60q) gives %+v beside an error", s, got)
		}
	}
}

func TestParseTmpfs(t *testing.T) {
	docker := Spec{Kind: KindTmpfs, Target: "/run", NoSUID: true, NoDev: true, NoExec: true, Perm: 0o1777}
	with := func(change func(*Spec)) Spec { s := docker; change(&s); return s }
	for s, want := range map[string]Spec{
		"/run":                              docker,
		"/run/":                             docker,
		"/run:rw":                           docker,
		"/run:defaults,noatime":             docker,
		"/run:64m":                          with(func(s *Spec) { s.Size = 64 << 20 }),
		"/run:1GiB":                         with(func(s *Spec) { s.Size = 1 << 30 }),
		"/run:size=64m":                     with(func(s *Spec) { s.Size = 64 << 20 }),
		"/run:size=65536":                   with(func(s *Spec) { s.Size = 65536 }),
		"/run:size=65536k":                  with(func(s *Spec) { s.Size = 64 << 20 }),
		"/run:size=50%":                     docker,
		"/run:rw,noexec,nosuid,size=65536k": with(func(s *Spec) { s.Size = 64 << 20 }),
		"/run:exec":                         with(func(s *Spec) { s.NoExec = false }),
		"/run:exec,suid,dev":                with(func(s *Spec) { s.NoExec, s.NoSUID, s.NoDev = false, false, false }),
		"/run:ro":                           with(func(s *Spec) { s.ReadOnly = true }),
		"/run:mode=755":                     with(func(s *Spec) { s.Perm = 0o755 }),
		"/run:mode=0":                       with(func(s *Spec) { s.Perm = 0 }),
		"/run:uid=0,gid=1000":               with(func(s *Spec) { s.UID, s.GID = ptr(uint32(0)), ptr(uint32(1000)) }),
	} {
		if got, err := ParseTmpfs(s); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("ParseTmpfs(%q) = %+v, %v, want %+v", s, got, err, want)
		}
	}
	for s, want := range map[string]string{
		"":                    "is empty",
		"run":                 "does not begin with a slash",
		"/":                   "its root",
		"/run:":               "nothing after the colon",
		"/run:64":             "has no unit",
		"/run:0m":             "less than a page",
		"/run:64x":            "not a size",
		"/run:64m:ro":         "more than one colon",
		"/run:size=10%":       "the default of 50%",
		"/run:size=0":         "less than a page",
		"/run:size=-1":        "not a size",
		"/run:size=99999999t": "more bytes than any file",
		"/run:mode=8":         "octal",
		"/run:mode=10000":     "octal",
		"/run:mode=":          "needs a value",
		"/run:cache=none":     "the flags of a tmpfs are ro, rw, nosuid, nodev, noexec, size=…, mode=…, uid=…, gid=…",
		"/run:ext4":           `no flag "ext4"`,
		"/run:uid=root":       "its number",
		"/run:gid=4294967295": "its number",
		"/run:nr_inodes=1":    "no flag",
		"/run:ro,rw":          "opposite",
	} {
		if got, err := ParseTmpfs(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseTmpfs(%q) = %+v, error %v, want one with %q", s, got, err, want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{
		"10": 10 << 20, "0": 0, "1b": 1, "4k": 4 << 10, "4K": 4 << 10, "4kb": 4 << 10, "4KiB": 4 << 10,
		"512m": 512 << 20, "10g": 10 << 30, "10GiB": 10 << 30, "16T": 16 << 40, "8388607t": 8388607 << 40,
	} {
		if got, err := ParseSize(s); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "g", "b", "ib", "1ib", "-1", "+1", "1.5g", " 1", "1 g", "1e3", "0x10", "10p", "8388608t", "9223372036854775808", "9223372036854775807", "١"} {
		if got, err := ParseSize(s); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", s, got)
		}
	}
}

func TestFormatSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 10 << 30: "10 GiB", 16 << 40: "16 TiB", 32<<20 + 1: "32 MiB"} {
		if got := FormatSize(n); got != want {
			t.Errorf("FormatSize(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestSort(t *testing.T) {
	var specs []Spec
	for _, s := range []string{"/1:/a/b/c", "/2:/z", "/3:/a", "/4:/a/b", "v:/m/n", "w:/y:ro", "w:/x:ro"} {
		spec, err := Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		specs = append(specs, spec)
	}
	sorted, err := Sort(specs)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range sorted {
		got = append(got, s.Target)
	}
	if want := "/z /a /y /x /a/b /m/n /a/b/c"; strings.Join(got, " ") != want {
		t.Errorf("the order is %v, want %s", got, want)
	}
	if specs[0].Target != "/a/b/c" {
		t.Error("Sort changed what it was given")
	}
	for _, tc := range []struct {
		specs []Spec
		want  string
	}{
		{[]Spec{{Host: "/1", Target: "/a"}, {Host: "/2", Target: "/a"}}, "two volumes are to be at /a in the container, /1 and /2"},
		{[]Spec{{Host: "/1", Target: "/a"}, {Kind: KindTmpfs, Target: "/a"}}, "/1 and a tmpfs"},
		{[]Spec{{Kind: KindNamed, Name: "v", Target: "/a"}, {Kind: KindNamed, Name: "v", Target: "/b", ReadOnly: true}}, "the volume v is to be at /a and at /b"},
		{[]Spec{{Kind: KindImage, Host: "/i", Target: "/a"}, {Kind: KindImage, Host: "/i", Target: "/b"}}, "the disk image /i is to be"},
	} {
		if _, err := Sort(tc.specs); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("Sort(%+v): error %v, want one with %q", tc.specs, err, tc.want)
		}
	}
}

// What is taken has a shape that everything after it relies on.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"./a:/b:ro,uid=1", "n:/x", "i:/x:ext4", "~/a:/b:cache=mmap", "a:b:c:d", "C:\\x:/y", "/x:size=1m,mode=700", "/x:1g"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, parse := range []func(string) (Spec, error){Parse, ParseTmpfs} {
			spec, err := parse(s)
			if err != nil {
				if strings.ContainsRune(err.Error(), '\n') {
					t.Errorf("%q: the error has more than one line", s)
				}
				continue
			}
			target, err := parseTarget(spec.Target)
			if err != nil || target != spec.Target {
				t.Errorf("%q: the target %q is not clean: %q, %v", s, spec.Target, target, err)
			}
			if (spec.Kind == KindNamed) != (spec.Name != "") || (spec.Kind == KindShare || spec.Kind == KindImage) != (spec.Host != "") {
				t.Errorf("%q: %+v has the wrong source", s, spec)
			}
			if spec.Kind == KindNamed && CheckName(spec.Name) != nil {
				t.Errorf("%q: the name %q", s, spec.Name)
			}
			if spec.Size < 0 || strings.ContainsRune(spec.Host, 0) {
				t.Errorf("%q: %+v", s, spec)
			}
		}
	})
}
