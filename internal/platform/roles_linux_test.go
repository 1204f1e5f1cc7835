package platform

import "os/exec"

// runRole is what this test binary does when a test started it as a helper.
func runRole(role string) {
	switch role {
	case "rundir":
		runDirRole()
	case "parent":
		parentRole(exec.Command("sleep", "3600"))
	}
}
