package instance

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// An Ended is an instance that has ended and that was to be kept (--rm=false).
// Its log, if it was detached, is as that of a living one.
type Ended struct {
	Instance
	Exit     Exit      `json:"exit"`
	Finished time.Time `json:"finished"`
}

// endedDir holds a directory for each, named by its ID.
func endedDir() (string, error) {
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find where ended instances are kept: %w; set HOME or XDG_STATE_HOME", err)
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "bake", "ended"), nil
}

// keep makes a record of the instance in dir. Its instance.json comes last, so
// that no half of a record is ever listed.
func keep(dir string, info Info, exit Exit, now time.Time) error {
	all, err := endedDir()
	if err != nil {
		return err
	}
	to := filepath.Join(all, info.ID)
	if err := os.MkdirAll(to, 0o700); err != nil {
		return fmt.Errorf("keep the ended instance: %w", err)
	}
	for _, suffix := range []string{OlderLog, ""} {
		if err := copyFile(LogIn(dir)+suffix, LogIn(to)+suffix); err != nil {
			return fmt.Errorf("keep the ended instance's log: %w", err)
		}
	}
	info.State = StateExited
	if err := writeJSON(filepath.Join(to, infoFile), Ended{Instance{Info: info}, exit, now}); err != nil {
		return fmt.Errorf("keep the ended instance: %w", err)
	}
	return nil
}

// copyFile copies a log; one that does not exist is none.
func copyFile(from, to string) error {
	src, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

// ListEnded returns the instances that have ended and were kept, the oldest
// first.
func ListEnded() ([]Ended, error) {
	all, err := endedDir()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(all)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for ended instances: %w", err)
	}
	var ended []Ended
	for _, entry := range entries {
		var e Ended
		e.Dir = filepath.Join(all, entry.Name())
		if err := readJSON(filepath.Join(e.Dir, infoFile), &e); err == nil && e.ID == entry.Name() {
			ended = append(ended, e)
		}
	}
	sortByAge(ended, func(e Ended) Info { return e.Info })
	return ended, nil
}

// FindEnded is Find among those: of several with one name, it is the one that
// ended last.
func FindEnded(q Query) (Ended, error) {
	all, err := ListEnded()
	if err != nil {
		return Ended{}, err
	}
	byID := map[string]Ended{}
	last := map[string]Ended{}
	for _, e := range all {
		byID[e.ID] = e
		if e.Finished.After(last[e.Name].Finished) {
			last[e.Name] = e
		}
	}
	if e, ok := last[q.Name]; ok && q.Name != "" && (q.App == "" || q.App == e.App) && (q.PID == 0 || q.PID == e.PID) {
		return e, nil
	}
	var instances []Instance
	for _, e := range all {
		instances = append(instances, e.Instance)
	}
	i, err := pick(instances, q)
	if err != nil {
		return Ended{}, err
	}
	return byID[i.ID], nil
}

// Remove deletes all that is left of the instance.
func (e Ended) Remove() error {
	if err := os.RemoveAll(e.Dir); err != nil {
		return fmt.Errorf("remove the instance %s: %w", e.Name, err)
	}
	return nil
}
