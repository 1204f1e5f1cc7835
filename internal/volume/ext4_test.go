package volume

import (
	"bytes"
	"os"
	"testing"
)

// Whatever an image says, what is believed of it fits into it.
func FuzzSuperblock(f *testing.F) {
	image, err := os.ReadFile(testImage(f, nil))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(image[:superblockAt+superblockSize], int64(len(image)))
	f.Add(make([]byte, 4096), int64(4096))
	f.Add([]byte("QFI\xfb"), int64(1<<40))
	f.Fuzz(func(t *testing.T, head []byte, size int64) {
		s, err := readSuperblock(bytes.NewReader(head), size)
		if err == nil && (s.size < 0 || s.size > size) {
			t.Errorf("a filesystem of %d bytes in %d", s.size, size)
		}
		for _, readOnly := range []bool{true, false} {
			if checkExt4(bytes.NewReader(head), size, readOnly) == nil && err != nil {
				t.Error("what has no superblock is taken")
			}
		}
	})
}
