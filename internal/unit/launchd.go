package unit

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"howett.net/plist"
)

// LaunchdOptions say for which launchd a property list is.
type LaunchdOptions struct {
	// Daemon is for the system's, /Library/LaunchDaemons; otherwise it is an
	// agent of the user who logs in, ~/Library/LaunchAgents.
	Daemon bool
	// Label is the job's; empty is one made of the app's name.
	Label string
	// Home is the user's home, an agent's logs go there.
	Home string
}

// launchdJob is launchd.plist(5), as far as it is needed.
type launchdJob struct {
	Label             string
	ProgramArguments  []string
	RunAtLoad         bool
	KeepAlive         any // bool, or a dictionary of conditions
	ExitTimeOut       int64
	ProcessType       string
	Umask             int
	StandardOutPath   string
	StandardErrorPath string
}

// Launchd writes a property list for launchd, in XML.
func Launchd(a App, o LaunchdOptions) ([]byte, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	job := launchdJob{
		Label:            o.Label,
		ProgramArguments: append([]string{a.Exe}, a.argv(withoutManaged)...),
		RunAtLoad:        true,
		KeepAlive:        false,
		ExitTimeOut:      seconds(a.StopTimeout + shutdown),
		// The default would give the VM little of the CPU and the disk.
		ProcessType: "Interactive",
		Umask:       0o077,
	}
	if job.Label == "" {
		job.Label = "bake." + label(a.Name)
	}
	switch r := a.Restart; {
	case r.OnFailure && r.Max > 0:
		return nil, fmt.Errorf("launchd counts no restarts: give --restart on-failure, always or no in place of on-failure:%d", r.Max)
	case r.Always:
		job.KeepAlive = true
	case r.OnFailure:
		job.KeepAlive = map[string]bool{"SuccessfulExit": false}
	}
	logs := "/var/log"
	if !o.Daemon {
		if !filepath.IsAbs(o.Home) {
			return nil, errors.New("your home is not known, and an agent's log belongs there: set HOME, or print a daemon with --daemon")
		}
		logs = filepath.Join(o.Home, "Library", "Logs")
	}
	job.StandardOutPath = filepath.Join(logs, job.Label+".log")
	job.StandardErrorPath = job.StandardOutPath
	for _, s := range append(slices.Clone(job.ProgramArguments), job.Label, job.StandardOutPath) {
		if err := checkXML(s); err != nil {
			return nil, err
		}
	}
	data, err := plist.MarshalIndent(job, plist.XMLFormat, "\t")
	if err != nil {
		return nil, fmt.Errorf("write the property list: %w", err)
	}
	return append(data, '\n'), nil
}

// checkXML says that XML 1.0 (section 2.2, Char) has a way to write s.
func checkXML(s string) error {
	for _, r := range s {
		if r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff {
			return fmt.Errorf("%.60q has a character that no property list can hold, %U: pass it by a file", s, r)
		}
	}
	return nil
}
