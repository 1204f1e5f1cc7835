package kernel

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

const testVersion = "6.1.0-test"

func TestParseImage(t *testing.T) {
	vmlinux := makeVmlinux(t, testVersion)
	image := makeArm64Image(testVersion)
	tests := []struct {
		name string
		in   []byte
		arch string
		want []byte
	}{
		{"vmlinux", vmlinux, "amd64", vmlinux},
		{"vmlinux with relocations after it", append(bytes.Clone(vmlinux), make([]byte, 4096)...), "amd64", vmlinux},
		{"vmlinux.gz", compressAs(t, "gzip", vmlinux), "amd64", vmlinux},
		{"bzImage uncompressed", makeBzImage(withSize(bytes.Clone(vmlinux), len(vmlinux))), "amd64", vmlinux},
		{"bzImage gzip", makeBzImage(compressAs(t, "gzip", vmlinux)), "amd64", vmlinux},
		{"bzImage xz", makeBzImage(withSize(compressAs(t, "xz", vmlinux), len(vmlinux))), "amd64", vmlinux},
		{"bzImage xz with the x86 filter", makeBzImage(withSize(compressAs(t, "xz-x86", vmlinux), len(vmlinux))), "amd64", vmlinux},
		{"bzImage lzma", makeBzImage(withSize(compressAs(t, "lzma", vmlinux), len(vmlinux))), "amd64", vmlinux},
		{"bzImage lz4", makeBzImage(withSize(compressAs(t, "lz4", vmlinux), len(vmlinux))), "amd64", vmlinux},
		{"bzImage zstd", makeBzImage(withSize(compressAs(t, "zstd", vmlinux), len(vmlinux))), "amd64", vmlinux},
		{"bzImage bzip2", makeBzImage(withSize(compressAs(t, "bzip2", vmlinux), len(vmlinux))), "amd64", vmlinux},
		{"Image", image, "arm64", image},
		{"Image.gz", compressAs(t, "gzip", image), "arm64", image},
		{"Image.zst", compressAs(t, "zstd", image), "arm64", image},
		{"zboot gzip", makeZboot(compressAs(t, "gzip", image)), "arm64", image},
		{"zboot zstd", makeZboot(compressAs(t, "zstd", image)), "arm64", image},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseImage(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if got.arch != tt.arch || got.version != testVersion {
				t.Errorf("got %s %s, want %s %s", got.arch, got.version, tt.arch, testVersion)
			}
			if !bytes.Equal(got.data, tt.want) {
				t.Errorf("got %d bytes, want the %d of the image", len(got.data), len(tt.want))
			}
			if tt.arch == "amd64" && !got.pvh {
				t.Error("the PVH note was not found")
			}
		})
	}
}

