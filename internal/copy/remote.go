package copy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"bake/internal/wire"
)

// A Remote does with files of a container what a request says, and returns when
// that is done: wire.ArchivePack and wire.ArchiveStat write to out,
// wire.ArchiveUnpack reads in to its end. It closes in when it wants no more. An
// error of in or out is returned as it is; another is the container's sentence, and
// warn is told what else it says. sshclient.Archive is one.
type Remote func(ctx context.Context, r wire.ArchiveRequest, in io.ReadCloser, out io.Writer, warn func(string)) error

// statLimit bounds what a container answers to wire.ArchiveStat, in bytes.
const statLimit = 64 << 10

// stat asks what is at a path of the container, following its symbolic links to
// their end as [localShape] does.
func (r Remote) stat(ctx context.Context, name string) (shape, error) {
	s := shape{path: name}
	for range maxLinks {
		var answer limited
		nothing := io.NopCloser(strings.NewReader(""))
		if err := r(ctx, wire.ArchiveRequest{Op: wire.ArchiveStat, Path: s.path}, nothing, &answer, func(string) {}); err != nil {
			return s, err
		}
		var info wire.ArchiveInfo
		if err := json.Unmarshal(answer.Bytes(), &info); err != nil {
			return s, fmt.Errorf("the container does not say what %s is: %w", name, err)
		}
		if info.Target == "" {
			s.exists, s.dir = info.Exists, info.Dir
			return s, nil
		}
		s.path = follow(s.path, info.Target)
	}
	return s, fmt.Errorf("%s leads through too many symbolic links in the container", name)
}

// limited takes an answer of at most statLimit bytes.
type limited struct{ bytes.Buffer }

func (l *limited) Write(b []byte) (int, error) {
	if l.Len()+len(b) > statLimit {
		return 0, errors.New("the container says more about a file than there is to say")
	}
	return l.Buffer.Write(b)
}
