package sessioncmd

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"

	"bake/internal/instance"
	"bake/internal/sshclient"
)

// A builtinSSH is what the options of ssh(1) mean to the client of our own.
type builtinSSH struct {
	user                string
	forwards            []sshclient.Forward
	tty                 int // -T: negative; -t: once or more
	noCommand, noInput  bool
	forwardAgent, quiet bool
}

func newBuiltin(options []sshOption) (builtinSSH, error) {
	b := builtinSSH{user: loginUser}
	for _, o := range options {
		switch o.letter {
		case 'L', 'R', 'D':
			f, err := sshclient.ParseForward(sshclient.Direction(o.letter), o.operand)
			if err != nil {
				return b, err
			}
			b.forwards = append(b.forwards, f)
		case 'l':
			b.user = o.operand
		case 't':
			b.tty = max(b.tty, 0) + 1
		case 'T':
			b.tty = -1
		case 'N':
			b.noCommand = true
		case 'n':
			b.noInput = true
		case 'A':
			b.forwardAgent = true
		case 'a':
			b.forwardAgent = false
		case 'q':
			b.quiet = true
		case 'x', 'k', 'C', '4', '6':
			// What they ask for is so, or makes no difference here.
		default:
			return b, fmt.Errorf("the built-in client does not have the option -%c: install ssh(1), or leave it out", o.letter)
		}
	}
	return b, nil
}

// runBuiltin logs in without ssh(1).
func (v *verbs) runBuiltin(ctx context.Context, i instance.Instance, options []sshOption, command []string) (int, error) {
	b, err := newBuiltin(options)
	if err != nil {
		return 0, err
	}
	signals, stop := catchSignals()
	defer stop()
	client, err := sshclient.Dial(ctx, i, b.user)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer client.Close() // before Wait
	defer cancel()

	if err := sshclient.Open(ctx, &wg, client, b.forwards, v.tell(b)); err != nil {
		return 0, err
	}
	r := sshclient.Request{Line: strings.Join(command, " "), Term: v.variable("TERM"), Env: v.locale()}
	if own := v.variable("SSH_AUTH_SOCK"); b.forwardAgent && own != "" {
		if err := sshclient.ForwardAgent(ctx, &wg, client, own); err != nil {
			return 0, err
		}
		r.ForwardAgent = true
	}
	if b.noCommand {
		return v.await(client.Wait, signals)
	}
	std := sshclient.Streams{Stdin: v.stdio.Stdin, Stdout: v.stdio.Stdout, Stderr: v.stdio.Stderr}
	if b.noInput {
		std.Stdin = nil
	}
	// As ssh(1): a shell has a terminal if we have one, and a command if asked.
	switch typed := sshclient.IsTerminal(std.Stdin); {
	case b.tty > 1:
		r.Terminal = true
	case b.tty == 1:
		r.Terminal = typed
	case b.tty == 0:
		r.Terminal = typed && r.Line == ""
	}
	return sshclient.Run(ctx, client, r, std, signals)
}

// await carries forwarded ports alone, until the connection ends or somebody asks
// us to.
func (v *verbs) await(wait func() error, signals <-chan os.Signal) (int, error) {
	ended := make(chan error, 1)
	go func() { ended <- wait() }() // ends with the client, which the caller closes
	for {
		select {
		case err := <-ended:
			return 0, fmt.Errorf("the connection to the guest has ended: %w", err)
		case sig := <-signals:
			if code := endedBy(sig); code != 0 {
				return code, nil
			}
		}
	}
}

// tell prints what happens to forwarded ports.
func (v *verbs) tell(b builtinSSH) func(string) {
	if b.quiet {
		return nil
	}
	return func(line string) { fmt.Fprintf(v.stdio.Stderr, "bake: %s\n", line) }
}

// locale are the variables that ssh(1) sends by Debian's and others' configuration.
func (v *verbs) locale() []string {
	var env []string
	for _, kv := range v.stdio.Environ {
		if strings.HasPrefix(kv, "LANG=") || strings.HasPrefix(kv, "LC_") {
			env = append(env, kv)
		}
	}
	return env
}
