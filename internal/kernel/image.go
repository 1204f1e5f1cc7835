package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// bootImage is a kernel image as the VMMs take it.
type bootImage struct {
	arch    string // amd64, arm64
	version string // uname -r
	data    []byte
	pvh     bool // amd64: has a PVH entry point
}

// name is the file name of the image in a bundle.
func (i bootImage) name() string {
	if i.arch == "arm64" {
		return "Image"
	}
	return "vmlinux"
}

func (i bootImage) notes() []string {
	if i.arch == "amd64" && !i.pvh {
		return []string{"no PVH entry point (CONFIG_PVH): QEMU does not boot this kernel, Firecracker does"}
	}
	return nil
}

// parseImage recognises data, unpacks it as far as needed and reads what it says about itself.
func parseImage(data []byte) (bootImage, error) {
	// Two layers at most: a compressed file, and the payload of the image in it.
	for range 3 {
		switch {
		case bytes.HasPrefix(data, []byte("\x7fELF")):
			return parseVmlinux(data)
		case isArm64Image(data):
			return parseArm64Image(data)
		case isBzImage(data):
			payload, err := bzImagePayload(data)
			if err != nil {
				return bootImage{}, err
			}
			vmlinux, err := unpackBzImagePayload(payload)
			if err != nil {
				return bootImage{}, fmt.Errorf("unpack the vmlinux of a bzImage: %w", err)
			}
			if !bytes.HasPrefix(vmlinux, []byte("\x7fELF")) {
				return bootImage{}, errors.New("the payload of this bzImage is not an ELF file, so it is no vmlinux")
			}
			return parseVmlinux(vmlinux)
		case isZboot(data):
			payload, err := zbootPayload(data)
			if err != nil {
				return bootImage{}, err
			}
			data = payload
		}
		format := detectCompression(data)
		if format == "" {
			break
		}
		plain, err := decompress(format, data, maxImageSize)
		if err != nil {
			return bootImage{}, err
		}
		data = plain
	}
	return bootImage{}, errors.New("this is no kernel that bake knows: neither a vmlinux (ELF), a bzImage, an arm64 Image, an EFI zboot image, nor one of these compressed")
}

// The flat arm64 image: Documentation/arch/arm64/booting.rst, section 4.
const (
	arm64HeaderSize = 64
	arm64Magic      = "ARM\x64"
	arm64MagicAt    = 56
	arm64FlagsAt    = 24
)

func isArm64Image(data []byte) bool {
	return len(data) >= arm64HeaderSize && string(data[arm64MagicAt:arm64MagicAt+4]) == arm64Magic
}

func parseArm64Image(data []byte) (bootImage, error) {
	if flags := binary.LittleEndian.Uint64(data[arm64FlagsAt:]); flags&1 != 0 {
		return bootImage{}, errors.New("this arm64 Image is big-endian; bake runs little-endian guests")
	}
	version, err := bannerVersion(data)
	if err != nil {
		return bootImage{}, err
	}
	return bootImage{arch: "arm64", version: version, data: data}, nil
}

// The EFI zboot image: drivers/firmware/efi/libstub/zboot-header.S.
const zbootHeaderSize = 56

func isZboot(data []byte) bool {
	return len(data) >= zbootHeaderSize && string(data[:2]) == "MZ" && string(data[4:8]) == "zimg"
}

// zbootPayload is the compressed kernel in an EFI zboot image. The size in its header leaves out the length that
// the build appends to formats without one.
func zbootPayload(data []byte) ([]byte, error) {
	offset := uint64(binary.LittleEndian.Uint32(data[8:]))
	size := uint64(binary.LittleEndian.Uint32(data[12:]))
	if offset < zbootHeaderSize || offset+size > uint64(len(data)) {
		return nil, fmt.Errorf("damaged EFI zboot image: its payload is said to be %d bytes at %d, the file has %d", size, offset, len(data))
	}
	payload := data[offset : offset+size]
	if detectCompression(payload) == "" {
		return nil, errors.New("the payload of this EFI zboot image is in no compression that bake knows")
	}
	return payload, nil
}

const banner = "Linux version "

// bannerVersion finds the release in linux_banner (init/version-timestamp.c), which every kernel image carries:
// "Linux version 6.1.0-56-cloud-amd64 (builder@host) …". The format string of /proc/version starts alike and is
// passed over because no release starts with a percent sign.
func bannerVersion(data []byte) (string, error) {
	for rest := data; ; {
		i := bytes.Index(rest, []byte(banner))
		if i < 0 {
			return "", errors.New(`this image has no "Linux version" string, so it is no complete kernel`)
		}
		rest = rest[i+len(banner):]
		word, _, found := bytes.Cut(rest[:min(len(rest), 80)], []byte(" "))
		if found && versionRE.Match(word) {
			return string(word), nil
		}
	}
}
