package vmmbundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

const (
	indexName    = "bundle.json"
	indexVersion = 1
	maxIndex     = 1 << 20
	maxFiles     = 2048

	libDir, moduleDir, dataDir = "lib", "lib/qemu", "share/qemu"
)

// An Index is bundle.json: what the bundle holds and how it is started.
type Index struct {
	Format  int    `json:"format"`           // indexVersion
	Arch    string `json:"arch"`             // amd64 or arm64
	Version string `json:"version"`          // of QEMU, as it calls itself
	Entry   string `json:"entry"`            // the emulator's name in the bundle
	Loader  string `json:"loader,omitempty"` // the dynamic loader's; empty if the emulator is static
	Files   []File `json:"files"`            // all the others, in the order of the archive
}

// A File is one member of a bundle.
type File struct {
	Name       string `json:"name"` // slash-separated, relative
	Size       int64  `json:"size"` // bytes
	Executable bool   `json:"executable,omitempty"`
}

func (x *Index) encode() ([]byte, error) {
	if err := x.validate(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(x)
	if err == nil && len(b) > maxIndex {
		err = fmt.Errorf("%s is longer than %d bytes", indexName, maxIndex)
	}
	return b, err
}

func decodeIndex(b []byte) (*Index, error) {
	if len(b) > maxIndex {
		return nil, fmt.Errorf("%s is longer than %d bytes", indexName, maxIndex)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	x := new(Index)
	if err := dec.Decode(x); err != nil {
		return nil, fmt.Errorf("%s is not as bake writes it: %w", indexName, err)
	}
	if err := x.validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", indexName, err)
	}
	return x, nil
}

func (x *Index) validate() error {
	if x.Format != indexVersion {
		return fmt.Errorf("format %d is unknown, this bake knows %d", x.Format, indexVersion)
	}
	if len(x.Files) > maxFiles {
		return fmt.Errorf("%d files are more than %d", len(x.Files), maxFiles)
	}
	names := map[string]bool{indexName: true}
	for _, f := range x.Files {
		if !validName(f.Name) || f.Size < 0 {
			return fmt.Errorf("a file cannot be named %.80q or be %d bytes long", f.Name, f.Size)
		}
		if names[f.Name] {
			return fmt.Errorf("two files are named %q", f.Name)
		}
		names[f.Name] = true
	}
	if !names[x.Entry] || x.Entry == indexName {
		return fmt.Errorf("the emulator, %.80q, is not among the files", x.Entry)
	}
	if x.Loader != "" && (!names[x.Loader] || x.Loader == indexName) {
		return fmt.Errorf("the dynamic loader, %.80q, is not among the files", x.Loader)
	}
	if len(x.Version) > 256 {
		return errors.New("the version is longer than 256 bytes")
	}
	return nil
}

// validName accepts names that mean the same everywhere and stay within the bundle.
func validName(name string) bool {
	return len(name) <= 255 && fs.ValidPath(name) && name != "." && !strings.ContainsAny(name, "\\\x00")
}
