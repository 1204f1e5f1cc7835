//go:build linux

package sshd

import (
	"cmp"
	"fmt"
	"path"

	"golang.org/x/crypto/ssh"

	"bake/internal/agent/container"
	"bake/internal/wire"
)

// The roles of the agent's executable that work in the container.
const (
	roleSFTP    = "sftp"
	roleArchive = "archive"
)

// A job is a program of a session.
type job struct {
	container.ExecConfig
	// lingers says that the session goes on while anything that the program left
	// behind holds its output open, as sshd(8) has it. Otherwise it ends with the
	// program, as docker-exec(1) does.
	lingers bool
	// detached says that it goes on when the session ends, which is at once.
	detached bool
}

// jobFor says what a request asks to run.
func (s *session) jobFor(r *ssh.Request) (job, error) {
	l := s.conn.login
	switch r.Type {
	case "shell":
		return s.login(container.ExecConfig{Path: l.Shell, Args: []string{"-" + path.Base(l.Shell)}}), nil
	case "exec":
		var line oneString
		if err := ssh.Unmarshal(r.Payload, &line); err != nil {
			return job{}, err
		}
		return s.login(container.ExecConfig{Path: l.Shell, Args: []string{path.Base(l.Shell), "-c", line.Text}}), nil
	case "subsystem":
		var name oneString
		if err := ssh.Unmarshal(r.Payload, &name); err != nil {
			return job{}, err
		}
		if name.Text != "sftp" {
			return job{}, fmt.Errorf("there is no subsystem %.64q", name.Text)
		}
		return s.login(container.ExecConfig{Role: roleSFTP}), nil
	case wire.RequestExec:
		return s.execJob(r.Payload)
	default:
		return s.archiveJob(r.Payload)
	}
}

// login completes what runs as the user who logged in, as sshd(8) does it
// ("LOGIN PROCESS").
func (s *session) login(cfg container.ExecConfig) job {
	l := s.conn.login
	cfg.As = &l.Account
	cfg.Cwd, cfg.AnyCwd = l.Home, true
	cfg.Env = append(cfg.Env, s.env...)
	cfg.Env = append(cfg.Env,
		"HOME="+l.Home, "USER="+l.Name, "LOGNAME="+l.Name, "SHELL="+l.Shell,
		// sshd's words for a client that came by no network that it knows.
		"SSH_CLIENT=UNKNOWN 65535 65535", "SSH_CONNECTION=UNKNOWN 65535 UNKNOWN 65535",
	)
	cfg.Env = append(cfg.Env, s.sessionEnv()...)
	return job{ExecConfig: s.withTerminal(cfg), lingers: true}
}

// execJob is a program by its arguments, as docker-exec(1) runs it.
func (s *session) execJob(payload []byte) (job, error) {
	r, err := decodeExec(payload)
	if err != nil {
		return job{}, err
	}
	cfg := container.ExecConfig{Args: r.Args, Cwd: r.Cwd, User: r.User}
	cfg.Env = append(cfg.Env, s.sessionEnv()...)
	cfg.Env = append(cfg.Env, s.env...)
	cfg.Env = append(cfg.Env, r.Env...)
	if r.Detach {
		return job{ExecConfig: cfg, detached: true}, nil
	}
	return job{ExecConfig: s.withTerminal(cfg)}, nil
}

func (s *session) archiveJob(payload []byte) (job, error) {
	text, err := decodeArchive(payload)
	if err != nil {
		return job{}, err
	}
	return job{ExecConfig: container.ExecConfig{Role: roleArchive, Args: []string{text}, User: "0:0", Cwd: "/"}}, nil
}

func (s *session) sessionEnv() []string {
	var env []string
	if s.pty != nil {
		env = append(env, "TERM="+cmp.Or(s.pty.Term, "dumb"))
	}
	if s.agent != nil {
		env = append(env, "SSH_AUTH_SOCK="+s.agent.path)
	}
	return env
}

func (s *session) withTerminal(cfg container.ExecConfig) container.ExecConfig {
	if s.pty != nil {
		cfg.Terminal = true
		cfg.Rows, cfg.Cols = size(s.pty.Rows, s.pty.Cols)
		cfg.SetUp = s.setUpTerminal
	}
	return cfg
}
