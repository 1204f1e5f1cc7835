// Package ssh is the host's side of vsock port 22, on which the guest's SSH
// server listens: the keys of a run, the agent that holds the one to log in with,
// and all that ssh(1) has to be told to get there. By default the private keys
// are in memory alone.
//
// It moves no SSH packets: that is ssh(1)'s work, or sshclient's. It knows nothing
// of the register of instances and of the VM.
package ssh
