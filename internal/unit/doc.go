// Package unit writes an app, with the flags that it is to have, in the languages
// of what starts services: a unit of systemd, a property list of launchd, objects
// of Kubernetes and a job of Nomad.
//
// Each format is one file. All of them start the app with the very arguments that
// were given, whatever characters these hold: what a format cannot say is an error
// and never something similar. The package writes text and does nothing; it knows
// neither flags' meanings but those of the few that it replaces, nor what is
// installed on the machine.
package unit
