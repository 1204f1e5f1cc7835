package builder

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"bake/internal/initrd"
	"bake/internal/kernel"
	"bake/internal/payload"
)

// initrdAlign is what the kernel wants between two archives of one initramfs
// (Documentation/driver-api/early-userspace/buffer-format.rst).
const initrdAlign = 4

// initrdSource is the base initrd with the kernel's modules, if it has any, as
// a second archive behind it.
func initrdSource(path string, k *kernel.Bundle) (payload.Source, error) {
	base, err := payload.FileSource(payload.PartInitrd, path)
	if err != nil {
		return payload.Source{}, err
	}
	if len(k.Modules) == 0 {
		return base, nil
	}
	var modules bytes.Buffer
	if err := writeModules(&modules, k); err != nil {
		return payload.Source{}, fmt.Errorf("pack the modules of kernel %s: %w", k.Version, err)
	}
	pad := (initrdAlign - base.Size%initrdAlign) % initrdAlign
	return payload.Source{
		Name: payload.PartInitrd,
		Size: base.Size + pad + int64(modules.Len()),
		Open: func() (io.ReadCloser, error) {
			f, err := os.Open(path)
			if err != nil {
				return nil, err
			}
			return struct {
				io.Reader
				io.Closer
			}{io.MultiReader(f, bytes.NewReader(make([]byte, pad)), bytes.NewReader(modules.Bytes())), f}, nil
		},
	}, nil
}

func writeModules(w io.Writer, k *kernel.Bundle) error {
	var modules []initrd.Module
	for i, m := range k.Modules {
		r, _, err := k.OpenModule(i)
		if err != nil {
			return err
		}
		defer r.Close()
		modules = append(modules, initrd.Module{Name: m.Name, Data: r, Feature: m.Feature})
	}
	return initrd.WriteModules(w, modules)
}
