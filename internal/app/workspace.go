package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"bake/internal/ext4"
	"bake/internal/platform"
)

// A workspace is what one boot needs on the host's file systems: a directory for
// sockets in that of the instance, and the ephemeral disk, which has no name.
type workspace struct {
	dir       string
	ephemeral *os.File
}

// newWorkspace makes both and puts them into pl.
func newWorkspace(pl *plan, instance *platform.RunDir) (*workspace, error) {
	ws := &workspace{dir: filepath.Join(instance.Path(), "vm")}
	if err := os.Mkdir(ws.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a directory for the VM's sockets: %w", err)
	}
	pl.config.Dir = ws.dir
	var err error
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
	return errors.Join(err, os.RemoveAll(w.dir))
}
