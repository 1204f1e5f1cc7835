package instancecmd

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"bake/internal/instance"
)

// A usageRow is what one instance uses.
type usageRow struct {
	instance.Instance
	err    error // it could not be measured
	sample sample
	// cpu and hostCPU are in percent of one CPU, and nil if there is nothing to
	// compare with.
	cpu, hostCPU *float64
}

// set makes a row of a measurement and the one before it, if there is one.
func (r *usageRow) set(now, before sample, ok bool) {
	r.sample = now
	if ok {
		since := now.at.Sub(before.at)
		r.cpu = percent(now.stats.Guest.CPUNanos, before.stats.Guest.CPUNanos, since)
		r.hostCPU = percent(now.stats.HostCPUNanos, before.stats.HostCPUNanos, since)
	}
}

// percent is how much of d is between two readings of a clock of CPU time. One
// that went back, as at a restart, tells nothing.
func percent(now, before uint64, d time.Duration) *float64 {
	if now < before || d <= 0 {
		return nil
	}
	p := float64(now-before) / float64(d) * 100
	return &p
}

// usageJSON is what stats --json prints. Sizes are in bytes; counters begin with
// the guest's boot.
type usageJSON struct {
	Time time.Time `json:"time"`
	ID   string    `json:"id"`
	Name string    `json:"name"`
	// Error says why nothing else is there.
	Error string `json:"error,omitempty"`
	// CPUPercent and HostCPUPercent are of one CPU, since the line before.
	CPUPercent     *float64 `json:"cpuPercent,omitempty"`
	HostCPUPercent *float64 `json:"hostCPUPercent,omitempty"`
	*instance.Stats
}

func (r usageRow) json() usageJSON {
	j := usageJSON{Time: r.sample.at, ID: r.ID, Name: r.Name, CPUPercent: r.cpu, HostCPUPercent: r.hostCPU}
	if r.err != nil {
		j.Time, j.Error = time.Now(), r.err.Error()
	} else {
		j.Stats = &r.sample.stats
	}
	return j
}

// usageTable prints the columns of docker stats, and what the VM takes of the
// host.
func usageTable(w io.Writer, rows []usageRow) error {
	t := newTable(w, "ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS", "HOST CPU %", "HOST MEM")
	for _, r := range rows {
		id := row{Instance: r.Instance}.id(false)
		if r.err != nil {
			t.row(id, r.Name, "--", "-- / --", "--", "-- / --", "-- / --", "--", "--", "--")
			continue
		}
		g := r.sample.stats.Guest
		memory := "--"
		if g.MemoryTotal > 0 {
			memory = fmt.Sprintf("%.2f%%", float64(g.Memory)/float64(g.MemoryTotal)*100)
		}
		t.row(id, r.Name, percentText(r.cpu),
			binarySize(g.Memory)+" / "+binarySize(g.MemoryTotal), memory,
			decimalSize(g.Received)+" / "+decimalSize(g.Sent), decimalSize(g.Read)+" / "+decimalSize(g.Written),
			fmt.Sprint(g.PIDs), percentText(r.hostCPU), binarySize(r.sample.stats.HostMemory))
	}
	return t.flush()
}

func percentText(p *float64) string {
	if p == nil {
		return "--"
	}
	return fmt.Sprintf("%.2f%%", *p)
}

// redraw prints the table over the one before it, as top(1) does: from the
// terminal's upper left corner, clearing what is left of each line and below
// (ECMA-48, CUP, EL and ED).
func redraw(w io.Writer, rows []usageRow) error {
	var b bytes.Buffer
	if err := usageTable(&b, rows); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\x1b[H"+strings.ReplaceAll(b.String(), "\n", "\x1b[K\n")+"\x1b[J")
	return err
}

// A usagePrinter prints tables one after the other, under one head.
type usagePrinter struct {
	w     io.Writer
	begun bool
}

func (p *usagePrinter) print(rows []usageRow) error {
	var b bytes.Buffer
	if err := usageTable(&b, rows); err != nil {
		return err
	}
	lines := b.Bytes()
	if p.begun {
		lines = lines[bytes.IndexByte(lines, '\n')+1:]
	}
	p.begun = true
	_, err := p.w.Write(lines)
	return err
}

// binarySize is a size as docker writes memory, decimalSize as it writes traffic.
func binarySize(n uint64) string {
	return size(n, 1024, 1024, "%.4g%s", []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"})
}

func decimalSize(n uint64) string {
	return size(n, 1000, 999.5, "%.3g%s", []string{"B", "kB", "MB", "GB", "TB", "PB", "EB"})
}

// size is n in the first unit in which it is, as printed, below limit.
func size(n uint64, base, limit float64, format string, units []string) string {
	v := float64(n)
	i := 0
	for v >= limit && i < len(units)-1 {
		v /= base
		i++
	}
	return fmt.Sprintf(format, v, units[i])
}
