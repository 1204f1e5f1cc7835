package platform

// runRole is what this test binary does when a test started it as a helper.
func runRole(role string) {
	if role == "rundir" {
		runDirRole()
	}
}
