package app

import (
	"reflect"
	"strings"
	"testing"

	"bake/internal/payload"
)

func ptr[T any](v T) *T { return &v }

func TestProcessArguments(t *testing.T) {
	image := payload.Process{Entrypoint: []string{"/entry", "-x"}, Cmd: []string{"cmd", "a"}}
	for name, tt := range map[string]struct {
		def  payload.Process
		o    Options
		want []string
		err  string
	}{
		"the image's":                         {image, Options{}, []string{"/entry", "-x", "cmd", "a"}, ""},
		"arguments replace the command":       {image, Options{Args: []string{"b"}}, []string{"/entry", "-x", "b"}, ""},
		"entrypoint drops the command":        {image, Options{Entrypoint: ptr("sh")}, []string{"sh"}, ""},
		"entrypoint and arguments":            {image, Options{Entrypoint: ptr("sh"), Args: []string{"-c", "x"}}, []string{"sh", "-c", "x"}, ""},
		"an empty entrypoint removes it":      {image, Options{Entrypoint: ptr(""), Args: []string{"ls"}}, []string{"ls"}, ""},
		"embedded arguments replace the Cmd":  {payload.Process{Entrypoint: []string{"e"}, Cmd: []string{"c"}, Args: []string{"a"}}, Options{}, []string{"e", "a"}, ""},
		"arguments replace embedded ones too": {payload.Process{Entrypoint: []string{"e"}, Args: []string{"a"}}, Options{Args: []string{"b"}}, []string{"e", "b"}, ""},
		"nothing to run":                      {payload.Process{}, Options{}, nil, "names no command"},
		"an empty entrypoint and nothing":     {image, Options{Entrypoint: ptr("")}, nil, "names no command"},
		"an empty command":                    {payload.Process{}, Options{Args: []string{""}}, nil, "empty string"},
		"NUL":                                 {image, Options{Args: []string{"a\x00b"}}, nil, "NUL"},
		"not UTF-8":                           {image, Options{Args: []string{"\xff"}}, nil, "UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := process(tt.def, tt.o, nil)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want an error with %q", err, tt.err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(p.Args, tt.want) {
				t.Errorf("got %q, %v; want %q", p.Args, err, tt.want)
			}
		})
	}
}

func TestProcessUserAndDirectory(t *testing.T) {
	def := payload.Process{Cmd: []string{"c"}, Cwd: "/srv", User: "www", UID: ptr(uint32(5))}
	p, err := process(def, Options{}, nil)
	if err != nil || p.Cwd != "/srv" || p.User != "www" || *p.UID != 5 || p.GID != nil {
		t.Errorf("as embedded: %+v, %v", p, err)
	}
	p, err = process(def, Options{Cwd: ptr("/tmp"), UID: ptr(uint32(0)), GID: ptr(uint32(7))}, nil)
	if err != nil || p.Cwd != "/tmp" || *p.UID != 0 || *p.GID != 7 {
		t.Errorf("with flags: %+v, %v", p, err)
	}
	if _, err := process(def, Options{Cwd: ptr("tmp")}, nil); err == nil || !strings.Contains(err.Error(), "absolute") {
		t.Errorf("a relative directory: %v", err)
	}
}

func TestEnvironmentPrecedence(t *testing.T) {
	embedded := []string{"PATH=/bin", "A=embedded", "B=embedded", "C=embedded", "broken"}
	host := []string{"BAKE_VM_B=host", "BAKE_VM_C=host", "BAKE_VM_=x", "HOME=/root", "D=passed"}
	got, err := environment(embedded, host, []string{"C=flag", "D", "UNSET", "E=", "F=a=b"})
	want := []string{"PATH=/bin", "A=embedded", "B=host", "C=flag", "D=passed", "E=", "F=a=b"}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	for _, bad := range []string{"=x", "", "A=\x00", "A=\xff"} {
		if _, err := environment(nil, nil, []string{bad}); err == nil {
			t.Errorf("--env %q was accepted", bad)
		}
	}
}

func TestCrash(t *testing.T) {
	for name, tt := range map[string]struct {
		console string
		reason  string
		memory  bool
	}{
		"nothing": {"[    0.1] Linux version 6.12\n", "", false},
		"a panic": {"[    1.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009\r\n[    1.0] CPU: 0",
			"the guest's kernel panicked: Attempted to kill init! exitcode=0x00000009", false},
		"out of memory": {"Kernel panic - not syncing: System is deadlocked on memory\n",
			"the guest's kernel panicked: System is deadlocked on memory", true},
		"an escape sequence": {"Kernel panic - not syncing: \x1b[2Jx\n", "the guest's kernel panicked: [2Jx", false},
	} {
		reason, memory := crash([]byte(tt.console))
		if reason != tt.reason || memory != tt.memory {
			t.Errorf("%s: %q, %v; want %q, %v", name, reason, memory, tt.reason, tt.memory)
		}
	}
}

func TestConsoleTailKeepsTheEnd(t *testing.T) {
	var tail consoleTail
	for range 100 {
		tail.Write([]byte(strings.Repeat("x", 1000)))
	}
	tail.Write([]byte("the end"))
	got := tail.bytes()
	if len(got) != tailSize || !strings.HasSuffix(string(got), "the end") {
		t.Errorf("%d bytes, end %q", len(got), got[len(got)-10:])
	}
}
