//go:build linux

package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"bake/internal/archive"
	"bake/internal/wire"
)

func archiveMain(args []string) error {
	if len(args) != 1 || len(args[0]) > wire.SessionLimit {
		return errors.New("the role archive takes one request")
	}
	var req wire.ArchiveRequest
	if err := json.Unmarshal([]byte(args[0]), &req); err != nil {
		return fmt.Errorf("understand what to do with the container's files: %w", err)
	}
	return Archive(context.Background(), req, os.Stdin, os.Stdout, os.Stderr)
}

// Archive does what a request asks for. What is only a pity goes to warnings, a
// line each.
func Archive(ctx context.Context, req wire.ArchiveRequest, in io.Reader, out, warnings io.Writer) error {
	// The root is where relative names begin, as for docker cp.
	name := "/" + strings.TrimLeft(req.Path, "/")
	warn := warner(warnings)
	var err error
	switch req.Op {
	case wire.ArchivePack:
		err = archive.Pack(ctx, out, name, archive.PackOptions{
			Name: wire.ArchiveBase(req.Path), FollowLink: req.FollowLink, Warn: warn,
		})
	case wire.ArchiveUnpack:
		err = archive.Unpack(ctx, archive.NewReader(in), name, archive.UnpackOptions{Owners: req.Owners, Warn: warn})
	case wire.ArchiveStat:
		var info wire.ArchiveInfo
		if info, err = stat(name, req.FollowLink); err == nil {
			err = json.NewEncoder(out).Encode(info)
		}
	default:
		return fmt.Errorf("this agent cannot %.32q files", req.Op)
	}
	if missing(err, name) {
		return fmt.Errorf("there is no %s in the container", name)
	}
	return err
}

// missing says whether err is about the very file that was asked for.
func missing(err error, name string) bool {
	var p *fs.PathError
	return errors.As(err, &p) && errors.Is(p.Err, fs.ErrNotExist) && p.Path == name
}

// maxWarnings bounds what is told of a copy.
const maxWarnings = 20

// warner writes the first warnings, and that there are more.
func warner(w io.Writer) func(error) {
	n := 0
	return func(err error) {
		switch n++; {
		case n <= maxWarnings:
			fmt.Fprintln(w, err)
		case n == maxWarnings+1:
			fmt.Fprintln(w, "there is more of this kind")
		}
	}
}

func stat(name string, follow bool) (wire.ArchiveInfo, error) {
	f := os.Lstat
	if follow {
		f = os.Stat
	}
	st, err := f(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return wire.ArchiveInfo{}, nil
	}
	if err != nil {
		return wire.ArchiveInfo{}, err
	}
	info := wire.ArchiveInfo{
		Exists: true, Name: path.Base(name), Dir: st.IsDir(),
		Mode: st.Sys().(*syscall.Stat_t).Mode, Size: st.Size(),
	}
	if st.Mode()&fs.ModeSymlink != 0 {
		info.Target, err = os.Readlink(name)
	}
	return info, err
}
