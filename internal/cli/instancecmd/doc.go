// Package instancecmd has the verbs that list, watch and end running instances:
// ps, stats, logs, wait, stop, kill and rm. They are the same for an app, which
// speaks of its own instances, and for bake, which speaks of all. It parses and
// prints; package instance finds them and asks them.
//
// Names, flags, output and exit codes are those of docker's commands of the same
// names wherever there is nothing that speaks against it.
package instancecmd

import "github.com/spf13/cobra"

// A Scope is whose instances a command line is about.
type Scope struct {
	// App is that app's payload, [instance.Info].App; empty is all apps.
	App string
}

// Group is the heading of commands for running instances.
const Group = "instances"

// Add adds the verbs to parent.
func Add(parent *cobra.Command, scope Scope) {
	AddGroup(parent)
	for _, cmd := range []*cobra.Command{
		newPs(scope), newStats(scope), newLogs(scope), newWait(scope), newStop(scope), newKill(scope), newRm(scope),
	} {
		cmd.GroupID = Group
		cmd.Flags().SortFlags = false
		parent.AddCommand(cmd)
	}
}

// AddGroup gives parent the heading, once.
func AddGroup(parent *cobra.Command) {
	if !parent.ContainsGroup(Group) {
		parent.AddGroup(&cobra.Group{ID: Group, Title: "Running instances:"})
	}
}
