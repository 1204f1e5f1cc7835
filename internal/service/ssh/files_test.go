package ssh

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func testKeys(t *testing.T) *Keys {
	t.Helper()
	keys, err := NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestPublish(t *testing.T) {
	keys, dir := testKeys(t), t.TempDir()
	if err := keys.Publish(dir); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, KnownHostsFile))
	if err != nil {
		t.Fatal(err)
	}
	_, hosts, host, _, rest, err := ssh.ParseKnownHosts(data)
	if err != nil || len(rest) > 0 || len(hosts) != 1 || hosts[0] != "bake-*" {
		t.Fatalf("known_hosts is %q: %v", data, err)
	}
	m := keys.Manifest()
	if signer, err := ssh.NewSignerFromKey(keys.host); err != nil || string(signer.PublicKey().Marshal()) != string(host.Marshal()) {
		t.Errorf("known_hosts has another key than the guest: %v", err)
	}
	if len(m.HostKey) != 32 || len(m.ClientKey) != 32 || string(m.HostKey) != string(keys.host.Seed()) {
		t.Errorf("the manifest has keys of %d and %d bytes", len(m.HostKey), len(m.ClientKey))
	}
}

func TestPrivateKeyFile(t *testing.T) {
	keys, path := testKeys(t), filepath.Join(t.TempDir(), "key")
	f, err := keys.WritePrivateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	checkFile(t, path, 0o600)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(data)
	if err != nil || string(signer.PublicKey().Marshal()[len(signer.PublicKey().Marshal())-32:]) != string(keys.Manifest().ClientKey) {
		t.Errorf("the file does not hold the key: %v", err)
	}
	if out, err := exec.Command("ssh-keygen", "-y", "-f", path).CombinedOutput(); err != nil {
		t.Errorf("ssh-keygen: %v\n%s", err, out)
	}
	// Another run replaces it, and the first one leaves that alone.
	second, err := testKeys(t).WritePrivateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Remove(); err != nil {
		t.Fatal(err)
	}
	checkFile(t, path, 0o600)
	for range 2 {
		if err := second.Remove(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the key is still there: %v", err)
	}
}

func checkFile(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != mode {
		t.Errorf("%s has mode %v, not %v", path, info.Mode(), mode)
	}
}

// What is not of a run of bake is never lost.
func TestFilesOfOthers(t *testing.T) {
	keys, dir := testKeys(t), t.TempDir()
	path := filepath.Join(dir, "id_ed25519")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "user@host", "-f", path).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	target := filepath.Join(dir, "target")
	script := filepath.Join(dir, "script")
	for name, text := range map[string]string{target: "", script: "#!/bin/sh\nexit 0\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	write := map[string]func(string) (*File, error){
		"key":    keys.WritePrivateKey,
		"script": func(path string) (*File, error) { return WriteScript(path, NewLogin("/app", "x", "/run/x")) },
		"socket": func(path string) (*File, error) { _, f, err := Listen(path); return f, err },
	}
	for kind, f := range write {
		for _, path := range []string{path, script, link, dir, "/dev/null"} {
			before, _ := os.ReadFile(path)
			if _, err := f(path); err == nil {
				t.Errorf("a %s took the place of %s", kind, path)
			}
			if after, _ := os.ReadFile(path); string(before) != string(after) {
				t.Errorf("a %s changed %s", kind, path)
			}
		}
	}
	// An empty file is what mktemp(1) makes: nothing is lost with it.
	if _, err := keys.WritePrivateKey(target); err != nil {
		t.Error(err)
	}
	if _, err := WriteScript(target, NewLogin("/app", "x", "/run/x")); err == nil {
		t.Error("a script took the place of a key")
	}
}

