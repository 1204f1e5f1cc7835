//go:build linux

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// names are a directory's entries.
func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// directoryCases are mkdir(2), rmdir(2), readdir(3) and a directory's links.
func directoryCases() (cases []testCase) {
	add := func(name string, run func(*T)) { cases = append(cases, testCase{name: name, run: run}) }
	add("rmdir of an empty directory", func(t *T) {
		t.ok("rmdir", unix.Rmdir(t.mkdir("d")))
		if !missing(t.at("d")) {
			t.fail("it is still there")
		}
	})
	for what, make := range map[string]func(*T){
		"a file":          func(t *T) { t.file("d/x", "") },
		"a directory":     func(t *T) { t.mkdir("d/x") },
		"a dangling link": func(t *T) { t.symlink("none", "d/x") },
		"a FIFO":          func(t *T) { t.ok("mkfifo", unix.Mkfifo(t.at("d/x"), 0o600)) },
	} {
		add("rmdir of a directory with "+what, func(t *T) {
			d := t.mkdir("d")
			make(t)
			t.is("rmdir", unix.Rmdir(d), unix.ENOTEMPTY, unix.EEXIST)
			t.stat(t.at("d/x"))
		})
	}
	cases = sorted(cases)
	add("rmdir of a file", func(t *T) { t.is("rmdir", unix.Rmdir(t.file("f", "")), unix.ENOTDIR) })
	add("rmdir of a link to a directory", func(t *T) {
		t.mkdir("d")
		t.is("rmdir", unix.Rmdir(t.symlink("d", "l")), unix.ENOTDIR)
	})
	add("rmdir of . and ..", func(t *T) {
		d := t.mkdir("d")
		t.is("rmdir .", unix.Rmdir(d+"/."), unix.EINVAL)
		t.mkdir("d/e")
		t.is("rmdir ..", unix.Rmdir(d+"/e/.."), unix.ENOTEMPTY, unix.EEXIST)
	})
	add("mkdir with a slash behind", func(t *T) {
		t.ok("mkdir", unix.Mkdir(t.at("d/"), 0o755))
		t.stat(t.at("d"))
	})
	add("a file with a slash behind", func(t *T) {
		t.is("open", opened(t.at("f/"), unix.O_WRONLY|unix.O_CREAT, 0o644), unix.EISDIR, unix.ENOENT, unix.ENOTDIR)
		if !missing(t.at("f")) {
			t.fail("the file was made")
		}
	})
	add("a directory's links", func(t *T) {
		d := t.mkdir("d")
		if t.stat(d).Nlink == 1 {
			panic(notSupported{fmt.Errorf("the file system does not count them")})
		}
		for i := range 3 {
			same(t, "the links", int(t.stat(d).Nlink), 2+i)
			t.mkdir(fmt.Sprintf("d/%d", i))
		}
		t.file("d/f", "")
		same(t, "the links with a file", int(t.stat(d).Nlink), 5)
		t.ok("rmdir", unix.Rmdir(d+"/0"))
		same(t, "the links after rmdir", int(t.stat(d).Nlink), 4)
		t.ok("rename", unix.Rename(d+"/1", t.at("away")))
		same(t, "the links after rename", int(t.stat(d).Nlink), 3)
	})
	add("a removed directory that is open", func(t *T) {
		d := t.mkdir("d")
		fd := t.open(d, unix.O_RDONLY|unix.O_DIRECTORY)
		t.ok("rmdir", unix.Rmdir(d))
		t.is("mkdirat", unix.Mkdirat(fd, "x", 0o755), unix.ENOENT)
		t.is("lookup", unix.Faccessat(fd, "x", unix.F_OK, 0), unix.ENOENT)
	})
	add("a directory made again is another", func(t *T) {
		d := t.mkdir("d")
		t.file("d/f", "")
		t.ok("unlink", unix.Unlink(d+"/f"))
		t.ok("rmdir", unix.Rmdir(d))
		t.mkdir("d")
		list, err := names(d)
		t.ok("readdir", err)
		same(t, "the entries", len(list), 0)
		t.is("stat", unix.Access(d+"/f", unix.F_OK), unix.ENOENT)
	})
	add("20 directories deep", func(t *T) {
		path := "d"
		for range 20 {
			t.mkdir(path)
			path += "/d"
		}
		t.file(path, "bottom")
		t.holds(t.at(path), "bottom")
	})
	add(".. is the parent", func(t *T) {
		t.mkdir("d")
		t.mkdir("d/e")
		same(t, "the inode", t.stat(t.at("d/e/..")).Ino, t.stat(t.at("d")).Ino)
		same(t, "the inode", t.stat(t.at("d/e/../..")).Ino, t.stat(t.dir).Ino)
	})
	add("types in readdir", func(t *T) {
		t.file("file", "")
		t.mkdir("dir")
		t.symlink("none", "link")
		t.ok("mkfifo", unix.Mkfifo(t.at("fifo"), 0o600))
		entries, err := os.ReadDir(t.dir)
		t.ok("readdir", err)
		got := ""
		for _, e := range entries {
			got += e.Name() + " " + e.Type().String()[:1] + ";"
		}
		same(t, "the entries", got, "dir d;fifo p;file -;link L;")
	})
	add("inode numbers in readdir", func(t *T) {
		want := map[string]uint64{}
		for _, name := range []string{"a", "b", "c"} {
			want[name] = t.stat(t.file(name, "")).Ino
		}
		got := t.dirents(t.dir)
		for name, ino := range want {
			same(t, "the inode of "+name, got[name], ino)
		}
		same(t, "the inode of .", got["."], t.stat(t.dir).Ino)
	})
	add("many entries in readdir", func(t *T) {
		for i := range t.entries {
			t.ok("mknod", unix.Mknod(t.at(fmt.Sprintf("a file with number %06d", i)), unix.S_IFREG|0o644, 0))
		}
		list, err := names(t.dir)
		t.ok("readdir", err)
		same(t, "the entries", len(list), t.entries)
		slices.Sort(list)
		same(t, "the different entries", len(slices.Compact(list)), t.entries)
		same(t, "the last", list[len(list)-1], fmt.Sprintf("a file with number %06d", t.entries-1))
		// Deleting what is read must not hide what is not read yet.
		d, err := os.Open(t.dir)
		t.ok("open", err)
		defer d.Close()
		deleted := 0
		for {
			some, err := d.Readdirnames(97)
			for _, name := range some {
				t.ok("unlink", unix.Unlink(t.at(name)))
				deleted++
			}
			if err != nil {
				break
			}
		}
		same(t, "the entries deleted while reading", deleted, t.entries)
	})
	add("rewinddir sees what is new", func(t *T) {
		t.file("a", "")
		d, err := os.Open(t.dir)
		t.ok("open", err)
		defer d.Close()
		for want, change := range []func(){
			func() { t.ok("unlink", unix.Unlink(t.at("a"))) }, // none is left
			func() { t.file("b", "") },
			func() { t.file("c", "") },
		} {
			change()
			_, err = d.Seek(0, 0)
			t.ok("rewind", err)
			list, err := d.Readdirnames(-1)
			t.ok("readdir", err)
			same(t, "the entries", len(list), want)
		}
	})
	return cases
}

