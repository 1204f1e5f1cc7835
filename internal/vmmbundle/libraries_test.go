package vmmbundle

import (
	"context"
	"debug/elf"
	"errors"
	"maps"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLibraries(t *testing.T) {
	lib := fakeELF{}
	for _, test := range []struct {
		name    string
		program fakeELF
		files   map[string]any
		want    map[string]string
		err     string
	}{
		{
			name:    "transitive, and a cycle",
			program: fakeELF{needed: []string{"a.so"}},
			files: map[string]any{
				"lib/a.so":     fakeELF{needed: []string{"b.so", "a.so"}},
				"usr/lib/b.so": fakeELF{needed: []string{"a.so"}},
			},
			want: map[string]string{"a.so": "/lib/a.so", "b.so": "/usr/lib/b.so"},
		},
		{
			name:    "the cache comes before the usual directories",
			program: fakeELF{needed: []string{"a.so"}},
			files:   map[string]any{"lib/a.so": lib, "opt/a.so": lib, "etc/ld.so.cache": ldCache("a.so", "/opt/a.so")},
			want:    map[string]string{"a.so": "/opt/a.so"},
		},
		{
			name:    "not for special hardware",
			program: fakeELF{needed: []string{"a.so"}},
			files:   map[string]any{"lib/a.so": lib, "opt/a.so": lib, "etc/ld.so.cache": ldCache("a.so", "!/opt/a.so")},
			want:    map[string]string{"a.so": "/lib/a.so"},
		},
		{
			name:    "RUNPATH comes before the cache, its own object's only",
			program: fakeELF{needed: []string{"a.so"}, runpath: "/nowhere:/one"},
			files: map[string]any{
				"one/a.so": fakeELF{needed: []string{"b.so"}}, "one/b.so": lib, "two/b.so": lib,
				"etc/ld.so.cache": ldCache("a.so", "/two/a.so", "b.so", "/two/b.so"),
			},
			want: map[string]string{"a.so": "/one/a.so", "b.so": "/two/b.so"},
		},
		{
			name:    "RPATH holds for what its object loads",
			program: fakeELF{needed: []string{"a.so"}, rpath: "/one"},
			files:   map[string]any{"one/a.so": fakeELF{needed: []string{"b.so"}}, "one/b.so": lib, "lib/b.so": lib},
			want:    map[string]string{"a.so": "/one/a.so", "b.so": "/one/b.so"},
		},
		{
			name:    "RPATH means nothing beside RUNPATH",
			program: fakeELF{needed: []string{"a.so"}, rpath: "/one", runpath: "/two"},
			files:   map[string]any{"one/a.so": lib, "two/a.so": lib},
			want:    map[string]string{"a.so": "/two/a.so"},
		},
		{
			name:    "tokens",
			program: fakeELF{needed: []string{"a.so", "b.so", "c.so"}, runpath: "$ORIGIN/../private:/x/$LIB:/y/${PLATFORM}"},
			files:   map[string]any{"usr/private/a.so": lib, "x/lib/x86_64-linux-gnu/b.so": lib, "y/x86_64/c.so": lib},
			want:    map[string]string{"a.so": "/usr/private/a.so", "b.so": "/x/lib/x86_64-linux-gnu/b.so", "c.so": "/y/x86_64/c.so"},
		},
		{
			name:    "what is for another machine, or no library, is passed over",
			program: fakeELF{needed: []string{"a.so"}, runpath: "/one:/two:/three:relative"},
			files:   map[string]any{"one/a.so": fakeELF{machine: elf.EM_AARCH64}, "two/a.so": "/* GNU ld script */", "three/a.so/x": lib, "lib/a.so": lib},
			want:    map[string]string{"a.so": "/lib/a.so"},
		},
		{
			name:    "links of the other machine stay there",
			program: fakeELF{needed: []string{"a.so"}},
			files:   map[string]any{"lib": "-> /usr/lib", "usr/lib/a.so": "-> ../../../../real/a.so.1", "real/a.so.1": lib},
			want:    map[string]string{"a.so": "/lib/a.so"},
		},
		{
			name:    "missing",
			program: fakeELF{needed: []string{"a.so"}},
			files:   map[string]any{"lib/a.so": fakeELF{needed: []string{"b.so"}}},
			err:     "/lib/a.so needs the library b.so, which is not installed",
		},
		{
			name:    "loop of links",
			program: fakeELF{needed: []string{"a.so"}},
			files:   map[string]any{"lib/a.so": "-> a.so"},
			err:     "not installed",
		},
		{
			name:    "by path",
			program: fakeELF{needed: []string{"/lib/a.so"}},
			files:   map[string]any{"lib/a.so": lib},
			err:     "would not exist elsewhere",
		},
		{
			name:    "dots",
			program: fakeELF{needed: []string{".."}},
			err:     "would not exist elsewhere",
		},
		{
			name:    "broken cache",
			program: fakeELF{needed: []string{"a.so"}},
			files:   map[string]any{"etc/ld.so.cache": "nonsense"},
			err:     "ldconfig makes it anew",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			files := map[string]any{"usr/bin/program": test.program}
			maps.Copy(files, test.files)
			got, err := findLibraries(t.Context(), makeTree(t, files))
			if test.err != "" {
				wantError(t, err, test.err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func findLibraries(ctx context.Context, tr tree) (map[string]string, error) {
	arch, err := newArchitecture("amd64")
	if err != nil {
		return nil, err
	}
	program, err := tr.readObject("/usr/bin/program", nil)
	if err != nil {
		return nil, err
	}
	l, err := newLinker(tr, arch)
	if err != nil {
		return nil, err
	}
	return l.libraries(ctx, []*object{program})
}

func TestLibrariesAreBounded(t *testing.T) {
	var names []string
	files := make(map[string]any)
	for i := range maxLibraries + 1 {
		names = append(names, strconv.Itoa(i)+".so")
		files["lib/"+names[i]] = fakeELF{}
	}
	files["usr/bin/program"] = fakeELF{needed: names}
	tr := makeTree(t, files)
	_, err := findLibraries(t.Context(), tr)
	wantError(t, err, "more than 1024 libraries")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := findLibraries(ctx, tr); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestParseLDCache(t *testing.T) {
	good := ldCache("a.so", "/one/a.so", "a.so", "/two/a.so", "b.so", "relative/b.so")
	want := map[string][]string{"a.so": {"/one/a.so", "/two/a.so"}}
	old := append([]byte(ldOldMagic+"\x00\x01\x00\x00\x00"), make([]byte, 12)...)
	old = append(old, make([]byte, (8-len(old)%8)%8)...)
	for name, b := range map[string][]byte{"new": good, "behind the older table": append(old, good...)} {
		got, err := parseLDCache(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	patch := func(at int, v byte) []byte {
		b := append([]byte(nil), good...)
		b[at] = v
		return b
	}
	for _, test := range []struct {
		name string
		b    []byte
		want string
	}{
		{"empty", nil, "glibc's format"},
		{"magic", patch(0, 'x'), "glibc's format"},
		{"short header", good[:40], "glibc's format"},
		{"count", patch(23, 0x7f), "more than it has room for"},
		{"cut", good[:48+24*2], "more than it has room for"},
		{"cut strings", good[:len(good)-4], "points outside"},
		{"name outside", patch(48+7, 0x7f), "points outside"},
		{"old header cut", []byte(ldOldMagic), "within its header"},
		{"old table cut", []byte(ldOldMagic + "\x00\xff\xff\xff\xff"), "longer than the file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parseLDCache(test.b)
			wantError(t, err, test.want)
		})
	}
}

func FuzzParseLDCache(f *testing.F) {
	f.Add(ldCache("a.so", "/one/a.so", "b.so", "!/two/b.so"))
	f.Add([]byte(ldOldMagic + "\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		libs, err := parseLDCache(b)
		if err != nil && libs != nil {
			t.Fatal("entries with an error")
		}
		for name, paths := range libs {
			if len(name) >= maxPath || len(paths) == 0 || paths[0][0] != '/' {
				t.Fatalf("entry %q: %q", name, paths)
			}
		}
	})
}
