package appcmd

import (
	"testing"

	"github.com/spf13/cobra"
)

func TestIsVerb(t *testing.T) {
	cmd := &cobra.Command{Use: "app", Run: func(*cobra.Command, []string) {}, CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true}}
	cmd.AddCommand(&cobra.Command{Use: "stop [NAME]", Aliases: []string{"halt"}, Run: func(*cobra.Command, []string) {}})
	for arg, want := range map[string]bool{
		"stop": true, "halt": true, "help": true, "completion": true, "__complete": true, "__completeNoDesc": true,
		"--help": false, "-h": false, "--version": false, "": false, "sto": false, "STOP": false, "--": false, "start": false,
	} {
		if got := isVerb(cmd, []string{arg, "stop"}); got != want {
			t.Errorf("%q: %v", arg, got)
		}
	}
	if isVerb(cmd, nil) {
		t.Error("no arguments are a verb")
	}
}
