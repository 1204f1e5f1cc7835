package appcmd

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"bake/internal/app"
	"bake/internal/payload"
)

// testCommand is the command line of an app that holds nothing to run.
func testCommand(t *testing.T) (*cobra.Command, *bytes.Buffer) {
	t.Helper()
	m := &payload.Manifest{
		Version: payload.ManifestVersion, Target: payload.Target{OS: "linux", Arch: "amd64"},
		Image: payload.Image{Ref: "redis:7"}, Rootfs: payload.Rootfs{Type: "erofs"},
	}
	b, err := payload.EncodeManifest(m)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "payload"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	size, err := payload.Write(t.Context(), f, 0, []payload.Source{payload.BytesSource(payload.PartManifest, b)})
	if err != nil {
		t.Fatal(err)
	}
	p, err := payload.Open(f, 0, size)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := command("/opt/redis", &app.Image{File: &payload.File{Payload: p}, Manifest: m}, app.Stdio{}, new(int))
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	return cmd, &out
}

// What is a verb, what runs the container, and whose flag is whose.
func TestDispatch(t *testing.T) {
	for args, want := range map[string]string{
		"":                     "redis",
		"-- ps":                "redis",
		"-d -- ps":             "redis",
		"--name ps -- sh":      "redis",
		"-e ps -d":             "redis",
		"ps":                   "ps",
		"ps -a":                "ps",
		"stop -t 3 web":        "stop",
		"logs -f -- web":       "logs",
		"exec -it web -- sh":   "exec",
		"completion bash":      "bash",
		"__complete stop x":    "__complete",
		"--memory 512m -p 1:1": "redis",
		"sh -c ps":             "redis",
	} {
		cmd, _ := testCommand(t)
		cmd.InitDefaultHelpCmd()
		cmd.InitDefaultCompletionCmd(strings.Fields(args)...)
		if strings.HasPrefix(args, "__complete") {
			continue // added when it is executed
		}
		found, _, err := cmd.Find(strings.Fields(args))
		if err != nil || found.Name() != want {
			t.Errorf("%q is for %s, %v, want %s", args, found.Name(), err, want)
		}
	}
}

func TestMistakes(t *testing.T) {
	for args, want := range map[string]string{
		"sh -c x":     `"sh" is not a flag: put the container's command after --, as in redis -- sh -c x`,
		"stp":         `"stp" is not a flag: put the container's command after --, as in redis -- stp; or was it the verb stop that you meant?`,
		"--nope":      "unknown flag: --nope; redis --help lists the flags",
		"ps --nope":   "unknown flag: --nope; redis ps --help lists the flags",
		"ps x":        "--filter name=x",
		"-d ps":       "unknown shorthand flag: 'd' in -d; redis ps --help lists the flags",
		"--name= -d":  "--name",
		"stop -t x":   "--timeout",
		"rm":          "ps -a lists them",
		"kill -s a/b": "--signal",
	} {
		cmd, _ := testCommand(t)
		cmd.SetArgs(strings.Fields(args))
		if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), want) || args == "sh -c x" && err.Error() != want {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
}

func TestHelp(t *testing.T) {
	help := func(args ...string) string {
		t.Helper()
		cmd, out := testCommand(t)
		cmd.SetArgs(append(args, "--help"))
		if err := cmd.Execute(); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	s := help()
	flags, verbs := strings.Index(s, "\nFlags:\n"), strings.Index(s, "\nVerbs (redis VERB --help says more):\n")
	if flags < 0 || verbs < flags {
		t.Fatalf("the verbs do not come after the flags:\n%s", s)
	}
	words := strings.Fields(s[verbs:])
	for _, verb := range []string{"ps", "stats", "logs", "wait", "stop", "kill", "rm", "ssh", "exec"} {
		if n := count(words, verb); n != 1 {
			t.Errorf("the verb %s is there %d times:\n%s", verb, n, s[verbs:])
		}
	}
	if n := strings.Count(s[verbs:], "\n"); n > 9 {
		t.Errorf("the verbs take %d lines:\n%s", n, s[verbs:])
	}
	if s := help("stop"); !strings.Contains(s, "redis stop [flags] [NAME...]\n") || !strings.Contains(s, "--timeout seconds") || strings.Contains(s, "Verbs") {
		t.Errorf("of a verb:\n%s", s)
	}
	if s := help("completion"); !strings.Contains(s, "  bash ") {
		t.Errorf("of the completion:\n%s", s)
	}
}

func count(words []string, word string) (n int) {
	for _, w := range words {
		if w == word {
			n++
		}
	}
	return n
}
