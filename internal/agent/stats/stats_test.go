package stats

import (
	"os"
	"path/filepath"
	"testing"

	"bake/internal/wire"
)

// guest writes the files of a guest's kernel and returns where they are.
func guest(t *testing.T, files map[string]string) Source {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Source{Cgroup: root + "/cgroup", Proc: root + "/proc", Sys: root + "/sys", Interface: "hostnet", Disks: "vd"}
}

const meminfo = "MemTotal:         243000 kB\nMemFree:           40000 kB\nMemAvailable:     100000 kB\n"

func TestRead(t *testing.T) {
	for name, tc := range map[string]struct {
		files map[string]string
		want  wire.Stats
	}{
		"all there": {map[string]string{
			"cgroup/cpu.stat":                           "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\nnice_usec 0\n",
			"cgroup/memory.current":                     "10485760\n",
			"cgroup/memory.stat":                        "anon 4096\nfile 8192\ninactive_file 4194304\nactive_file 1\n",
			"cgroup/pids.current":                       "7\n",
			"proc/meminfo":                              meminfo,
			"sys/block/vda/stat":                        "  10 0 100 5 0 0 0 0 0 5 5 0 0 0 0 0 0\n",
			"sys/block/vdb/stat":                        "  10 0 1 5 3 0 20 0 0 5 5 0 0 0 0 0 0\n",
			"sys/block/dm-0/stat":                       "  10 0 1000 5 3 0 1000 0 0 5 5 0 0 0 0 0 0\n",
			"sys/class/net/hostnet/statistics/rx_bytes": "123\n",
			"sys/class/net/hostnet/statistics/tx_bytes": "45\n",
		}, wire.Stats{
			CPUs: 2, CPUNanos: 1500000000, UserNanos: 1000000000, SystemNanos: 500000000,
			Memory: 6 << 20, MemoryTotal: 243000 << 10, MemoryAvailable: 100000 << 10,
			Received: 123, Sent: 45, Read: 101 * 512, Written: 20 * 512, PIDs: 7,
		}},
		"no controllers, no network": {map[string]string{
			"cgroup/cpu.stat":       "usage_usec 1\nuser_usec 1\nsystem_usec 0\n",
			"cgroup/cgroup.threads": "1\n2\n30\n",
			"proc/meminfo":          meminfo,
		}, wire.Stats{
			CPUs: 2, CPUNanos: 1000, UserNanos: 1000,
			Memory: 143000 << 10, MemoryTotal: 243000 << 10, MemoryAvailable: 100000 << 10, PIDs: 3,
		}},
		"more cache than memory": {map[string]string{
			"cgroup/memory.current": "4096\n", "cgroup/memory.stat": "inactive_file 8192\n",
		}, wire.Stats{CPUs: 2}},
		"strange files": {map[string]string{
			"cgroup/cpu.stat": "usage_usec\n\nuser_usec x\n", "cgroup/memory.current": "max\n", "cgroup/pids.current": "",
			"proc/meminfo": "MemTotal: -1 kB\n", "sys/block/vda/stat": "1 2\n", "sys/block/vdb/stat": "a b c d e f g h\n",
		}, wire.Stats{CPUs: 2}},
		"nothing": {nil, wire.Stats{CPUs: 2}},
	} {
		if got := guest(t, tc.files).Read(2); got != tc.want {
			t.Errorf("%s:\ngot  %+v\nwant %+v", name, got, tc.want)
		}
	}
}
