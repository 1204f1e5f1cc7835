//go:build !linux

package volume

import "os"

// exclusive: only Linux has a flag of open(2) for devices that are in use.
const exclusive = 0

// lockHolder is nobody: only Linux says who has a lock.
func lockHolder(*os.File) holder { return holder{} }

// loopDevice is none: only Linux has them.
func loopDevice(*os.File) string { return "" }
