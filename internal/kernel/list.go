package kernel

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
)

// PrintList writes the bundles as a table: architecture, version, size of all files, number of modules, hash, source.
func PrintList(w io.Writer, bundles []*Bundle) error {
	if len(bundles) == 0 {
		_, err := fmt.Fprintln(w, "no kernels; 'make kernel' in bake's source tree compiles its own, 'bake kernel import VMLINUZ --modules DIR' takes your distribution's")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ARCH\tVERSION\tSIZE\tMODULES\tHASH\tSOURCE")
	for _, b := range bundles {
		size, err := b.Size()
		if err != nil {
			return err
		}
		fmt.Fprintf(table, "%s\t%s\t%.1f MB\t%d\t%s\t%s\n", b.Arch, b.Version, float64(size)/1e6, len(b.Modules), b.ID(), b.Source)
	}
	return table.Flush()
}

// PrintListJSON writes the bundles as a JSON array with what [PrintList] shows and the rest of their descriptions.
func PrintListJSON(w io.Writer, bundles []*Bundle) error {
	type entry struct {
		ID   string `json:"id"`
		Dir  string `json:"dir,omitempty"`
		Size int64  `json:"size"`
		Meta
	}
	list := make([]entry, 0, len(bundles))
	for _, b := range bundles {
		size, err := b.Size()
		if err != nil {
			return err
		}
		list = append(list, entry{ID: b.ID(), Dir: b.Dir, Size: size, Meta: b.Meta})
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(list)
}