func TestParseImageErrors(t *testing.T) {
	vmlinux := makeVmlinux(t, testVersion)
	image := makeArm64Image(testVersion)
	// change returns a copy of data with a little-endian number written at an offset.
	change := func(data []byte, at int, width int, value uint64) []byte {
		data = bytes.Clone(data)
		switch width {
		case 1:
			data[at] = byte(value)
		case 2:
			binary.LittleEndian.PutUint16(data[at:], uint16(value))
		case 4:
			binary.LittleEndian.PutUint32(data[at:], uint32(value))
		case 8:
			binary.LittleEndian.PutUint64(data[at:], value)
		}
		return data
	}
	lz4Image := makeBzImage(withSize(compressAs(t, "lz4", vmlinux), len(vmlinux)))
	gzImage := makeBzImage(compressAs(t, "gzip", vmlinux))
	nested := compressAs(t, "gzip", compressAs(t, "gzip", compressAs(t, "gzip", compressAs(t, "gzip", vmlinux))))
	tests := []struct {
		name string
		in   []byte
		want string
	}{
		{"empty", nil, "no kernel that bake knows"},
		{"text", []byte("#!/bin/sh\n"), "no kernel that bake knows"},
		{"compressed four times", nested, "no kernel that bake knows"},
		{"payload past the end", change(gzImage, payloadLengthAt, 4, 0xffffffff), "damaged bzImage"},
		{"payload offset that overflows 32 bits", change(gzImage, payloadOffsetAt, 4, 0xffffffff), "damaged bzImage"},
		{"old protocol", change(gzImage, protocolAt, 2, 0x0203), "boot protocol 2.03"},
		{"payload of LZO", makeBzImage(withSize([]byte("\x89LZO\x00\x0d\x0a\x1a\x0a"), 100)), "cannot unpack"},
		{"payload of nothing known", makeBzImage([]byte("????????????")), "no compression that bake knows"},
		{"payload too short", makeBzImage([]byte("BZh9\x01")), "too short"},
		{"trailer says more", makeBzImage(withSize(compressAs(t, "lz4", vmlinux), len(vmlinux)+1)), "instead of"},
		{"trailer says less", makeBzImage(withSize(compressAs(t, "lz4", vmlinux), len(vmlinux)-1)), "more than"},
		{"trailer says 4 GiB", makeBzImage(withSize(compressAs(t, "zstd", vmlinux), 0xffffffff)), "cannot be right"},
		{"gzip cut off", makeBzImage(compressAs(t, "gzip", vmlinux)[:100]), "unexpected EOF"},
		{"lz4 block longer than the rest", change(lz4Image, bytes.Index(lz4Image, []byte("\x02\x21\x4c\x18"))+4, 4, 0xfffffff0), "longer than"},
		{"payload is no ELF", makeBzImage(compressAs(t, "gzip", []byte("hello, this is no kernel"))), "no vmlinux"},
		{"vmlinux for arm64", change(vmlinux, 18, 2, 183), "arm64 vmlinux"},
		{"vmlinux for s390", change(vmlinux, 18, 2, 22), "x86-64 and arm64"},
		{"an object file", change(vmlinux, 16, 2, 1), "no kernel"},
		{"segment past the end", change(vmlinux, 64+32, 8, 1<<62), "damaged vmlinux"},
		{"segment offset that overflows", change(vmlinux, 64+8, 8, ^uint64(0)-10), "damaged vmlinux"},
		{"section table past the end", change(vmlinux, 40, 8, 1<<40), "damaged vmlinux"},
		{"vmlinux cut off", vmlinux[:len(vmlinux)/2], "damaged vmlinux"},
		{"no banner", bytes.ReplaceAll(vmlinux, []byte(banner), []byte("Minix version ")), "Linux version"},
		{"arm64 big-endian", change(image, arm64FlagsAt, 8, 1), "big-endian"},
		{"arm64 without a banner", image[:arm64HeaderSize], "Linux version"},
		{"zboot payload past the end", change(makeZboot(compressAs(t, "gzip", image)), 12, 4, 0xffffffff), "damaged EFI zboot"},
		{"zboot payload in the header", change(makeZboot(compressAs(t, "gzip", image)), 8, 4, 8), "damaged EFI zboot"},
		{"zboot of zboot", makeZboot(makeZboot(compressAs(t, "gzip", image))), "no compression that bake knows"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseImage(tt.in)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got the error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestDecompressLimit(t *testing.T) {
	// A megabyte of zeros packs to almost nothing: the limit must hold while it is unpacked.
	zeros := make([]byte, 1<<20)
	for _, format := range []string{"gzip", "xz", "lzma", "lz4", "zstd"} {
		packed := compressAs(t, format, zeros)
		if _, err := decompress(format, packed, int64(len(zeros))-1); err == nil || !strings.Contains(err.Error(), "more than") {
			t.Errorf("%s: got the error %v, want one about the limit", format, err)
		}
		plain, err := decompress(format, packed, int64(len(zeros)))
		if err != nil || !bytes.Equal(plain, zeros) {
			t.Errorf("%s: got %d bytes and the error %v, want the megabyte", format, len(plain), err)
		}
	}
}

func TestNoPVHNote(t *testing.T) {
	for _, tt := range []struct {
		name  string
		notes []byte
		want  bool
	}{
		{"none", nil, false},
		{"another owner", note("GNU", xenPhys32Entry), false},
		{"another type", note("Xen", 5), false},
		{"second", append(note("Linux", 0x100), note("Xen", xenPhys32Entry)...), true},
		{"name past the end", []byte("\xff\xff\xff\xff\x00\x00\x00\x00\x12\x00\x00\x00Xen\x00"), false},
		{"description past the end", []byte("\x04\x00\x00\x00\xff\xff\xff\xff\x01\x00\x00\x00Xen\x00"), false},
	} {
		if got := noteOfType(tt.notes, "Xen", xenPhys32Entry); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

func FuzzParseImage(f *testing.F) {
	vmlinux := makeVmlinux(f, testVersion)
	image := makeArm64Image(testVersion)
	f.Add(vmlinux)
	f.Add(image)
	f.Add(makeBzImage(compressAs(f, "gzip", vmlinux)))
	for _, format := range []string{"xz", "xz-x86", "lzma", "lz4", "zstd", "bzip2"} {
		f.Add(makeBzImage(withSize(compressAs(f, format, vmlinux), len(vmlinux))))
	}
	f.Add(makeZboot(compressAs(f, "zstd", image)))
	f.Fuzz(func(t *testing.T, data []byte) {
		img, err := parseImage(data)
		if err != nil {
			return
		}
		if img.arch != "amd64" && img.arch != "arm64" || !versionRE.MatchString(img.version) || len(img.data) == 0 {
			t.Errorf("accepted an image as %q %q of %d bytes", img.arch, img.version, len(img.data))
		}
		// What was unpacked is an image itself, and the same one.
		again, err := parseImage(img.data)
		if err != nil || !bytes.Equal(again.data, img.data) {
			t.Errorf("the unpacked image is not accepted again: %v", err)
		}
	})
}
