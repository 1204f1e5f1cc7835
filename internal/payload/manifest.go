package payload

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// Names of the parts of an app. Others are allowed; nothing here depends on what a part holds but the manifest.
const (
	PartManifest   = "manifest"    // Manifest as JSON
	PartRootfs     = "rootfs"      // the image as one read-only file system, see Rootfs.Type
	PartKernel     = "kernel"      // what the hypervisor boots
	PartInitrd     = "initrd"      // cpio archive with the agent
	PartVMM        = "vmm"         // the hypervisor, see VMM
	PartInitScript = "init-script" // run instead of the VM while BAKE_RUN_VM is unset
	PartSBOM       = "sbom"        // bill of materials
)

const (
	// ManifestVersion is the version that this program writes. It reads every version since the first.
	ManifestVersion = 3
	// MaxManifestSize is the longest manifest, in bytes.
	MaxManifestSize = 1 << 20
)

// A Manifest says what an app is made of and how it runs. Its JSON form is the part PartManifest. Every string
// and list is bounded by Validate. A field that is added later comes with a new version: Network came with 2,
// Healthcheck with 3.
type Manifest struct {
	Version     int      `json:"version"`               // 1 to ManifestVersion
	BakeVersion string   `json:"bakeVersion,omitempty"` // of the program that built the app
	Target      Target   `json:"target"`
	Image       Image    `json:"image,omitzero"`
	Rootfs      Rootfs   `json:"rootfs"`
	Process     Process  `json:"process,omitzero"`
	Kernel      Kernel   `json:"kernel,omitzero"`
	VMM         VMM      `json:"vmm,omitzero"`
	Defaults    Defaults `json:"defaults,omitzero"`
	Network     Network  `json:"network,omitzero"`
}

// Target is the machine that the app runs on, in Go's names. The guest has the same architecture.
type Target struct {
	OS   string `json:"os"`   // linux or darwin
	Arch string `json:"arch"` // amd64 or arm64
}

// Image is where the root file system came from; all of it is empty for a directory or a ready file system.
type Image struct {
	Ref    string   `json:"ref,omitempty"`    // as the builder was told
	Digest string   `json:"digest,omitempty"` // of the image manifest, "sha256:<64 hex digits>"
	Layers []string `json:"layers,omitempty"` // diff IDs, lowest first, in the same form
}

// Rootfs describes the part PartRootfs.
type Rootfs struct {
	Type string `json:"type"` // erofs, squashfs or ext4
}

// Process is what runs in the guest unless flags say otherwise: the image's configuration (OCI image
// specification, config.md) with the builder's flags applied. The command is Entrypoint, then Args if there
// are any, else Cmd.
type Process struct {
	Entrypoint   []string          `json:"entrypoint,omitempty"`
	Cmd          []string          `json:"cmd,omitempty"`
	Args         []string          `json:"args,omitempty"`
	Env          []string          `json:"env,omitempty"`          // NAME=VALUE
	Cwd          string            `json:"cwd,omitempty"`          // absolute
	User         string            `json:"user,omitempty"`         // the image's: name or number, with :group or not
	UID          *uint32           `json:"uid,omitempty"`          // over User
	GID          *uint32           `json:"gid,omitempty"`          // over User
	StopSignal   string            `json:"stopSignal,omitempty"`   // SIGTERM, or a number
	ExposedPorts []string          `json:"exposedPorts,omitempty"` // 6379/tcp
	Labels       map[string]string `json:"labels,omitempty"`
	Healthcheck  *Healthcheck      `json:"healthcheck,omitempty"`
}

// The first words of Healthcheck.Test.
const (
	HealthNone    = "NONE"      // nothing is tested
	HealthCommand = "CMD"       // then a program and its arguments
	HealthShell   = "CMD-SHELL" // then one line for /bin/sh
)

// Healthcheck is the image's test of whether the container does its work, which Docker's image configuration has
// under that name and the OCI's does not. Times are in nanoseconds; what is zero is not said.
type Healthcheck struct {
	Test          []string      `json:"test,omitempty"`
	Interval      time.Duration `json:"interval,omitempty"`      // between two tests
	Timeout       time.Duration `json:"timeout,omitempty"`       // of one test
	StartPeriod   time.Duration `json:"startPeriod,omitempty"`   // in which no failure counts
	StartInterval time.Duration `json:"startInterval,omitempty"` // between two tests in that
	Retries       int           `json:"retries,omitempty"`       // failures in a row that count
}

// Kernel describes the parts PartKernel and PartInitrd.
type Kernel struct {
	Version string `json:"version,omitempty"` // as uname -r says
	Source  string `json:"source,omitempty"`  // where it came from, for people
	Arch    string `json:"arch,omitempty"`    // amd64 or arm64
	SHA256  string `json:"sha256,omitempty"`  // of the imported image, 64 hex digits
	Modules bool   `json:"modules,omitempty"` // the initrd holds modules that the agent must load
}

// VMM describes the part PartVMM; it is empty if there is none.
type VMM struct {
	Kind    string `json:"kind,omitempty"`    // qemu (a bundle of files) or firecracker (one executable)
	Version string `json:"version,omitempty"` // as it calls itself
	Entry   string `json:"entry,omitempty"`   // the executable within the bundle
}

// Defaults are flags given at build time; zero means not given.
type Defaults struct {
	CPUs             int    `json:"cpus,omitempty"`
	MemoryMiB        int    `json:"memoryMiB,omitempty"`
	EphemeralDiskMiB int    `json:"ephemeralDiskMiB,omitempty"`
	BootArgs         string `json:"bootArgs,omitempty"`
	Hypervisor       string `json:"hypervisor,omitempty"`
}

// Network is the part of the policy on what the guest may reach that was given at build time and that nothing at
// run time widens; empty is none. What the rules mean, and whether they do, package policy knows.
type Network struct {
	Allow        []string `json:"allow,omitempty"`        // rules; if there are any, all else is denied
	Deny         []string `json:"deny,omitempty"`         // rules
	HostLoopback bool     `json:"hostLoopback,omitempty"` // the host's loopback is open
	Disabled     bool     `json:"disabled,omitempty"`     // there is no network
}

// EncodeManifest validates m and returns its JSON, the same bytes for the same m.
func EncodeManifest(m *Manifest) ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m); err != nil {
		return nil, fmt.Errorf("encode the manifest: %w", err)
	}
	if buf.Len() > MaxManifestSize {
		return nil, fmt.Errorf("the manifest would be %d bytes long, more than %d: shorten the environment or the labels", buf.Len(), MaxManifestSize)
	}
	return buf.Bytes(), nil
}

// DecodeManifest reads one JSON manifest and validates it. A later version is ErrNewer, whatever else it holds.
func DecodeManifest(b []byte) (*Manifest, error) {
	if len(b) > MaxManifestSize {
		return nil, fmt.Errorf("the manifest is %d bytes long, more than %d", len(b), MaxManifestSize)
	}
	var probe struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &probe); err != nil {
		return nil, fmt.Errorf("the manifest is not JSON as bake writes it: %w", err)
	}
	if probe.Version > ManifestVersion {
		return nil, fmt.Errorf("manifest version %d is unknown here (this is version %d): %w", probe.Version, ManifestVersion, ErrNewer)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	m := new(Manifest)
	if err := dec.Decode(m); err != nil {
		return nil, fmt.Errorf("the manifest is not as bake writes it: %w", err)
	}
	if err := m.Validate(); err != nil {
		return nil, err
	}
	return m, nil
}
