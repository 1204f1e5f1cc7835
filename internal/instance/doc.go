// Package instance is the register of running apps: what each one tells of
// itself, how others find it, and how they speak with it.
//
// An instance is a private directory ([platform.RunDir]) that its process holds a
// lock on. It holds instance.json and the socket "api". The lock dies with the
// process, however that dies, so a killed one is never listed, and the next start
// of any app sweeps what it left.
//
// The package knows no hypervisor and no VM: package app gives it a [Handler].
package instance
