//go:build linux

package container

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"bake/internal/wire"
)

const (
	passwd = "root:x:0:0:root:/root:/bin/sh\nbaker:x:1000:1001::/home/baker:/bin/sh\nhomeless:x:7:7:::\nbig:x:4294967295:0::/:\nnegative:x:-1:0::/:\n"
	group  = "root:x:0:\nbaker:x:1001:\noven:x:1002:baker,root\nflour:x:1003:baker\nhuge:x:99999999999:baker2\n"
)

// tree makes a root filesystem; a content that begins with -> is a link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "->"); ok {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func number(n uint32) *uint32 { return &n }

func TestLookupAccount(t *testing.T) {
	usual := tree(t, map[string]string{"etc/passwd": passwd, "etc/group": group})
	scratch := tree(t, nil)
	baker := Account{UID: 1000, GID: 1001, Groups: []uint32{1002, 1003}, Home: "/home/baker"}
	for name, c := range map[string]struct {
		root string
		p    wire.Process
		want Account
	}{
		"nobody in particular": {usual, wire.Process{}, Account{Home: "/root", Groups: []uint32{1002}}},
		"name":                 {usual, wire.Process{User: "baker"}, baker},
		"number with an entry": {usual, wire.Process{User: "1000"}, baker},
		"number without":       {usual, wire.Process{User: "4242"}, Account{UID: 4242, Home: "/"}},
		"name and group":       {usual, wire.Process{User: "baker:oven"}, Account{UID: 1000, GID: 1002, Home: "/home/baker"}},
		"name and number":      {usual, wire.Process{User: "baker:5"}, Account{UID: 1000, GID: 5, Home: "/home/baker"}},
		"numbers":              {usual, wire.Process{User: "9:8"}, Account{UID: 9, GID: 8, Home: "/"}},
		"no home":              {usual, wire.Process{User: "homeless"}, Account{UID: 7, GID: 7, Home: "/"}},
		"uid":                  {usual, wire.Process{User: "baker", UID: number(5)}, Account{UID: 5, Home: "/"}},
		"uid with an entry":    {usual, wire.Process{UID: number(1000)}, baker},
		"uid keeps the group":  {usual, wire.Process{User: "x:oven", UID: number(1000)}, Account{UID: 1000, GID: 1002, Home: "/home/baker"}},
		"gid":                  {usual, wire.Process{User: "baker", GID: number(6)}, Account{UID: 1000, GID: 6, Home: "/home/baker"}},
		"uid and gid":          {usual, wire.Process{User: "nosuch", UID: number(5), GID: number(6)}, Account{UID: 5, GID: 6, Home: "/"}},
		"gid alone":            {usual, wire.Process{GID: number(6)}, Account{GID: 6, Home: "/root"}},
		"scratch":              {scratch, wire.Process{}, Account{Home: "/"}},
		"scratch by number":    {scratch, wire.Process{User: "3:4"}, Account{UID: 3, GID: 4, Home: "/"}},
	} {
		got, err := LookupAccount(c.root, c.p)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
	for name, c := range map[string]struct {
		root  string
		p     wire.Process
		words string
	}{
		"unknown name":       {usual, wire.Process{User: "nosuch"}, `"nosuch" is not in the image's /etc/passwd`},
		"unknown group":      {usual, wire.Process{User: "baker:nosuch"}, `"baker:nosuch" is not in the image's /etc/group`},
		"name in scratch":    {scratch, wire.Process{User: "baker"}, "/etc/passwd"},
		"number of no user":  {usual, wire.Process{User: "big"}, "4294967295"},
		"negative number":    {usual, wire.Process{User: "negative"}, "negative"},
		"uid that is none":   {usual, wire.Process{UID: number(4294967295)}, "4294967295"},
		"number that is not": {usual, wire.Process{User: "99999999999"}, "99999999999"},
		"no root":            {usual + "/nosuch", wire.Process{}, "root filesystem"},
	} {
		if got, err := LookupAccount(c.root, c.p); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %+v, %v; want an error with %q", name, got, err, c.words)
		}
	}
}

// Links lead around inside the image and not out of it.
func TestLinksStayInside(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("thief:x:666:666::/stolen:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string]map[string]string{
		"absolute inside":  {"etc/passwd": "->/usr/share/passwd", "usr/share/passwd": passwd},
		"climbing inside":  {"etc/passwd": "->../../../../../usr/share/passwd", "usr/share/passwd": passwd},
		"directory inside": {"etc": "->/usr/etc", "usr/etc/passwd": passwd},
	} {
		if got, err := LookupAccount(tree(t, files), wire.Process{User: "baker"}); err != nil || got.UID != 1000 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for name, files := range map[string]map[string]string{
		"absolute outside":  {"etc/passwd": "->" + outside},
		"climbing outside":  {"etc/passwd": "->../../../../../../../../../.." + outside},
		"directory outside": {"etc": "->/proc/1/root/etc"},
		"magic link":        {"etc/passwd": "->/proc/self/root/etc/passwd"},
		"dangling":          {"etc/passwd": "->nowhere"},
		"through a file":    {"etc": "no directory"},
	} {
		got, err := LookupAccount(tree(t, files), wire.Process{})
		if err != nil || got.Home != "/" {
			t.Errorf("%s: %+v, %v; want what an image without accounts gives", name, got, err)
		}
	}
	if _, err := LookupAccount(tree(t, map[string]string{"etc/passwd": "->passwd"}), wire.Process{}); err == nil {
		t.Error("a link to itself is no error")
	}
}

func TestStrangeFiles(t *testing.T) {
	fifo := tree(t, map[string]string{"etc/group": group})
	if err := unix.Mkfifo(filepath.Join(fifo, "etc/passwd"), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := tree(t, map[string]string{"etc/passwd/x": ""})
	long := tree(t, map[string]string{"etc/passwd": ""})
	if err := os.Truncate(filepath.Join(long, "etc/passwd"), accountFileLimit+1); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ root, words string }{
		"fifo":      {fifo, "not a regular file"},
		"directory": {dir, "not a regular file"},
		"long":      {long, "longer than"},
	} {
		if _, err := LookupAccount(c.root, wire.Process{}); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzLookupAccount(f *testing.F) {
	f.Add("baker", passwd, group)
	f.Add("1000:oven", "::::", ":::\n::::::::")
	f.Add(":", "x:x:1:1", "\x00")
	f.Fuzz(func(t *testing.T, spec, passwd, group string) {
		root := t.TempDir()
		if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, content := range map[string]string{"passwd": passwd, "group": group} {
			if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		a, err := LookupAccount(root, wire.Process{User: spec})
		if err == nil && (a.Home == "" || a.UID == 1<<32-1 || a.GID == 1<<32-1) {
			t.Errorf("%q is %+v", spec, a)
		}
	})
}
