// Package kernel knows what a guest kernel is on the host's side: a kernel bundle.
//
// A bundle is a directory that holds one bootable kernel image, uncompressed, in the form that every VMM takes
// (amd64: an ELF vmlinux with a PVH entry; arm64: the flat Image), the modules that a guest of bake needs and that
// the kernel does not have built in, in the order in which they load, and bundle.json, which names and hashes
// them. There are two ways to one: kernel/build.sh compiles our own, and [Import] takes a distribution's vmlinuz
// and module tree apart. [Store] is where both lie; [Open] reads one, and also takes a bare image file.
//
// The package knows file formats only. It starts no VM, builds no initrd and does not know what a payload is; the
// builder asks it for the bytes, and [Bundle.ModulePath] says what the agent expects to find them as.
//
// Images and modules come from elsewhere and are treated as hostile: each length is checked against what is
// really there before it is used, and each decompression has a limit.
package kernel
