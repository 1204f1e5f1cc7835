package instancecmd

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bake/internal/instance"
)

func newPs(scope Scope) *cobra.Command {
	var all, quiet, asJSON, noTrunc bool
	var filters []string
	cmd := &cobra.Command{
		Use: "ps [flags]", Aliases: []string{"ls"},
		Short: "List running instances",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("ps lists instances and takes no names: for one of them, give --filter name=%s", args[0])
			}
			return nil
		},
		Example: "  ps -a --filter status=exited\n" +
			"  ps --json | jq -r '.[].name'",
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "list those that have ended too, as far as they were kept (--rm=false)")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the IDs alone")
	cmd.Flags().StringArrayVar(&filters, "filter", nil, "list those alone that fit `KEY=VALUE`: name, id, image, status or health (repeatable)")
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "print IDs, images and commands in full")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.MarkFlagsMutuallyExclusive("json", "quiet")
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	cmd.RegisterFlagCompletionFunc("filter", cobra.FixedCompletions(filterWords(), cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		keep, err := parseFilters(filters)
		if err != nil {
			return err
		}
		// As docker has it: who asks for those that have ended wants to see them.
		rows, err := list(scope, all || keep.wantsEnded())
		if err != nil {
			return err
		}
		rows = keep.apply(rows)
		w := cmd.OutOrStdout()
		switch {
		case asJSON:
			return printJSON(w, rows)
		case quiet:
			return printIDs(w, rows, noTrunc)
		}
		return printTable(w, rows, time.Now(), noTrunc)
	}
	return cmd
}

// A row is one instance, living or ended.
type row struct {
	instance.Instance
	// Exit and Finished are set for one that has ended.
	Exit     *instance.Exit `json:"exit,omitempty"`
	Finished *time.Time     `json:"finished,omitempty"`
}

// list is the scope's instances, the youngest first as docker ps has them, and
// with ended also those.
func list(scope Scope, ended bool) ([]row, error) {
	living, err := instance.List()
	if err != nil {
		return nil, err
	}
	var rows []row
	add := func(r row) {
		if scope.App == "" || r.App == scope.App {
			rows = append(rows, r)
		}
	}
	for _, i := range living {
		add(row{Instance: i})
	}
	if ended {
		gone, err := instance.ListEnded()
		if err != nil {
			return nil, err
		}
		for _, e := range gone {
			e.PID = 0 // somebody else may have that by now
			add(row{Instance: e.Instance, Exit: &e.Exit, Finished: &e.Finished})
		}
	}
	sortRows(rows)
	return rows, nil
}

// shortID is as much of an ID as docker shows.
const shortID = 12

func (r row) id(full bool) string {
	if full {
		return cell(r.ID)
	}
	return cell(r.ID[:min(len(r.ID), shortID)])
}

func printIDs(w io.Writer, rows []row, full bool) error {
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintln(&b, r.id(full))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printJSON prints one array.
func printJSON(w io.Writer, rows []row) error {
	if rows == nil {
		rows = []row{}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(rows)
}

// printTable prints the columns that docker ps has, and the two that a VM has.
func printTable(w io.Writer, rows []row, now time.Time, full bool) error {
	t := newTable(w, "ID", "NAME", "PID", "IMAGE", "COMMAND", "STATUS", "PORTS", "HYPERVISOR")
	for _, r := range rows {
		pid := "-"
		if r.PID != 0 {
			pid = fmt.Sprint(r.PID)
		}
		t.row(r.id(full), r.Name, pid, imageName(r.Info, full), command(r.Command, full), status(r, now), ports(r.Ports), r.Hypervisor)
	}
	return t.flush()
}
