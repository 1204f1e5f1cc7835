//go:build linux

package agent

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/agent/mounts"
)

// unmountTime bounds the wait for what was written: the disk is thrown away,
// so that nothing is lost but tidiness.
const unmountTime = 2 * time.Second

func unmount() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		mounts.Unmount()
	}()
	select {
	case <-done:
	case <-time.After(unmountTime):
	}
}

// powerOff ends the guest. It restarts, as that is what every hypervisor is
// told to take for the end, and needs no ACPI.
func powerOff() {
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	// Only without CAP_SYS_BOOT. The end of PID 1 ends the guest too.
	os.Exit(1)
}

// memoryInUse says how much of the guest's memory is not available.
func memoryInUse() string {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return "unknown"
	}
	var total, available int
	for line := range bytes.Lines(b) {
		_, _ = fmt.Sscanf(string(line), "MemTotal: %d kB", &total)
		_, _ = fmt.Sscanf(string(line), "MemAvailable: %d kB", &available)
	}
	return fmt.Sprintf("%d KiB of %d KiB", total-available, total)
}
