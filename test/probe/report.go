//go:build linux

package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
)

// report prints as JSON what the process was started with.
func report(args []string) error {
	cwd, err := os.Getwd()
	if err != nil {
		return err
	}
	groups, err := os.Getgroups()
	if err != nil {
		return err
	}
	slices.Sort(groups)
	env := os.Environ()
	slices.Sort(env)
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	comm, err := os.ReadFile("/proc/1/comm")
	if err != nil {
		return err
	}
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(struct {
		Args     []string `json:"args"`
		Env      []string `json:"env"`
		Cwd      string   `json:"cwd"`
		UID      int      `json:"uid"`
		GID      int      `json:"gid"`
		Groups   []int    `json:"groups"`
		Hostname string   `json:"hostname"`
		Init     string   `json:"init"`
	}{args, env, cwd, os.Getuid(), os.Getgid(), groups, host, strings.TrimSpace(string(comm))})
}
