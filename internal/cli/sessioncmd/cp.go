package sessioncmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"bake/internal/app"
	"bake/internal/copy"
	"bake/internal/platform"
	"bake/internal/sshclient"
	"bake/internal/wire"
)

// codeNotCopied is docker-cp(1)'s exit code of a copy that failed.
const codeNotCopied = 1

func (v *verbs) newCp() *cobra.Command {
	var (
		t     target
		o     copy.Options
		quiet bool
	)
	cmd := &cobra.Command{
		Use:   "cp [flags] SRC DST",
		Short: "Copy files into a running container or out of it",
		Long: "Copy files into a running container or out of it, as docker cp does. One of SRC and DST is a path\n" +
			"of this host, the other NAME:PATH, or :PATH where only one instance runs. A path in the container\n" +
			"begins at its root.\n\n" +
			"A directory is copied with all in it, into DST if that is a directory and as DST if there is\n" +
			"nothing; with /. at its end only what is in it is. - is a tar stream: as SRC it is unpacked into\n" +
			"the directory DST, as DST it is what SRC becomes.",
		Example:               "  cp web:/etc/nginx .\n  cp page.html web:/var/www/\n  cp web:/data - | tar t\n  tar c . | cp - web:/srv",
		Args:                  cobra.ExactArgs(2),
		DisableFlagsInUseLine: true,
	}
	fs := cmd.Flags()
	fs.BoolVarP(&o.Owners, "archive", "a", false, "keep numeric owners; without it files belong to root, or to you")
	fs.BoolVarP(&o.FollowLink, "follow-link", "L", false, "copy what SRC leads to if it is a symbolic link")
	fs.BoolVarP(&quiet, "quiet", "q", false, "show no progress, which only a terminal shows")
	t.register(cmd, v.scope)
	cmd.ValidArgsFunction = nil // paths, which the shell completes
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		src, err := copy.ParseLocation(args[0])
		if err != nil {
			return err
		}
		dst, err := copy.ParseLocation(args[1])
		if err != nil {
			return err
		}
		if err := t.ofLocations(src, dst); err != nil {
			return err
		}
		if dst.Path == "-" && sshclient.IsTerminal(v.stdio.Stdout) {
			return errors.New("a tar stream does not go to a terminal: redirect it, or put | tar t behind it")
		}
		// The pieces of a file that is cut off are removed before we end.
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
		defer stop()
		client, err := dial(ctx, v.query(t))
		if err != nil {
			return err
		}
		defer client.Close()
		remote := func(ctx context.Context, r wire.ArchiveRequest, in io.ReadCloser, out io.Writer, warn func(string)) error {
			return sshclient.Archive(ctx, client, r, in, out, warn)
		}
		o.Warn = func(s string) { fmt.Fprintf(v.stdio.Stderr, "bake: %s\n", s) }
		if !quiet && sshclient.IsTerminal(v.stdio.Stderr) {
			p := startProgress(v.stdio.Stderr)
			defer p.end()
			o.Copied = p.add
		}
		if err := v.copy(ctx, remote, src.Path, dst.Path, dst.Remote, o); err != nil {
			return &app.Error{Code: codeNotCopied, Err: err}
		}
		return nil
	}
	return cmd
}

func (v *verbs) copy(ctx context.Context, remote copy.Remote, src, dst string, in bool, o copy.Options) error {
	switch {
	case in && src == "-":
		r, err := platform.NewCancelReader(v.stdio.Stdin)
		if err != nil {
			return err
		}
		defer r.Close()
		return copy.Write(ctx, remote, cancelCloser{r}, dst, o)
	case in:
		return copy.To(ctx, remote, src, dst, o)
	case dst == "-":
		return copy.Read(ctx, remote, src, v.stdio.Stdout, o)
	}
	return copy.From(ctx, remote, src, dst, o)
}

// A cancelCloser is our input, which is not ours to close.
type cancelCloser struct{ *platform.CancelReader }

func (c cancelCloser) Close() error {
	c.Cancel()
	return nil
}

// ofLocations is the instance that the paths name.
func (t *target) ofLocations(src, dst copy.Location) error {
	switch {
	case src.Remote && dst.Remote:
		return errors.New("both paths are in a container: copy to this host first, or pipe one cp NAME:PATH - into another")
	case !src.Remote && !dst.Remote:
		return errors.New("neither path is in a container: write one as NAME:PATH, or as :PATH where only one instance runs")
	}
	name := src.Instance + dst.Instance // one of them is of this host
	if name == "" {
		return nil
	}
	if t.name != "" && t.name != name {
		return fmt.Errorf("%s: and --name %s are two instances: leave one out", name, t.name)
	}
	t.name = name
	return nil
}

// progress is a line of a terminal that says how much was copied.
type progress struct {
	w     *os.File
	bytes int64
	shown int64
}

// progressStep is after how many bytes the line is written again.
const progressStep = 1 << 20

func startProgress(w *os.File) *progress { return &progress{w: w} }

func (p *progress) add(n int) {
	p.bytes += int64(n)
	if p.bytes-p.shown >= progressStep {
		p.shown = p.bytes
		fmt.Fprintf(p.w, "\rcopied %d MiB ", p.bytes>>20)
	}
}

// end wipes the line.
func (p *progress) end() {
	if p.shown > 0 {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
