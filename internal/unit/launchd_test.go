package unit

import (
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"howett.net/plist"
)

func TestLaunchd(t *testing.T) {
	a := sample(hostile...)
	data, err := Launchd(a, LaunchdOptions{Home: "/Users/<me>"})
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if _, err := plist.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	var args []string
	for _, arg := range got["ProgramArguments"].([]any) {
		args = append(args, arg.(string))
	}
	if want := append([]string{a.Exe}, wantArgs(a)...); !slices.Equal(args, want) {
		t.Errorf("got  %q\nwant %q", args, want)
	}
	delete(got, "ProgramArguments")
	want := map[string]any{
		"Label": "bake.redis-1-elf", "RunAtLoad": true, "KeepAlive": true, "ExitTimeOut": uint64(35), "ProcessType": "Interactive", "Umask": uint64(0o077),
		"StandardOutPath": "/Users/<me>/Library/Logs/bake.redis-1-elf.log", "StandardErrorPath": "/Users/<me>/Library/Logs/bake.redis-1-elf.log",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestLaunchdKeepAlive(t *testing.T) {
	for restart, want := range map[Restart]any{
		{}:                false,
		{Always: true}:    true,
		{OnFailure: true}: map[string]any{"SuccessfulExit": false},
	} {
		a := sample()
		a.Restart = restart
		data, err := Launchd(a, LaunchdOptions{Daemon: true, Label: "org.example.x"})
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if _, err := plist.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got["KeepAlive"], want) || got["Label"] != "org.example.x" || filepath.Dir(got["StandardOutPath"].(string)) != "/var/log" {
			t.Errorf("%+v: got %v", restart, got)
		}
	}
}

func TestLaunchdErrors(t *testing.T) {
	counted := sample()
	counted.Restart = Restart{OnFailure: true, Max: 2}
	for _, c := range []struct {
		app  App
		o    LaunchdOptions
		want string
	}{
		{sample("\x1b[31m"), LaunchdOptions{Daemon: true}, "U+001B"},
		{sample("\uffff"), LaunchdOptions{Daemon: true}, "U+FFFF"},
		{sample(), LaunchdOptions{Daemon: true, Label: "\x01"}, "U+0001"},
		{sample(), LaunchdOptions{}, "HOME"},
		{counted, LaunchdOptions{Daemon: true}, "on-failure:2"},
	} {
		if _, err := Launchd(c.app, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want %q, got %v", c.want, err)
		}
	}
}
