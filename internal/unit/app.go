package unit

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"bake/internal/service/forward"
	"bake/internal/volume"
)

// An App is what a unit runs.
type App struct {
	// Exe is the app's file, an absolute path.
	Exe string
	// Title is what the app calls itself, for people.
	Title string
	// Name is what the unit is called after: the app's file, or the instance.
	Name string
	// Flags are the app's own, each as --NAME=VALUE. The paths in them are
	// absolute: nobody knows where a unit starts.
	Flags []string
	// Command is what follows --.
	Command []string

	// What follows are the same flags once more, as what they mean.

	StopTimeout, BootTimeout time.Duration
	Restart                  Restart
	// StopStatus is the exit code of a container that its stop signal ended.
	StopStatus int
	Ports      []forward.Port
	// Exposed are further ports that the image serves, for --publish-all.
	Exposed []forward.Port
	// Volumes are those of --volume.
	Volumes []Volume
	// Reads are other files of the host that the app reads.
	Reads []string
	// Writes are folders of the host that it makes files in.
	Writes []string
	// MemoryMiB is the guest's memory; CPUs is 0 if the app decides.
	MemoryMiB, CPUs int
	// Health is the test of the container's health, or nil.
	Health *Health
	// InitScript says that the app runs a script on the host that starts the VM.
	InitScript bool
}

// A Volume is one --volume.
type Volume struct {
	volume.Spec
	// Flag is how it was written, HOST:CONTAINER[:FLAGS], with an absolute HOST.
	Flag string
}

// Restart says when to start an app again that has ended.
type Restart struct {
	Always    bool
	OnFailure bool
	// Max bounds OnFailure; 0 is no bound.
	Max int
}

// A Health is how to find out whether the container does its work.
type Health struct {
	// Command is the test as arguments.
	Command                        []string
	Interval, Timeout, StartPeriod time.Duration
	Retries                        int
}

// shutdown is what the app may take to end beside what the container is given:
// to flush the guest's disks, to end the VM, and for a busy machine.
const shutdown = 15 * time.Second

// overheadMiB is the memory of an app beside the guest's: the VMM, the process of
// the app, the server of volumes, and what they have in buffers.
const overheadMiB = 192

// argv are the app's arguments. Flags for which replace has an answer other than
// keep are replaced by it.
func (a App) argv(replace func(name, value string) (with []string, keep bool)) []string {
	var argv []string
	for _, flag := range a.Flags {
		name, value, _ := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
		if with, keep := replace(name, value); keep {
			argv = append(argv, flag)
		} else {
			argv = append(argv, with...)
		}
	}
	if len(a.Command) > 0 {
		argv = append(append(argv, "--"), a.Command...)
	}
	return argv
}

// managed are flags that speak of what the service manager does: to start an app
// again, and to have it in the background.
var managed = []string{"restart", "detach"}

func withoutManaged(name, _ string) ([]string, bool) { return nil, !slices.Contains(managed, name) }

// check says what no format can express.
func (a App) check() error {
	if !filepath.IsAbs(a.Exe) {
		return fmt.Errorf("the app's file %q is no absolute path, so nobody else would find it", a.Exe)
	}
	for _, s := range slices.Concat([]string{a.Exe, a.Title, a.Name}, a.Flags, a.Command) {
		if err := checkText(s); err != nil {
			return err
		}
	}
	return nil
}

func checkText(s string) error {
	switch {
	case !utf8.ValidString(s):
		return fmt.Errorf("%.60q is not UTF-8 text, and a unit is", s)
	case strings.ContainsRune(s, 0):
		return errors.New("an argument with a NUL byte is none that a program can have")
	}
	return nil
}

// seconds is d, rounded up.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// label makes a DNS label (RFC 1123) of a name: lower case letters, digits and
// hyphens, at most 50 of them so that there is room for an ending.
func label(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
			b.WriteRune(r)
		} else if b.Len() > 0 {
			b.WriteByte('-')
		}
		if b.Len() == 50 {
			break
		}
	}
	if s := strings.Trim(b.String(), "-"); s != "" {
		return s
	}
	return "app"
}

// oneLine is a title without what ends a line or is none to print.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || 0x7f <= r && r < 0xa0 || r == 0x2028 || r == 0x2029 {
			return '?'
		}
		return r
	}, s)
}
