package app

// SSHOptions are files for programs of this host that log in to the guest. They
// go when the run ends; an empty path is no file.
type SSHOptions struct {
	// PrivateKeyPath gets the run's private key, mode 0600.
	PrivateKeyPath string
	// SockPath becomes a Unix socket that leads to the guest's SSH server.
	SockPath string
	// ScriptPath becomes a script that logs in.
	ScriptPath string
}
