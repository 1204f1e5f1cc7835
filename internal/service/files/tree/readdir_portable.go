//go:build darwin || portabletree

package tree

// maxSaved bounds the entries of one directory.
const maxSaved = 4 << 20

// dirState is the entries of a directory as they were when it was read from
// the beginning: the offsets of the host do not hold everywhere while entries
// are removed. An offset is the number of entries before it.
type dirState struct{ saved []savedEntry }

type savedEntry struct {
	ino  uint64
	kind uint8
	name string
}

func (s *dirState) read(fd int, offset uint64, emit func(*Dirent) bool) error {
	if offset == 0 || s.saved == nil {
		saved, err := readNames(fd)
		if err != nil {
			return errno(err)
		}
		s.saved = saved
	}
	for i := offset; i < uint64(len(s.saved)); i++ {
		e := &s.saved[i]
		if !emit(&Dirent{Ino: e.ino, Offset: i + 1, Type: e.kind, Name: []byte(e.name)}) {
			break
		}
	}
	return nil
}
