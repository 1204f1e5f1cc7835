package inspect

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"bake/internal/payload"
)

// Print writes the report for people. Nothing from the app reaches a terminal as a control character.
func (r Report) Print(w io.Writer) error {
	// tabwriter keeps the first error and returns it from Flush.
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(tw, "%s\t%s\n", name, value)
		}
	}
	row("app", plain(r.Path))
	row("size", size(r.Size))
	row("carrier", fmt.Sprintf("%s, payload at %d", r.Carrier, r.Payload.Offset))
	if r.Manifest != nil {
		printManifest(row, r.Manifest)
	}
	fmt.Fprintln(tw)
	if err := tw.Flush(); err != nil {
		return err
	}
	tw = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "PART\tSIZE\tOFFSET\tSHA-256")
	for _, p := range r.Parts {
		fmt.Fprintf(tw, "%s\t%s\t%d\t%s\n", p.Name, size(p.Size), p.Offset, p.SHA256)
	}
	return tw.Flush()
}

func printManifest(row func(name, value string), m *payload.Manifest) {
	row("target", m.Target.OS+"/"+m.Target.Arch)
	row("built by", strings.TrimSpace("bake "+plain(m.BakeVersion)))
	row("image", plain(m.Image.Ref))
	row("digest", m.Image.Digest)
	if n := len(m.Image.Layers); n > 0 {
		row("layers", strconv.Itoa(n))
	}
	row("rootfs", m.Rootfs.Type)
	row("kernel", described(m.Kernel.Version, m.Kernel.Source))
	row("vmm", strings.TrimSpace(m.VMM.Kind+" "+plain(m.VMM.Version)))

	p := m.Process
	row("entrypoint", words(p.Entrypoint))
	row("command", words(p.Cmd))
	row("arguments", words(p.Args))
	for _, v := range p.Env {
		row("env", plain(v))
	}
	row("cwd", plain(p.Cwd))
	row("user", plain(p.User))
	row("uid", number(p.UID))
	row("gid", number(p.GID))
	row("stop signal", p.StopSignal)
	row("ports", strings.Join(p.ExposedPorts, " "))
	for _, key := range slices.Sorted(maps.Keys(p.Labels)) {
		row("label", plain(key+"="+p.Labels[key]))
	}

	d := m.Defaults
	row("cpus", given(d.CPUs, ""))
	row("memory", given(d.MemoryMiB, " MiB"))
	row("ephemeral disk", given(d.EphemeralDiskMiB, " MiB"))
	row("boot args", plain(d.BootArgs))
	row("hypervisor", d.Hypervisor)

	n := m.Network
	for _, rule := range n.Allow {
		row("allow net", plain(rule))
	}
	for _, rule := range n.Deny {
		row("deny net", plain(rule))
	}
	row("host loopback", said(n.HostLoopback, "allowed"))
	row("network", said(n.Disabled, "disabled"))
}

func described(what, from string) string {
	if from == "" {
		return plain(what)
	}
	return strings.TrimSpace(fmt.Sprintf("%s (%s)", plain(what), plain(from)))
}

func given(n int, unit string) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n) + unit
}

func said(yes bool, word string) string {
	if yes {
		return word
	}
	return ""
}

func number(n *uint32) string {
	if n == nil {
		return ""
	}
	return strconv.FormatUint(uint64(*n), 10)
}

// words shows an argument vector so that each word can be told from the next.
func words(argv []string) string {
	quoted := make([]string, len(argv))
	for i, s := range argv {
		if quoted[i] = plain(s); s == "" || strings.ContainsAny(s, " \"'\\") {
			quoted[i] = strconv.Quote(s)
		}
	}
	return strings.Join(quoted, " ")
}

// plain returns s as it is where that is harmless, else quoted: escape sequences of a terminal, line breaks
// and tabs come from the image's author.
func plain(s string) string {
	for _, c := range s {
		if !strconv.IsPrint(c) {
			return strconv.Quote(s)
		}
	}
	return s
}

// size shows bytes in the largest binary unit of which there is at least one.
func size(n int64) string {
	unit, name := int64(1), "B"
	for _, u := range []struct {
		size int64
		name string
	}{{1 << 10, "KiB"}, {1 << 20, "MiB"}, {1 << 30, "GiB"}} {
		if n >= u.size {
			unit, name = u.size, u.name
		}
	}
	if unit == 1 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", float64(n)/float64(unit), name)
}
