package ssh

import (
	"fmt"
	"path/filepath"
	"strings"
)

// LoginUser is who everybody logs in as. The server starts sessions as any user
// of the container that they name, so the one key may as well belong to root.
const LoginUser = "root"

// ProxyVerb is the hidden command of every app, and of bake, whose standard input
// and output become a connection to the SSH server of an instance.
const ProxyVerb = "ssh-proxy"

// ProxySocketFlag has it connect to a Unix socket, one that [Forward] serves, in
// place of an instance.
const ProxySocketFlag = "socket"

// A Login is what ssh(1) has to know to log in to one instance.
type Login struct {
	// Alias is the name that ssh(1) knows the guest by: HostAlias of a name or an
	// ID.
	Alias string
	// Proxy is a program with arguments whose standard input and output are the
	// connection.
	Proxy []string
	// Agent is the socket of an ssh-agent, and Identity the public one of its keys
	// to use. Without an agent Identity is the private key.
	Agent, Identity string
	// KnownHosts is the file with the server's key.
	KnownHosts string
}

// HostAlias is the name of an instance for ssh(1), from its name or ID.
func HostAlias(name string) string { return "bake-" + name }

// NewLogin is the way to an instance whose directory is dir, by its name or ID,
// through the app or bake that is exe.
func NewLogin(exe, name, dir string) Login {
	return Login{
		Alias:      HostAlias(name),
		Proxy:      []string{exe, ProxyVerb, name},
		Agent:      filepath.Join(dir, AgentSocket),
		Identity:   filepath.Join(dir, IdentityFile),
		KnownHosts: filepath.Join(dir, KnownHostsFile),
	}
}

// A Setting is a line of ssh_config(5): a keyword, and its arguments quoted as
// they are written there. "KEY=VALUE" is one for the -o of ssh(1).
type Setting struct{ Key, Value string }

// Settings are all that ssh(1) needs beside the host's name. They take the place
// of what a user's own configuration says for every host.
func (l Login) Settings() ([]Setting, error) {
	var err error
	path := func(path string) string {
		q, qerr := QuotePath(path)
		if qerr != nil {
			err = qerr
		}
		return q
	}
	proxy, perr := quoteCommand(l.Proxy)
	s := []Setting{
		{"HostName", l.Alias},
		{"User", LoginUser},
		{"ProxyCommand", proxy},
		{"HostKeyAlias", l.Alias},
		{"UserKnownHostsFile", path(l.KnownHosts)},
		{"GlobalKnownHostsFile", "/dev/null"},
		{"StrictHostKeyChecking", "yes"},
		{"UpdateHostKeys", "no"},
		{"CheckHostIP", "no"},
		{"PreferredAuthentications", "publickey"},
		{"IdentitiesOnly", "yes"},
		{"IdentityFile", path(l.Identity)},
	}
	agent := "none"
	if l.Agent != "" {
		agent = path(l.Agent)
	}
	s = append(s, Setting{"IdentityAgent", agent})
	if perr != nil {
		err = perr
	}
	return s, err
}

// QuotePath writes a path as an argument of ssh_config(5): in double quotes where
// it needs them, and with each % doubled, as most keywords that take a path expand
// those. What ${ would expand to cannot be written otherwise.
func QuotePath(path string) (string, error) {
	if strings.ContainsAny(path, "\n\r\x00") || strings.Contains(path, "${") {
		return "", fmt.Errorf("the configuration of ssh(1) has no way to write the path %q: use one without line breaks and without ${", path)
	}
	path = strings.ReplaceAll(path, "%", "%%")
	if !strings.ContainsAny(path, " \t\"'\\#=") {
		return path, nil
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(path) + `"`, nil
}

// quoteCommand writes a command for ProxyCommand, which takes the rest of the
// line, expands % and gives it to the user's shell.
func quoteCommand(argv []string) (string, error) {
	words := make([]string, len(argv))
	for i, arg := range argv {
		if strings.ContainsAny(arg, "\n\r\x00") {
			return "", fmt.Errorf("the configuration of ssh(1) has no way to write %q: use a path without line breaks", arg)
		}
		words[i] = strings.ReplaceAll(ShellQuote(arg), "%", "%%")
	}
	return strings.Join(words, " "), nil
}

// ShellQuote writes s as one word for a shell of POSIX.1-2017 (XCU, 2.2), and for
// most others that a user may have, such as fish and csh.
func ShellQuote(s string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("/._-+,:@%", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
