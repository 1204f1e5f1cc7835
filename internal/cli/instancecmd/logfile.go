package instancecmd

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"bake/internal/instance"
)

// A logFile reads an instance's log while the instance writes it: the newest
// part is at path, and when that is full it is renamed to path with
// [instance.OlderLog] behind it and begun anew. Nobody but the writer locks
// anything, so every step here sees a rotation that comes between.
type logFile struct {
	path string
	// rest are the parts to read, in their order; the last one is, or was, at
	// path. Each is read from where its descriptor stands.
	rest []*os.File
}

// opens is how often open tries to see both parts of one moment.
const opens = 10

// open begins with the last lines of what there is, or with all if lines is
// negative. A log that nobody has begun is empty.
func (l *logFile) open(lines int) error {
	for try := 1; ; try++ {
		older, err := openPart(l.path + instance.OlderLog)
		if err != nil {
			return err
		}
		newest, err := openPart(l.path)
		if err != nil {
			closePart(older)
			return err
		}
		l.add(older)
		l.add(newest)
		if same, err := isAt(older, l.path+instance.OlderLog); err != nil {
			return err
		} else if same || try == opens {
			break
		}
		l.close() // it was rotated in between
	}
	if lines < 0 {
		return nil
	}
	return l.skip(lines)
}

// openPart opens a part of a log; nil is one that is not there.
func openPart(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return f, err
}

func closePart(f *os.File) {
	if f != nil {
		f.Close()
	}
}

// isAt says whether path leads to f, or to nothing where f is nil.
func isAt(f *os.File, path string) (bool, error) {
	now, err := openPart(path)
	if err != nil {
		return false, err
	}
	defer closePart(now)
	return f == nil && now == nil || sameFile(f, now), nil
}

// sameFile says whether both are open, and one file.
func sameFile(a, b *os.File) bool {
	if a == nil || b == nil {
		return false
	}
	x, err1 := a.Stat()
	y, err2 := b.Stat()
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

func (l *logFile) add(f *os.File) {
	if f != nil {
		l.rest = append(l.rest, f)
	}
}

func (l *logFile) close() {
	for _, f := range l.rest {
		f.Close()
	}
	l.rest = nil
}

// skip goes to the beginning of the last lines. A line may begin in one part and
// end in the next.
func (l *logFile) skip(lines int) error {
	// What ends the last line does not begin another one.
	atEnd := true
	for i := len(l.rest) - 1; i >= 0; i-- {
		f := l.rest[i]
		size, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		off, found, err := lastLines(f, size, &lines, &atEnd)
		if err != nil {
			return err
		}
		if _, err := f.Seek(off, io.SeekStart); err != nil {
			return err
		}
		if found {
			for _, before := range l.rest[:i] {
				before.Close()
			}
			l.rest = l.rest[i:]
			return nil
		}
	}
	return nil
}

// lastLines is where the last lines of the size bytes of r begin. If there are
// fewer, found is false and lines is how many are still to be found before r.
// atEnd says that nothing stands behind r.
func lastLines(r io.ReaderAt, size int64, lines *int, atEnd *bool) (off int64, found bool, err error) {
	if *lines == 0 {
		return size, true, nil
	}
	buf := make([]byte, 64<<10)
	for end := size; end > 0; {
		chunk := buf[:min(int64(len(buf)), end)]
		start := end - int64(len(chunk))
		if _, err := r.ReadAt(chunk, start); err != nil {
			return 0, false, err
		}
		if *atEnd {
			*atEnd = false
			if chunk[len(chunk)-1] == '\n' {
				chunk = chunk[:len(chunk)-1]
			}
		}
		for {
			i := bytes.LastIndexByte(chunk, '\n')
			if i < 0 {
				break
			}
			if *lines--; *lines == 0 {
				return start + int64(i) + 1, true, nil
			}
			chunk = chunk[:i]
		}
		end = start
	}
	return 0, false, nil
}

// copy prints all that there is of the parts, as it is: what a terminal makes of
// it was the container's will, as with docker logs. The last part stays open.
func (l *logFile) copy(w io.Writer) error {
	for len(l.rest) > 0 {
		if _, err := io.Copy(w, l.rest[0]); err != nil {
			return err
		}
		if len(l.rest) == 1 {
			return nil
		}
		l.rest[0].Close()
		l.rest = l.rest[1:]
	}
	return nil
}

// logPoll is how often follow looks for more.
const logPoll = 50 * time.Millisecond

// follow prints what comes, until ended and nothing more is there.
func (l *logFile) follow(w io.Writer, ended <-chan struct{}) error {
	tick := time.NewTicker(logPoll)
	defer tick.Stop()
	for over := false; ; {
		if err := l.more(w); err != nil || over {
			return err
		}
		select {
		case <-tick.C:
		case <-ended:
			over = true
		}
	}
}

// more prints what has come since, through as many rotations as two parts can
// tell of.
func (l *logFile) more(w io.Writer) error {
	for {
		if err := l.copy(w); err != nil {
			return err
		}
		var last *os.File
		if len(l.rest) > 0 {
			last = l.rest[0]
		}
		if same, err := isAt(last, l.path); err != nil || same {
			return err
		}
		newest, err := openPart(l.path)
		if err != nil || newest == nil {
			return err // between the renaming and the new file, or at the end
		}
		// It was rotated. If the older part is not what we have, it was rotated
		// twice, and that one comes first.
		older, err := openPart(l.path + instance.OlderLog)
		if err != nil {
			newest.Close()
			return err
		}
		if sameFile(older, last) || sameFile(older, newest) {
			older.Close()
			older = nil
		}
		// The loop reads what was written to the part that we have before it was
		// renamed, and then these.
		l.add(older)
		l.add(newest)
	}
}
