package app

import (
	"context"
	"encoding/json"
	"io"

	"bake/internal/hypervisor"
	"bake/internal/wire"
)

// describe prints the VM that a run would make.
func describe(ctx context.Context, driver hypervisor.Driver, pl *plan, w io.Writer) error {
	ephemeral, err := ephemeralFile(pl)
	if err != nil {
		return err
	}
	defer ephemeral.Close()
	v := &volumes{}
	defer v.close()
	if err := v.openDisks(pl, showDisk); err != nil {
		return err
	}
	if err := v.showShares(pl); err != nil {
		return err
	}
	machine, err := driver.Describe(ctx, pl.config)
	if err != nil {
		return err
	}
	d := struct {
		hypervisor.Description
		Volumes []wire.Volume `json:"volumes,omitempty"`
	}{machine, pl.manifest.Volumes}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(d)
}
