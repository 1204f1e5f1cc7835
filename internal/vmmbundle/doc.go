// Package vmmbundle makes QEMU portable: it collects the emulator of one machine with all that it loads into a
// tar archive, and unpacks such an archive on another machine where nothing is installed.
//
// A bundle holds regular files only, in this order:
//
//	bundle.json                what is in it, see Index
//	bin/qemu-system-x86_64     the emulator
//	lib/ld-linux-x86-64.so.2   the dynamic loader that the emulator names
//	lib/libc.so.6 ...          every library it needs, by the name it is asked for
//	lib/qemu/accel-tcg-x86_64.so ...   modules of QEMU itself
//	share/qemu/bios-256k.bin ...       firmware that our machines start with
//
// It is run through its own loader, so that nothing depends on the C library of the machine that it finds
// itself on. The archive is the same byte for byte as long as the files in it are.
//
// Collecting reads ELF files and never runs anything. Unpacking treats the archive as untrusted until its hash
// is right. The package knows nothing of payloads, of virtual machines or of how QEMU is configured.
package vmmbundle
