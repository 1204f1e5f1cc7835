// Package boottest boots real guests with bake's agent and plays the host for
// them, to test everything about the agent that needs a guest. It has only
// tests, behind the build tag boot:
//
//	BAKE_TEST_KERNEL=vmlinux BAKE_TEST_RUNC=runc go test -tags boot ./internal/agent/boottest
//
// They need QEMU, mkfs.erofs, e2fsprogs and a static busybox, of which
// BAKE_TEST_BUSYBOX may give the path. With BAKE_TEST_MODULES, a directory of
// modules named NNN-name.ko, the kernel may be one that has its drivers in
// modules. With BAKE_TEST_ARCH=arm64, all of them are for that architecture.
package boottest
