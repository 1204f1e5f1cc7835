package sshclient

import "testing"

func TestSignalCode(t *testing.T) {
	for name, want := range map[string]int{
		"TERM": 143, "SIGKILL": 137, "XCPU@openssh.com": 152, "RTMIN": 162, "RTMIN+0": 162, "SIGRTMIN+3": 165, "RTMIN+30": 192,
		"RTMIN+31": 255, "": 255, "NONSENSE": 255, "RTMIN-1": 255,
	} {
		if got := signalCode(name); got != want {
			t.Errorf("%q: got %d, want %d", name, got, want)
		}
	}
}