func TestScript(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log in")
	l := NewLogin("/opt/my app's %h $x", "web", "/run/user/0/bake/x y")
	if _, err := WriteScript(path, l); err != nil {
		t.Fatal(err)
	}
	checkFile(t, path, 0o700)
	cmd := exec.Command(path, "-G")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"user root", "hostname bake-web", "identityagent /run/user/0/bake/x y/agent",
		"userknownhostsfile /run/user/0/bake/x y/known_hosts", "identityfile /run/user/0/bake/x y/identity.pub",
		`proxycommand '/opt/my app'\''s %%h $x' ssh-proxy web`,
	} {
		if !strings.Contains(strings.ToLower("\n"+string(out)), strings.ToLower("\n"+want+"\n")) {
			t.Errorf("ssh -G does not say %q:\n%s", want, out)
		}
	}
}

// ssh(1) reads every path as it is, and gives the program its name unchanged.
func TestQuoting(t *testing.T) {
	for _, name := range []string{"plain", "with space", `quo"te`, "apos'trophe", `back\slash`, "100%h", "$HOME", "#hash", "a=b", "tab\there", "ü"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), name)
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			exe := filepath.Join(dir, "app")
			called := filepath.Join(dir, "called")
			if err := os.WriteFile(exe, []byte("#!/bin/sh\necho \"$0 $*\" >\"${0%/*}/called\"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			settings, err := NewLogin(exe, "web", dir).Settings()
			if err != nil {
				t.Fatal(err)
			}
			var config strings.Builder
			config.WriteString("Host web\n")
			var args []string
			for _, s := range settings {
				config.WriteString("    " + s.Key + " " + s.Value + "\n")
				args = append(args, "-o", s.Key+"="+s.Value)
			}
			file := filepath.Join(t.TempDir(), "config")
			if err := os.WriteFile(file, []byte(config.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			for how, args := range map[string][]string{"-F": {"-F", file, "web"}, "-o": append([]string{"-F", "/dev/null"}, append(args, "web")...)} {
				os.Remove(called)
				// It fails, as the program is no connection, after it has said which
				// files it wants.
				out, _ := exec.Command("ssh", append([]string{"-vv"}, args...)...).CombinedOutput()
				data, err := os.ReadFile(called)
				if want := exe + " ssh-proxy web\n"; err != nil || string(data) != want {
					t.Errorf("%s: the program was called as %q, not %q: %v\n%s", how, data, want, err, out)
				}
				expanded, err := exec.Command("ssh", append([]string{"-G"}, args...)...).Output()
				if err != nil {
					t.Fatalf("%s: ssh -G: %v", how, err)
				}
				want := "\nidentityagent " + filepath.Join(dir, AgentSocket) + "\n"
				if !strings.Contains(string(expanded), want) {
					t.Errorf("%s: ssh -G does not say %q", how, want)
				}
			}
		})
	}
	for _, bad := range []string{"line\nbreak", "${HOME}"} {
		if _, err := NewLogin("/app", "web", "/run/"+bad).Settings(); err == nil {
			t.Errorf("a path with %q was written", bad)
		}
	}
}

func TestForward(t *testing.T) {
	dir, err := os.MkdirTemp("", "fwd")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	server, err := net.Listen("unix", filepath.Join(dir, "server"))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() { // ends with the listener
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			// It answers when it has read all: half-close has to be carried.
			data, _ := io.ReadAll(conn)
			conn.Write(append([]byte("got "), data...))
			conn.Close()
		}
	}()
	path := filepath.Join(dir, "sock")
	ln, f, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	checkFile(t, path, os.ModeSocket|0o600)
	if _, _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "listens on it already") {
		t.Errorf("a second socket: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Forward(ctx, ln, func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", server.Addr().String())
		}, func(err error) { t.Errorf("forward: %v", err) })
	}()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn.Write([]byte("this"))
	conn.(*net.UnixConn).CloseWrite()
	if data, err := io.ReadAll(conn); err != nil || string(data) != "got this" {
		t.Errorf("got %q, %v", data, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	// What a killed run leaves, the next one takes.
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	second, g, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := f.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error("the first run removed the socket of the second")
	}
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
	if _, _, err := Listen(filepath.Join(dir, strings.Repeat("x", 120))); err == nil || !strings.Contains(err.Error(), "shorter") {
		t.Errorf("a long path: %v", err)
	}
}
