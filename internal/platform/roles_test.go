package platform

import (
	"fmt"
	"os"
	"time"
)

// runDirRole makes a run directory, says its path, and lives until it is killed.
func runDirRole() {
	d, err := newRunDir(os.Getenv("PLATFORM_TEST_BASE"))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(d.Path())
	time.Sleep(time.Hour)
}
