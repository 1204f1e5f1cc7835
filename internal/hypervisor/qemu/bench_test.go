//go:build linux

package qemu

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"bake/internal/hypervisor"
	"bake/internal/hypervisor/hypervisortest/testguest"
)

// BenchmarkBoot takes the time from New to the guest's first connection, and
// from the guest's power-off to the end of Wait.
func BenchmarkBoot(b *testing.B) {
	for _, cpus := range []int{1, 2} {
		b.Run(fmt.Sprintf("cpus=%d", cpus), func(b *testing.B) {
			guest, cache := testGuest(b), b.TempDir()
			var prepare, ready, end time.Duration
			for b.Loop() {
				d := &Driver{CacheDir: cache}
				began := time.Now()
				m := guest.New(b, d, func(c *hypervisor.Config) { c.CPUs = cpus })
				made := time.Now()
				m.StartAndWait(b)
				up := time.Now()
				m.End(b, testguest.OpPowerOff)
				prepare += made.Sub(began)
				ready += up.Sub(made)
				end += time.Since(up)
			}
			n := float64(b.N)
			b.ReportMetric(float64(prepare.Milliseconds())/n, "ms/New")
			b.ReportMetric(float64(ready.Milliseconds())/n, "ms/boot")
			b.ReportMetric(float64(end.Milliseconds())/n, "ms/end")
			b.ReportMetric(residentMiB(b), "MiB-resident")
		})
	}
}

// residentMiB is this process's memory that is in RAM and not a file's.
func residentMiB(b *testing.B) float64 {
	b.Helper()
	runtime.GC()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	var kib float64
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			if _, err := fmt.Sscan(v, &kib); err != nil {
				b.Fatal(err)
			}
		}
	}
	return kib / 1024
}
