package app

import (
	"errors"
	"fmt"
	"os"

	"bake/internal/ext4"
	"bake/internal/platform"
)

// A workspace is what one run needs on the host's file systems: a private
// directory for sockets, and the ephemeral disk, which has no name. A killed
// app leaves the directory, and the next start of any app sweeps it.
type workspace struct {
	dir       *platform.RunDir
	ephemeral *os.File
}

// newWorkspace makes both and puts them into pl.
func newWorkspace(pl *plan) (*workspace, error) {
	// What others left is no reason not to run.
	_, _ = platform.Sweep()
	dir, err := platform.NewRunDir()
	if err != nil {
		return nil, err
	}
	pl.config.Dir = dir.Path()
	ws := &workspace{dir: dir}
	if ws.ephemeral, err = ephemeralFile(pl); err != nil {
		ws.close()
		return nil, err
	}
	if err := ext4.Format(ws.ephemeral, pl.ephemeralSize(), ext4.Options{Label: "bake-ephemeral"}); err != nil {
		ws.close()
		return nil, fmt.Errorf("format the ephemeral disk: %w", err)
	}
	return ws, nil
}

// ephemeralFile makes the ephemeral disk's file and puts it into pl.
func ephemeralFile(pl *plan) (*os.File, error) {
	f, err := platform.EphemeralFile("", pl.ephemeralSize())
	if err != nil {
		return nil, err
	}
	pl.config.Disks[1].Resource.File = f
	return f, nil
}

func (w *workspace) close() error {
	var err error
	if w.ephemeral != nil {
		err = w.ephemeral.Close()
	}
	return errors.Join(err, w.dir.Close())
}
