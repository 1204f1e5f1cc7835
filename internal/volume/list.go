package volume

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// Info is one named volume.
type Info struct {
	Name string `json:"name"`
	// Path is its file on this host.
	Path string `json:"path"`
	// Size is what it can hold, with the filesystem's own, in bytes; Used is
	// what it takes of this host's disk.
	Size int64 `json:"size"`
	Used int64 `json:"used"`
	// Created is when its filesystem was made.
	Created time.Time `json:"created,omitzero"`
	// InUse is by whom, such as "pg (process 1234)", where the host tells.
	InUse string `json:"inUse,omitempty"`
	// Problem says why no app can use it.
	Problem string `json:"problem,omitempty"`
}

// List describes all volumes, in the order of their names.
func (s *Store) List() ([]Info, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the volumes: %w", err)
	}
	var list []Info
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok || CheckName(name) != nil {
			continue
		}
		info, err := s.Inspect(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		list = append(list, info)
	}
	return list, nil
}

// Inspect describes one volume. The error is fs.ErrNotExist if there is none of
// that name.
func (s *Store) Inspect(name string) (Info, error) {
	info, err := s.inspect(name)
	if err != nil {
		return Info{}, fmt.Errorf("the volume %s: %w", name, err)
	}
	return info, nil
}

func (s *Store) inspect(name string) (Info, error) {
	if err := CheckName(name); err != nil {
		return Info{}, err
	}
	info := Info{Name: name, Path: s.Path(name)}
	var st unix.Stat_t
	if err := unix.Stat(info.Path, &st); errors.Is(err, fs.ErrNotExist) {
		return Info{}, errMissing
	} else if err != nil {
		return Info{}, err
	}
	info.Size, info.Used = st.Size, st.Blocks*512
	f, err := os.OpenFile(info.Path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		info.Problem = "you may not read it"
		return info, nil
	}
	defer f.Close()
	// No lock is taken, not for a moment: an app that starts now gets it.
	if h := lockHolder(f); h.pid != 0 {
		info.InUse = h.String()
	}
	super, err := readSuperblock(f, st.Size)
	if err != nil {
		info.Problem = err.Error()
		return info, nil
	}
	info.Created = super.made
	return info, nil
}

// PrintList writes volumes as a table.
func PrintList(w io.Writer, list []Info) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "no volumes; 'bake volume create NAME' makes one, and so does an app that is started with -v NAME:/path")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tSIZE\tON DISK\tIN USE BY")
	for _, v := range list {
		by := v.InUse
		if by == "" {
			by = "-"
		}
		if v.Problem != "" {
			by = "broken: " + v.Problem
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", v.Name, FormatSize(v.Size), FormatSize(v.Used), by)
	}
	return table.Flush()
}

// PrintJSON writes volumes as a JSON array.
func PrintJSON(w io.Writer, list []Info) error {
	if list == nil {
		list = []Info{}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(list)
}
