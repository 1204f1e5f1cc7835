package appcmd

// usageTemplate is what --help prints after the description, of the app and of
// its verbs. Running the container is what most look for, so the flags come
// first, and of the verbs there are the names.
const usageTemplate = `Usage:
  {{if .Runnable}}{{.UseLine}}{{else}}{{.CommandPath}} COMMAND{{end}}{{if .HasExample}}

Examples:
{{.Example}}{{end}}{{if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasAvailableSubCommands}}{{if .HasParent}}

Commands:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{else}}

Verbs ({{.CommandPath}} VERB --help says more):{{$all := .Commands}}{{range $group := .Groups}}
  {{rpad .Title 19}}{{range $all}}{{if and (eq .GroupID $group.ID) .IsAvailableCommand}} {{.Name}}{{end}}{{end}}{{end}}{{range $all}}{{if and (eq .GroupID "") .IsAvailableCommand}}
  {{rpad .Name 19}} {{.Short}}{{end}}{{end}}{{end}}{{end}}
`
