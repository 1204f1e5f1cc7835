package copy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"golang.org/x/crypto/ssh"

	"bake/internal/wire"
)

// A Remote does with files of a container what a request says: wire.ArchivePack
// and wire.ArchiveStat write to out, wire.ArchiveUnpack reads in to its end. It
// returns when that is done; the error is the container's sentence. warn is told
// what the container says of files that it left out.
type Remote interface {
	Archive(ctx context.Context, req wire.ArchiveRequest, in io.Reader, out io.Writer, warn func(string)) error
}

// SSH is the container behind a connection to its SSH server.
func SSH(client *ssh.Client) Remote { return sshRemote{client} }

type sshRemote struct{ client *ssh.Client }

// What a container may say of a request, in bytes.
const (
	errorLimit = 16 << 10
	statLimit  = 64 << 10
)

func (r sshRemote) Archive(ctx context.Context, req wire.ArchiveRequest, in io.Reader, out io.Writer, warn func(string)) error {
	payload, err := json.Marshal(req)
	if err != nil {
		return err
	}
	if len(payload) > wire.SessionLimit {
		return fmt.Errorf("the path is %d bytes long, which no file's can be", len(req.Path))
	}
	session, err := r.client.NewSession()
	if err != nil {
		return fmt.Errorf("open a session in the container: %w", err)
	}
	defer session.Close()
	stop := context.AfterFunc(ctx, func() { session.Close() })
	defer stop()
	said := &head{limit: errorLimit}
	session.Stdin, session.Stdout, session.Stderr = in, out, said
	err = start(session, payload)
	if err == nil {
		err = session.Wait()
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	return outcome(err, said.String(), warn)
}

// start sends the request in the place of "exec" (section 6.5 of RFC 4254).
func start(session *ssh.Session, payload []byte) error {
	return startRequest(session, wire.RequestArchive, payload)
}

// outcome is what the last line says if the request failed; all other lines are
// warnings.
func outcome(err error, said string, warn func(string)) error {
	lines := strings.FieldsFunc(said, func(r rune) bool { return r == '\n' })
	last := ""
	var exit *ssh.ExitError
	if errors.As(err, &exit) && len(lines) > 0 {
		last = lines[len(lines)-1]
		lines = lines[:len(lines)-1]
	}
	for _, line := range lines {
		warn(printable(line))
	}
	switch {
	case err == nil:
		return nil
	case last != "":
		return errors.New(printable(last))
	case exit != nil:
		return fmt.Errorf("the container's side of the copy ended with %d and did not say why", exit.ExitStatus())
	}
	return fmt.Errorf("the container's side of the copy was lost: %w", err)
}

// printable is a container's text without what moves a terminal's cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// A head keeps the first bytes that are written to it, and takes all.
type head struct {
	bytes.Buffer
	limit int
}

func (h *head) Write(b []byte) (int, error) {
	h.Buffer.Write(b[:min(len(b), h.limit-h.Len())])
	return len(b), nil
}

// stat asks what is at a path of the container, following its symbolic links to
// their end as [localShape] does.
func stat(ctx context.Context, r Remote, name string) (shape, error) {
	s := shape{path: name}
	for range maxLinks {
		out := &head{limit: statLimit}
		err := r.Archive(ctx, wire.ArchiveRequest{Op: wire.ArchiveStat, Path: s.path}, strings.NewReader(""), out, func(string) {})
		if err != nil {
			return s, err
		}
		var info wire.ArchiveInfo
		if err := json.Unmarshal(out.Bytes(), &info); err != nil {
			return s, fmt.Errorf("the container does not say what %s is: %w", name, err)
		}
		if info.Target == "" || len(info.Target) > 4096 {
			s.exists, s.dir = info.Exists, info.Dir
			return s, nil
		}
		s.path = follow(s.path, info.Target)
	}
	return s, fmt.Errorf("%s leads through too many symbolic links in the container", name)
}