// dirents are the entries of getdents64(2) with their inodes, which os.ReadDir
// does not tell.
func (t *T) dirents(path string) map[string]uint64 {
	fd := t.open(path, unix.O_RDONLY|unix.O_DIRECTORY)
	found := map[string]uint64{}
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		t.ok("getdents64", err)
		if n == 0 {
			return found
		}
		// struct linux_dirent64: ino, off, reclen, type, name.
		for b := buf[:n]; len(b) > 19; {
			size := int(b[16]) | int(b[17])<<8
			name, _, _ := strings.Cut(string(b[19:size]), "\x00")
			var ino uint64
			for i := range 8 {
				ino |= uint64(b[i]) << (8 * i)
			}
			found[name] = ino
			b = b[size:]
		}
	}
}

// nameCases are names that are unusual and allowed.
func nameCases() (cases []testCase) {
	for what, name := range map[string]string{
		"255 bytes":          strings.Repeat("x", 255),
		"no UTF-8":           "\xff\xfe\x80 \xc3",
		"255 bytes no UTF-8": strings.Repeat("\xff", 255),
		"every byte":         everyByte(),
		"UTF-8":              "zażółć gęślą jaźń 日本語 🎂",
		"spaces and lines":   " a\nb\tc\r ",
		"a backslash":        `..\..\etc`,
		"dots":               "...",
		"a dash":             "-rf",
		"a quote":            `"'$(true)`,
		"a star":             "*",
		"a tilde":            "~root",
		"whiteout":           ".wh.file",
	} {
		cases = append(cases, testCase{name: "a name of " + what, run: func(t *T) {
			path := t.file(name, "data")
			list, err := names(t.dir)
			t.ok("readdir", err)
			same(t, "the entries", len(list), 1)
			same(t, "the name", list[0], name)
			t.holds(path, "data")
			t.ok("rename", unix.Rename(path, t.at("b")))
			t.ok("link", unix.Link(t.at("b"), path))
			t.ok("unlink", unix.Unlink(path))
			t.ok("symlink", unix.Symlink(name, path))
			buf := make([]byte, 300)
			n, err := unix.Readlink(path, buf)
			t.ok("readlink", err)
			same(t, "the target", string(buf[:n]), name)
			t.ok("unlink", unix.Unlink(path))
			t.ok("mkdir", unix.Mkdir(path, 0o755))
			t.ok("rmdir", unix.Rmdir(path))
		}})
	}
	cases = sorted(cases)
	return append(cases, testCase{name: "names that differ in case", run: func(t *T) {
		t.file("NAME", "upper")
		t.file("name", "lower")
		t.holds(t.at("NAME"), "upper")
		t.holds(t.at("name"), "lower")
	}})
}

func everyByte() string {
	var b []byte
	for c := 1; c < 256; c++ {
		if c != '/' {
			b = append(b, byte(c))
		}
	}
	return string(b)
}
