package files

import (
	"context"
	"errors"
)

// notify is Linux's: macOS tells of changes by path, FSEvents, or by a
// descriptor of every file, kqueue(2).
func (s *server) notify(context.Context, *share) error {
	return errors.New("changes on the host are reported on Linux only: leave :notify out")
}
