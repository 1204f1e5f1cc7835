package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Offsets of the setup header: Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header".
const (
	setupSectsAt    = 0x1f1 // u8
	bootFlagAt      = 0x1fe // u16, 0xAA55
	headerMagicAt   = 0x202 // "HdrS"
	protocolAt      = 0x206 // u16
	payloadOffsetAt = 0x248 // u32, from the start of the protected-mode code
	payloadLengthAt = 0x24c // u32
	setupHeaderEnd  = 0x250

	payloadProtocol = 0x0208 // the first protocol with payload_offset
	sector          = 512
)

func isBzImage(data []byte) bool {
	return len(data) >= setupHeaderEnd &&
		binary.LittleEndian.Uint16(data[bootFlagAt:]) == 0xaa55 &&
		string(data[headerMagicAt:headerMagicAt+4]) == "HdrS"
}

// bzImagePayload is the compressed kernel in a bzImage.
func bzImagePayload(data []byte) ([]byte, error) {
	if !isBzImage(data) {
		return nil, errors.New("not a bzImage: it has no setup header")
	}
	if p := binary.LittleEndian.Uint16(data[protocolAt:]); p < payloadProtocol {
		return nil, fmt.Errorf("this bzImage has boot protocol %d.%02d; bake needs 2.08 (Linux 2.6.26) or later to find the kernel in it", p>>8, p&0xff)
	}
	sects := uint64(data[setupSectsAt])
	if sects == 0 {
		sects = 4 // for a bootloader of 1995, still in the specification
	}
	start := (sects+1)*sector + uint64(binary.LittleEndian.Uint32(data[payloadOffsetAt:]))
	length := uint64(binary.LittleEndian.Uint32(data[payloadLengthAt:]))
	if start+length > uint64(len(data)) {
		return nil, fmt.Errorf("damaged bzImage: its payload is said to be %d bytes at %d, the file has %d", length, start, len(data))
	}
	return data[start : start+length], nil
}

// unpackBzImagePayload decompresses a bzImage's payload. But for gzip, whose format ends with it, the build appends
// the uncompressed length (scripts/Makefile.lib, size_append), which decoders would take for damage.
func unpackBzImagePayload(payload []byte) ([]byte, error) {
	format := detectCompression(payload)
	switch {
	case format == "":
		if len(payload) >= 4 && string(payload[:4]) == "\x7fELF" {
			return payload, nil // CONFIG_KERNEL_UNCOMPRESSED
		}
		return nil, errors.New("its payload is in no compression that bake knows")
	case format == "gzip":
		return decompress(format, payload, maxImageSize)
	case len(payload) < 8:
		return nil, fmt.Errorf("its payload of %d bytes is too short", len(payload))
	}
	stream, trailer := payload[:len(payload)-4], payload[len(payload)-4:]
	want := int64(binary.LittleEndian.Uint32(trailer))
	if want > maxImageSize {
		return nil, fmt.Errorf("its payload is said to unpack to %d bytes; more than %d cannot be right", want, maxImageSize)
	}
	plain, err := decompress(format, stream, want)
	if err != nil {
		return nil, err
	}
	if int64(len(plain)) != want {
		return nil, fmt.Errorf("its payload unpacks to %d bytes instead of %d, so the file is damaged", len(plain), want)
	}
	return plain, nil
}
