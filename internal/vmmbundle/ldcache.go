package vmmbundle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
)

const (
	ldCachePath = "/etc/ld.so.cache"
	maxLDCache  = 16 << 20 // bytes
	ldMagic     = "glibc-ld.so.cache1.1"
	ldOldMagic  = "ld.so-1.7.0"
)

// parseLDCache reads what ldconfig(8) found: library names and the paths for each, best first. The format is
// glibc's sysdeps/generic/dl-cache.h, struct cache_file_new, alone or behind the older table that it can be
// appended to. Entries for special hardware are left out: the bundle is to run on any processor of its
// architecture.
func parseLDCache(b []byte) (map[string][]string, error) {
	le := binary.LittleEndian
	if bytes.HasPrefix(b, []byte(ldOldMagic)) {
		// struct cache_file: magic [11], padding, nlibs u32, then entries of 12 bytes; the new table follows,
		// aligned to 8.
		if len(b) < 16 {
			return nil, errors.New("it ends within its header")
		}
		end := 16 + 12*uint64(le.Uint32(b[12:]))
		end = (end + 7) &^ 7
		if end > uint64(len(b)) {
			return nil, errors.New("its first table is longer than the file")
		}
		b = b[end:]
	}
	const headerSize, entrySize = 48, 24
	if len(b) < headerSize || !bytes.HasPrefix(b, []byte(ldMagic)) {
		return nil, errors.New("it does not have glibc's format")
	}
	count := uint64(le.Uint32(b[20:]))
	if count > uint64(len(b)-headerSize)/entrySize {
		return nil, fmt.Errorf("it announces %d entries, more than it has room for", count)
	}
	libs := make(map[string][]string, count)
	for i := range count {
		// flags u32, key u32, value u32, OS version u32, hardware capabilities u64
		entry := b[headerSize+i*entrySize:][:entrySize]
		name, ok := cString(b, le.Uint32(entry[4:]))
		value, ok2 := cString(b, le.Uint32(entry[8:]))
		if !ok || !ok2 {
			return nil, fmt.Errorf("entry %d points outside it", i)
		}
		if le.Uint64(entry[16:]) == 0 && path.IsAbs(value) {
			libs[name] = append(libs[name], value)
		}
	}
	return libs, nil
}

// cString returns the NUL-terminated string at b[off:].
func cString(b []byte, off uint32) (string, bool) {
	if uint64(off) >= uint64(len(b)) {
		return "", false
	}
	s, _, found := bytes.Cut(b[off:min(uint64(len(b)), uint64(off)+maxPath)], []byte{0})
	return string(s), found
}
