package kernel

import (
	"bytes"
	"compress/bzip2"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz/lzma"
	"github.com/xi2/xz"
)

// compressions are the formats of lib/decompress.c by their first bytes. LZO is the one that is missing: no
// distribution uses it, and the error names it.
var compressions = []struct{ magic, format string }{
	{"\x1f\x8b", "gzip"},
	{"BZh", "bzip2"},
	{"\x5d\x00\x00", "lzma"},
	{"\xfd7zXZ\x00", "xz"},
	{"\x89LZO", "lzo"},
	{"\x02\x21\x4c\x18", "lz4"}, // the legacy frame, which lz4 -l writes
	{"\x28\xb5\x2f\xfd", "zstd"},
}

// maxWindow bounds the history that a decoder keeps; xz and zstd write up to 128 MiB for a kernel.
const maxWindow = 128 << 20

// detectCompression names the format that data starts as; empty when it is none.
func detectCompression(data []byte) string {
	for _, c := range compressions {
		if bytes.HasPrefix(data, []byte(c.magic)) {
			return c.format
		}
	}
	return ""
}

// decompress unpacks one stream that must come to limit bytes at most.
func decompress(format string, data []byte, limit int64) ([]byte, error) {
	if format == "lz4" {
		plain, err := decompressLZ4Legacy(data, limit)
		if err != nil {
			return nil, fmt.Errorf("decompress %s: %w", format, err)
		}
		return plain, nil
	}
	r, err := newDecoder(format, data)
	if err != nil {
		return nil, fmt.Errorf("decompress %s: %w", format, err)
	}
	defer r.Close()
	plain, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("decompress %s: %w", format, err)
	}
	if int64(len(plain)) > limit {
		return nil, fmt.Errorf("decompress %s: %w", format, tooLong(limit))
	}
	return plain, nil
}

func tooLong(limit int64) error {
	return fmt.Errorf("it unpacks to more than the %d bytes that it may have", limit)
}

func newDecoder(format string, data []byte) (io.ReadCloser, error) {
	src := bytes.NewReader(data)
	switch format {
	case "gzip":
		r, err := gzip.NewReader(src)
		if err != nil {
			return nil, err
		}
		// Padding may follow in an image; a second member may not.
		r.Multistream(false)
		return r, nil
	case "bzip2":
		return io.NopCloser(bzip2.NewReader(src)), nil
	case "lzma":
		r, err := lzma.ReaderConfig{DictCap: maxWindow}.NewReader(src)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(r), nil
	case "xz":
		// A kernel's xz stream has the x86 branch filter in front of LZMA2, which xi2/xz knows.
		r, err := xz.NewReader(src, maxWindow)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(r), nil
	case "zstd":
		r, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(maxImageSize))
		if err != nil {
			return nil, err
		}
		return r.IOReadCloser(), nil
	}
	return nil, errors.New("bake cannot unpack this format")
}

// lz4LegacyBlock is what a block of the legacy frame unpacks to at most (LZ4 Frame Format, "Legacy frame").
const lz4LegacyBlock = 8 << 20

func decompressLZ4Legacy(data []byte, limit int64) ([]byte, error) {
	data = data[min(4, len(data)):] // the magic
	block := make([]byte, lz4LegacyBlock)
	var plain []byte
	for len(data) > 0 {
		if len(data) < 4 {
			return nil, io.ErrUnexpectedEOF
		}
		size := uint64(binary.LittleEndian.Uint32(data))
		data = data[4:]
		if size > uint64(len(data)) {
			return nil, fmt.Errorf("a block of %d bytes is longer than the %d that are left", size, len(data))
		}
		n, err := lz4.UncompressBlock(data[:size], block)
		if err != nil {
			return nil, err
		}
		if int64(len(plain))+int64(n) > limit {
			return nil, tooLong(limit)
		}
		plain = append(plain, block[:n]...)
		data = data[size:]
	}
	return plain, nil
}
