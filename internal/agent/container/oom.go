//go:build linux

package container

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
)

// cgroupRoot is where the guest's cgroup2 is.
const cgroupRoot = "/sys/fs/cgroup"

// An oomCount tells whether the OOM killer was at work since the last time that
// its work had another explanation.
type oomCount struct{ known atomic.Uint64 }

// forgive takes what the OOM killer has done so far for explained.
func (o *oomCount) forgive() { o.known.Store(oomKills()) }

// more says whether it has killed since.
func (o *oomCount) more() bool { return oomKills() > o.known.Load() }

// oomKills is how many processes of the container the OOM killer has killed
// (cgroup-v2.rst, memory.events: oom_kill), or, where there is no memory
// controller, of all.
func oomKills() uint64 {
	for _, f := range []string{filepath.Join(cgroupRoot, cgroupPath, "memory.events"), "/proc/vmstat"} {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if count, ok := strings.CutPrefix(line, "oom_kill "); ok {
				n, _ := strconv.ParseUint(strings.TrimSpace(count), 10, 64)
				return n
			}
		}
	}
	return 0
}
