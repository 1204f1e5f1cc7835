package instance

import "time"

// InfoVersion is the version of [Info] that this build writes. An instance of
// another version is listed, and only asked for what both know.
const InfoVersion = 1

// Info is what an instance tells of itself, instance.json.
type Info struct {
	Version int    `json:"version"`
	ID      string `json:"id"`   // 16 hexadecimal digits, the directory's name
	Name    string `json:"name"` // unique among those that run; made up if none was given
	PID     int    `json:"pid"`
	// App identifies the app's file by its contents: the SHA-256 of the
	// payload's header, 64 hexadecimal digits.
	App string `json:"app"`
	// Exe is the app's file when it was started, which may have moved since.
	Exe        string    `json:"exe"`
	Image      string    `json:"image,omitempty"`
	Digest     string    `json:"digest,omitempty"`
	Command    []string  `json:"command,omitempty"`
	Hypervisor string    `json:"hypervisor"`
	CPUs       int       `json:"cpus"`
	MemoryMiB  int       `json:"memoryMiB"`
	Ports      []Port    `json:"ports,omitempty"`
	Started    time.Time `json:"started"` // of the VM that runs now
	State      State     `json:"state"`
	// Health is empty where nothing is tested; else as wire.HealthStarting.
	Health   string `json:"health,omitempty"`
	Restart  string `json:"restart"` // the policy, as --restart has it
	Restarts int    `json:"restarts"`
	Detached bool   `json:"detached"` // its output goes to its log
	// Keep: when it has ended, [ListEnded] still has it.
	Keep bool `json:"keep,omitempty"`
}

// A Port is published on the host.
type Port struct {
	Host  string `json:"host"` // address and port
	Guest uint16 `json:"guest"`
	Proto string `json:"proto"` // tcp or udp
}

// A State is what an instance is doing.
type State string

// The states, in their order.
const (
	StateStarting   State = "starting"   // the guest boots
	StateRunning    State = "running"    // the container's command runs
	StateStopping   State = "stopping"   // it was asked to end
	StateRestarting State = "restarting" // it ended, and starts again after a pause
	StateExited     State = "exited"     // it ended, and is kept: see Ended
)
