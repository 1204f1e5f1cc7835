package sshclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode"

	"golang.org/x/crypto/ssh"

	"bake/internal/wire"
)

// saidLimit bounds what the guest may say about a copy, in bytes.
const saidLimit = 16 << 10

// Archive does with files of the container what r says, and returns when that is
// done. [wire.ArchivePack] and [wire.ArchiveStat] write to out, [wire.ArchiveUnpack]
// reads in to its end. in is closed when no more of it is wanted, and Read has to
// return then. An error of in or out ends the copy and is returned; otherwise an
// error is the guest's sentence, and warn is told its others.
func Archive(ctx context.Context, client *ssh.Client, r wire.ArchiveRequest, in io.ReadCloser, out io.Writer, warn func(string)) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer in.Close()
	request, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode what to copy: %w", err)
	}
	if len(request) > wire.SessionLimit {
		return fmt.Errorf("a path of %d bytes is longer than any file's", len(r.Path))
	}
	channel, requests, err := client.OpenChannel("session", nil)
	if err != nil {
		return fmt.Errorf("open a session in the guest: %w", err)
	}
	defer channel.Close()
	defer context.AfterFunc(ctx, func() { channel.Close() })()
	ended := make(chan end, 1)
	wg.Go(func() { ended <- readEnd(requests) })
	s := &session{channel: channel}
	if err := s.request(wire.RequestArchive, ssh.Marshal(struct{ JSON []byte }{request}), "copies no files"); err != nil {
		return err
	}

	source := &source{r: in}
	wg.Go(func() {
		if _, err := io.Copy(channel, source); err != nil && source.err != nil {
			channel.Close() // so that half of an archive is not taken for all of it
			return
		}
		channel.CloseWrite()
	})
	said := &firstBytes{limit: saidLimit}
	heard := make(chan struct{})
	wg.Go(func() {
		defer close(heard)
		_, _ = io.Copy(said, channel.Stderr())
	})
	if _, err := io.Copy(out, channel); err != nil {
		return err
	}
	<-heard
	e := <-ended
	in.Close()
	wg.Wait()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case source.err != nil && !e.known:
		return source.err
	}
	return outcome(e, said.String(), warn)
}

// outcome is what the last line says if the guest failed. All others are warnings.
func outcome(e end, said string, warn func(string)) error {
	lines := strings.FieldsFunc(said, func(r rune) bool { return r == '\n' || r == '\r' })
	for i, line := range lines {
		lines[i] = printable(line)
	}
	var err error
	switch n := len(lines); {
	case !e.known:
		err = ErrLost
	case e.code != 0 && n == 0:
		err = fmt.Errorf("the guest's side of the copy ended with %d and did not say why", e.code)
	case e.code != 0:
		err = errors.New(strings.TrimPrefix(lines[n-1], "bake: "))
		lines = lines[:n-1]
	}
	for _, line := range lines {
		warn(line)
	}
	return err
}

// printable is text of the guest without what a terminal does not print.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

// A source remembers why there is no more of it, if that is not its end.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// firstBytes keeps the first bytes of what is written to it, and takes all.
type firstBytes struct {
	bytes.Buffer
	limit int
}

func (f *firstBytes) Write(b []byte) (int, error) {
	f.Buffer.Write(b[:min(len(b), f.limit-f.Len())])
	return len(b), nil
}
