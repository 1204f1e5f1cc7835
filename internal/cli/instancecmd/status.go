package instancecmd

import (
	"cmp"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"bake/internal/instance"
	"bake/internal/wire"
)

func sortRows(rows []row) {
	slices.SortStableFunc(rows, func(a, b row) int {
		return cmp.Or(b.Started.Compare(a.Started), cmp.Compare(a.ID, b.ID))
	})
}

// status is what an instance does, in the words of docker ps.
func status(r row, now time.Time) string {
	if r.Exit != nil && r.Finished != nil {
		return fmt.Sprintf("Exited (%d) %s ago", r.Exit.Code, age(now.Sub(*r.Finished)))
	}
	switch r.State {
	case instance.StateStarting:
		return "Starting"
	case instance.StateStopping:
		return "Stopping"
	case instance.StateRestarting:
		return "Restarting"
	case instance.StateRunning:
	default: // of a later version
		return cell(string(r.State))
	}
	up := "Up " + age(now.Sub(r.Started))
	switch r.Health {
	case "":
		return up
	case wire.HealthStarting:
		return up + " (health: starting)"
	}
	return up + " (" + cell(r.Health) + ")"
}

// age is a time in one number, as docker tells it.
func age(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Second:
		return "less than a second"
	case d < 2*time.Second:
		return "1 second"
	case d < time.Minute:
		return fmt.Sprintf("%d seconds", d/time.Second)
	case d < 2*time.Minute:
		return "about a minute"
	case d < time.Hour:
		return fmt.Sprintf("%d minutes", d/time.Minute)
	case d < 2*time.Hour:
		return "about an hour"
	case d < 2*day:
		return fmt.Sprintf("%d hours", d/time.Hour)
	case d < 14*day:
		return fmt.Sprintf("%d days", d/day)
	case d < 60*day:
		return fmt.Sprintf("%d weeks", d/(7*day))
	case d < 730*day:
		return fmt.Sprintf("%d months", d/(30*day))
	}
	return fmt.Sprintf("%d years", d/(365*day))
}

// imageName is what the instance runs: an image, or else an app's file.
func imageName(i instance.Info, full bool) string {
	switch {
	case i.Image != "" && full && i.Digest != "":
		return i.Image + "@" + i.Digest
	case i.Image != "" && !full && strings.HasPrefix(i.Image, "/"):
		// It was built from a file: a path is longer than a line is wide.
		return filepath.Base(i.Image)
	case i.Image != "":
		return i.Image
	case full:
		return i.Exe
	}
	return filepath.Base(i.Exe)
}

// commandWidth is how much of a command docker ps shows.
const commandWidth = 20

// command is the container's command in quotes.
func command(args []string, full bool) string {
	s := []rune(cell(strings.Join(args, " ")))
	if !full && len(s) > commandWidth {
		s = append(s[:commandWidth-1], '…')
	}
	return `"` + string(s) + `"`
}

// ports are published ports as docker ps prints them, neighbours as one range.
func ports(list []instance.Port) string {
	var all []string
	for i := 0; i < len(list); {
		first, last := list[i], list[i]
		n := 1
		for i+n < len(list) && follows(last, list[i+n]) {
			last = list[i+n]
			n++
		}
		host, guest := first.Host, strconv.Itoa(int(first.Guest))
		if n > 1 {
			_, port, _ := strings.Cut(last.Host[strings.LastIndexByte(last.Host, ':'):], ":")
			host += "-" + port
			guest += fmt.Sprintf("-%d", last.Guest)
		}
		all = append(all, fmt.Sprintf("%s->%s/%s", host, guest, first.Proto))
		i += n
	}
	return strings.Join(all, ", ")
}

// follows says whether b is the port after a, on both sides.
func follows(a, b instance.Port) bool {
	x, err1 := netip.ParseAddrPort(a.Host)
	y, err2 := netip.ParseAddrPort(b.Host)
	return err1 == nil && err2 == nil && a.Proto == b.Proto && x.Addr() == y.Addr() &&
		uint32(y.Port()) == uint32(x.Port())+1 && uint32(b.Guest) == uint32(a.Guest)+1
}
