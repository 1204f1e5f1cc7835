package vmmbundle

import (
	"debug/elf"
	"fmt"
)

// An architecture says what differs between the machines that bundles are made for.
type architecture struct {
	name     string // QEMU's and the kernel's
	machine  elf.Machine
	triplet  string
	libDirs  []string // of the dynamic loader
	firmware []firmware
}

// firmware is a file that QEMU loads by its name alone.
type firmware struct {
	name     string
	required bool
}

// newArchitecture returns the one of Go's name arch. The firmware is what QEMU opens for -M microvm, q35 and
// virt with -kernel and -nodefaults, seen with strace(1) for QEMU 7.2: microvm starts with bios-microvm.bin,
// or qboot.rom when acpi=off; q35 with bios-256k.bin; both load a bzImage by linuxboot_dma.bin and an ELF
// kernel by pvh.bin; kvmvapic.bin belongs to the interrupt controller of q35. virt starts the kernel itself.
func newArchitecture(arch string) (architecture, error) {
	dirs := func(triplet string) []string {
		return []string{
			"/lib/" + triplet, "/usr/lib/" + triplet, "/lib64", "/usr/lib64", "/lib", "/usr/lib",
			"/usr/local/lib", // musl
		}
	}
	switch arch {
	case "amd64":
		const triplet = "x86_64-linux-gnu"
		return architecture{"x86_64", elf.EM_X86_64, triplet, dirs(triplet), []firmware{
			{"bios-256k.bin", true}, {"linuxboot_dma.bin", true}, {"bios-microvm.bin", false},
			{"qboot.rom", false}, {"kvmvapic.bin", false}, {"pvh.bin", false},
		}}, nil
	case "arm64":
		const triplet = "aarch64-linux-gnu"
		return architecture{"aarch64", elf.EM_AARCH64, triplet, dirs(triplet), nil}, nil
	default:
		return architecture{}, fmt.Errorf("QEMU cannot be embedded for the architecture %q; only for amd64 and arm64", arch)
	}
}
