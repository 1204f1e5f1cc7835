// Package sessioncmd has the verbs that work inside a running app: ssh, exec, cp,
// ssh-config and, for ssh(1) alone, ssh-proxy. They are the same for an app, which
// speaks of its own instances, and for bake, which speaks of all. It parses and
// prints; sshclient and copy do the work.
package sessioncmd
