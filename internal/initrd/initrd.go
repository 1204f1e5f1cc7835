package initrd

import (
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
)

// fileLimit bounds one file of the initrd, in bytes. All of it is in the
// guest's memory.
const fileLimit = 512 << 20

// Options are the parts of an initrd.
type Options struct {
	// Agent is bake-agent, built for the guest; it becomes /init.
	Agent io.Reader
	// Runc is a static runc; it becomes /bin/runc.
	Runc io.Reader
	// Modules are loaded in this order. It may be empty.
	Modules []Module
}

// A Module is a kernel module, not compressed.
type Module struct {
	// Name is the module's file name without .ko, such as virtio_blk.
	Name string
	Data io.Reader
	// Feature, if not empty, is what the module is for: the agent loads it only
	// when it is told to use that.
	Feature string
}

// directories are the places that the agent mounts something at, besides
// those of the files.
var directories = []string{"bin", "dev", "ephemeral", "proc", "rootfs", "rootfs.base", "run", "sys", "tmp"}

// Write writes a whole initrd.
func Write(w io.Writer, o Options) error {
	if o.Agent == nil || o.Runc == nil {
		return errors.New("an initrd needs the agent and runc")
	}
	agent, err := read("bake-agent", o.Agent)
	if err != nil {
		return err
	}
	runc, err := read("runc", o.Runc)
	if err != nil {
		return err
	}
	var entries []entry
	for _, d := range directories {
		entries = append(entries, entry{name: d, mode: modeDir | 0o755})
	}
	entries = append(entries,
		entry{name: "bin/runc", mode: modeFile | 0o755, data: runc},
		// PID 1's own streams: the kernel opens the console for it and, where
		// there is none, the Go runtime opens null.
		entry{name: "dev/console", mode: modeChar | 0o600, major: 5, minor: 1},
		entry{name: "dev/null", mode: modeChar | 0o666, major: 1, minor: 3},
		entry{name: "init", mode: modeFile | 0o755, data: agent},
	)
	modules, err := moduleEntries(o.Modules)
	if err != nil {
		return err
	}
	return archive(w, append(entries, modules...))
}

// WriteModules writes an archive of modules alone. The kernel unpacks archives
// that follow each other in one initrd, so it can be appended to what Write
// wrote without Modules.
func WriteModules(w io.Writer, modules []Module) error {
	entries, err := moduleEntries(modules)
	if err != nil {
		return err
	}
	return archive(w, entries)
}

var moduleName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$`)

var featureName = regexp.MustCompile(`^[a-z0-9]{0,20}$`)

// maxModules keeps the lexical order of the numbers, which the agent goes by.
const maxModules = 1000

func moduleEntries(modules []Module) ([]entry, error) {
	if len(modules) == 0 {
		return nil, nil
	}
	if len(modules) > maxModules {
		return nil, fmt.Errorf("an initrd takes at most %d kernel modules, not %d", maxModules, len(modules))
	}
	entries := []entry{{name: "modules", mode: modeDir | 0o755}}
	made := map[string]bool{"": true}
	for i, m := range modules {
		if !moduleName.MatchString(m.Name) {
			return nil, fmt.Errorf("%q is no kernel module's name", m.Name)
		}
		if !featureName.MatchString(m.Feature) {
			return nil, fmt.Errorf("%q is no name of a feature that kernel modules are for", m.Feature)
		}
		dir := path.Join("modules", m.Feature)
		if !made[m.Feature] {
			made[m.Feature] = true
			entries = append(entries, entry{name: dir, mode: modeDir | 0o755})
		}
		data, err := read("the kernel module "+m.Name, m.Data)
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry{name: fmt.Sprintf("%s/%03d-%s.ko", dir, i, m.Name), mode: modeFile | 0o644, data: data})
	}
	return entries, nil
}

func read(what string, r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, fileLimit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s for the initrd: %w", what, err)
	case len(b) == 0:
		return nil, fmt.Errorf("read %s for the initrd: it is empty", what)
	case len(b) > fileLimit:
		return nil, fmt.Errorf("read %s for the initrd: it is longer than %d bytes", what, fileLimit)
	}
	return b, nil
}
