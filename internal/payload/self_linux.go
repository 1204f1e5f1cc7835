package payload

// selfPath is a magic link (proc(5)) to the inode that runs, whatever its path has become.
func selfPath() (string, error) { return "/proc/self/exe", nil }
