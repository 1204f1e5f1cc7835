// Package stats reads what a guest uses from files of its kernel. Each is one
// short read; what a kernel does not have is zero or, where that would mislead,
// taken from the next best file.
package stats

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"bake/internal/wire"
)

// sector is the unit of the counters of a block device, in bytes
// (Documentation/block/stat.rst of the kernel).
const sector = 512

// A Source is where to read. The directories are those of the guest; tests have
// others.
type Source struct {
	// Cgroup is the container's cgroup, of version 2.
	Cgroup string
	// Proc and Sys are /proc and /sys.
	Proc, Sys string
	// Interface is the network interface that is the way out.
	Interface string
	// Disks begin the names of the block devices that are the guest's own: vd.
	Disks string
}

// Read reads all of it but the bytes of published ports.
func (s Source) Read(cpus int) wire.Stats {
	st := wire.Stats{CPUs: cpus}
	cpu := keyed(filepath.Join(s.Cgroup, "cpu.stat"))
	st.CPUNanos, st.UserNanos, st.SystemNanos = cpu["usage_usec"]*1000, cpu["user_usec"]*1000, cpu["system_usec"]*1000
	info := keyed(filepath.Join(s.Proc, "meminfo"))
	st.MemoryTotal, st.MemoryAvailable = info["MemTotal:"]<<10, info["MemAvailable:"]<<10
	st.Memory = s.memory(st)
	st.PIDs = s.pids()
	dir := filepath.Join(s.Sys, "class/net", s.Interface, "statistics")
	st.Received, _ = number(filepath.Join(dir, "rx_bytes"))
	st.Sent, _ = number(filepath.Join(dir, "tx_bytes"))
	st.Read, st.Written = s.disks()
	return st
}

// memory is what docker stats counts: all that is charged but the page cache
// that nobody has looked at lately. Without a memory controller it is what the
// guest has in use, with the kernel's and the agent's.
func (s Source) memory(st wire.Stats) uint64 {
	used, err := number(filepath.Join(s.Cgroup, "memory.current"))
	if err != nil {
		return less(st.MemoryTotal, st.MemoryAvailable)
	}
	return less(used, keyed(filepath.Join(s.Cgroup, "memory.stat"))["inactive_file"])
}

// pids is how many tasks there are: threads too, as docker stats counts them.
func (s Source) pids() int {
	if n, err := number(filepath.Join(s.Cgroup, "pids.current")); err == nil {
		return int(n)
	}
	threads, err := os.ReadFile(filepath.Join(s.Cgroup, "cgroup.threads"))
	if err != nil {
		return 0
	}
	return bytes.Count(threads, []byte("\n"))
}

// disks adds up what was read of the disks and written to them.
func (s Source) disks() (read, written uint64) {
	devices, err := os.ReadDir(filepath.Join(s.Sys, "block"))
	if err != nil {
		return 0, 0
	}
	for _, d := range devices {
		if !strings.HasPrefix(d.Name(), s.Disks) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(s.Sys, "block", d.Name(), "stat"))
		if fields := strings.Fields(string(b)); err == nil && len(fields) > 6 {
			// What is no number is 0.
			r, _ := strconv.ParseUint(fields[2], 10, 64)
			w, _ := strconv.ParseUint(fields[6], 10, 64)
			read, written = read+r*sector, written+w*sector
		}
	}
	return read, written
}

// less is a-b, but not less than nothing: the two were not read at once.
func less(a, b uint64) uint64 { return a - min(a, b) }

// number reads a file that holds one number.
func number(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64)
}

// keyed reads a file of lines with a name and a number each.
func keyed(path string) map[string]uint64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	m := map[string]uint64{}
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) > 1 {
			if n, err := strconv.ParseUint(fields[1], 10, 64); err == nil {
				m[fields[0]] = n
			}
		}
	}
	return m
}
