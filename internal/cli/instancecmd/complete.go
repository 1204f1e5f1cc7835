package instancecmd

import (
	"slices"

	"github.com/spf13/cobra"

	"bake/internal/instance"
)

// CompleteNames completes the names of living instances, each once.
func CompleteNames(scope Scope) cobra.CompletionFunc { return completeNames(scope, false) }

// completeNames completes the names of living instances, and with ended of those
// that have ended.
func completeNames(scope Scope, ended bool) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		rows, err := list(scope, ended)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var names []cobra.Completion
		for _, r := range rows {
			if !slices.Contains(args, r.Name) && instance.CheckName(r.Name) == nil {
				names = append(names, cobra.CompletionWithDesc(r.Name, cell(r.Image)))
			}
		}
		slices.Sort(names)
		return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
	}
}
