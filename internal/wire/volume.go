package wire

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"unicode/utf8"
)

// MaxVolumes bounds BootManifest.Volumes.
const MaxVolumes = 64

// The values of Volume.Kind.
const (
	Volume9P       = "9p"       // a share over [PortFiles]
	VolumeVirtioFS = "virtiofs" // a share that the hypervisor has
	VolumeDisk     = "disk"     // a filesystem on a block device
	VolumeTmpfs    = "tmpfs"    // memory
)

// The values of Volume.Cache, which are those of v9fs (the kernel's
// filesystems/9p.rst): CacheNone asks the host for everything, CacheMmap does
// but for files that are mapped, and CacheLoose believes that nobody but the
// guest changes the files.
const (
	CacheNone  = "none"
	CacheMmap  = "mmap"
	CacheLoose = "loose"
)

// VolumeFile is the name of the only entry of a share with File.
const VolumeFile = "file"

// VolumeTagPrefix comes before the ID in the tag of a virtiofs device.
const VolumeTagPrefix = "bake"

// The bounds of Volume.MSize, the size of the longest 9P message in bytes. The
// upper one is that of the kernel's 9P client on a socket (MAX_SOCK_BUF in
// net/9p/trans_fd.c), and less than the lower one is no use.
const (
	MinMSize = 8 << 10
	MaxMSize = 1 << 20
)

// A Volume is a filesystem that the agent mounts in the container, beside the
// image. BootManifest.Volumes has them in the order of mounting: one that is
// mounted inside another comes after it.
type Volume struct {
	// ID names the volume on [PortFiles], in the tag of a virtiofs device and
	// in the guest's paths: 1 to 16 letters (a-z) and digits.
	ID   string `json:"id"`
	Kind string `json:"kind"`
	// Target is where the container has it: a clean absolute path.
	Target string `json:"target"`
	// Device is a disk's path in the guest, /dev/vdX, and Type is the
	// filesystem on it, ext4.
	Device string `json:"device,omitempty"`
	Type   string `json:"type,omitempty"`
	// File says that a share is one file: [VolumeFile] in its root.
	File bool `json:"file,omitempty"`
	// Subdir is the directory of a disk that the container gets, made if it is
	// missing; empty means the filesystem's root.
	Subdir string `json:"subdir,omitempty"`
	// CopyUp gives a disk's Subdir, if it is empty, what the image has at Target,
	// with owners, modes and extended attributes. On a disk that is ReadOnly it
	// says nothing.
	CopyUp   bool `json:"copyUp,omitempty"`
	ReadOnly bool `json:"readOnly,omitempty"`
	NoSUID   bool `json:"nosuid,omitempty"`
	NoDev    bool `json:"nodev,omitempty"`
	NoExec   bool `json:"noexec,omitempty"`
	// Notify says that the host tells of changes in a share, see [HostVolume].
	Notify bool `json:"notify,omitempty"`
	// Cache and MSize are those of a 9P share, and always set there.
	Cache string `json:"cache,omitempty"`
	MSize int    `json:"msize,omitempty"`
	// Size is a tmpfs's in bytes, 0 for the kernel's default, half of the
	// memory. Mode is that of its root directory, 0 for 01777, and UID and GID
	// are who that belongs to.
	Size int64  `json:"size,omitempty"`
	Mode uint32 `json:"mode,omitempty"`
	UID  uint32 `json:"uid,omitempty"`
	GID  uint32 `json:"gid,omitempty"`
}

// Share says whether the volume's files are the host's.
func (v *Volume) Share() bool { return v.Kind == Volume9P || v.Kind == VolumeVirtioFS }

// Tag is the tag of the volume's virtiofs device.
func (v *Volume) Tag() string { return VolumeTagPrefix + v.ID }

// Check says what is wrong with the volume, in itself.
func (v *Volume) Check() error {
	if !validVolumeID(v.ID) {
		return fmt.Errorf("a volume's ID is %.32q and must be 1 to 16 letters and digits", v.ID)
	}
	if err := checkTarget(v.Target); err != nil {
		return fmt.Errorf("volume %s: %w", v.ID, err)
	}
	if err := v.checkKind(); err != nil {
		return fmt.Errorf("volume %s for %.256q: %w", v.ID, v.Target, err)
	}
	return nil
}

// CheckVolumes says what is wrong with a manifest's volumes: with each, or
// with their number or order.
func CheckVolumes(volumes []Volume) error {
	if len(volumes) > MaxVolumes {
		return fmt.Errorf("there are %d volumes, and %d are the most that are possible", len(volumes), MaxVolumes)
	}
	ids, devices, targets := map[string]bool{}, map[string]string{}, map[string]bool{}
	// outside has every directory above a target so far.
	outside := map[string]bool{}
	for i := range volumes {
		v := &volumes[i]
		if err := v.Check(); err != nil {
			return err
		}
		if ids[v.ID] {
			return fmt.Errorf("two volumes have the ID %s", v.ID)
		}
		ids[v.ID] = true
		if other, ok := devices[v.Device]; ok {
			return fmt.Errorf("the volumes for %.256q and %.256q are both on %s", other, v.Target, v.Device)
		}
		if v.Device != "" {
			devices[v.Device] = v.Target
		}
		switch {
		case targets[v.Target]:
			return fmt.Errorf("two volumes have the same place in the container, %.256q", v.Target)
		case outside[v.Target]:
			return fmt.Errorf("the volume for %.256q comes after one that is inside it", v.Target)
		}
		targets[v.Target] = true
		for dir := path.Dir(v.Target); dir != "/"; dir = path.Dir(dir) {
			outside[dir] = true
		}
	}
	return nil
}

func (v *Volume) checkKind() error {
	disk, ninep, tmpfs := v.Kind == VolumeDisk, v.Kind == Volume9P, v.Kind == VolumeTmpfs
	if !disk && !tmpfs && !v.Share() {
		return fmt.Errorf("its kind is %.32q and must be %s, %s, %s or %s", v.Kind, Volume9P, VolumeVirtioFS, VolumeDisk, VolumeTmpfs)
	}
	for _, f := range []struct {
		name     string
		set, may bool
	}{
		{"a device", v.Device != "", disk},
		{"a type", v.Type != "", disk},
		{"a subdirectory", v.Subdir != "", disk},
		{"a copy of the image's files", v.CopyUp, disk},
		{"a single file", v.File, v.Share()},
		{"notices of changes", v.Notify, v.Share()},
		{"a cache mode", v.Cache != "", ninep},
		{"a message size", v.MSize != 0, ninep},
		{"a size", v.Size != 0, tmpfs},
		{"a mode", v.Mode != 0, tmpfs},
		{"an owner", v.UID != 0 || v.GID != 0, tmpfs},
	} {
		if f.set && !f.may {
			return fmt.Errorf("it is of the kind %s, which knows nothing of %s", v.Kind, f.name)
		}
	}
	switch {
	case disk:
		return v.checkDisk()
	case ninep && v.Cache != CacheNone && v.Cache != CacheMmap && v.Cache != CacheLoose:
		return fmt.Errorf("its cache mode is %.32q and must be %s, %s or %s", v.Cache, CacheNone, CacheMmap, CacheLoose)
	case ninep && (v.MSize < MinMSize || v.MSize > MaxMSize):
		return fmt.Errorf("its message size is %d bytes and must be %d to %d", v.MSize, MinMSize, MaxMSize)
	case v.Size < 0:
		return fmt.Errorf("its size is %d bytes", v.Size)
	case v.Mode > 0o7777:
		return fmt.Errorf("its mode is %#o, which has more than permission bits", v.Mode)
	case v.UID == noID || v.GID == noID:
		return errors.New("its owner is -1, which is nobody")
	}
	return nil
}

func (v *Volume) checkDisk() error {
	if !validDisk(v.Device) {
		return fmt.Errorf("its device is %.32q and must be /dev/vda or another virtio disk", v.Device)
	}
	if v.Type != "ext4" {
		return fmt.Errorf("its filesystem is of the type %.32q and must be ext4", v.Type)
	}
	if v.Subdir != "" && !validName(v.Subdir) {
		return fmt.Errorf("its subdirectory is %.256q and must be one name", v.Subdir)
	}
	return nil
}

// noID is -1, which chown(2) takes for "leave it".
const noID = 1<<32 - 1

const (
	maxPath = 4095 // PATH_MAX of Linux without the NUL
	maxName = 255  // NAME_MAX
)

func checkTarget(target string) error {
	switch {
	case len(target) > maxPath:
		return fmt.Errorf("its place in the container is a path of %d bytes, and %d are the most that are possible", len(target), maxPath)
	case !strings.HasPrefix(target, "/") || path.Clean(target) != target:
		return fmt.Errorf("its place in the container is %.256q, which is no absolute path without . and ..", target)
	case target == "/":
		return errors.New("its place in the container is /, where the image is")
	case !utf8.ValidString(target):
		return fmt.Errorf("its place in the container is %.256q, which is not UTF-8", target)
	}
	for name := range strings.SplitSeq(target[1:], "/") {
		if !validName(name) {
			return fmt.Errorf("its place in the container is %.256q, and %.256q can be nobody's name", target, name)
		}
	}
	return nil
}

// validName says whether s can be a directory's entry that somebody made.
func validName(s string) bool {
	return s != "" && s != "." && s != ".." && len(s) <= maxName && !strings.ContainsAny(s, "/\x00")
}

// validDisk says whether s is /dev/vd with one to three letters.
func validDisk(s string) bool {
	letters, ok := strings.CutPrefix(s, "/dev/vd")
	return ok && len(letters) >= 1 && len(letters) <= 3 && strings.Trim(letters, "abcdefghijklmnopqrstuvwxyz") == ""
}

const maxVolumeID = 16

func validVolumeID(s string) bool {
	return s != "" && len(s) <= maxVolumeID && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

// VolumeAnswerLimit bounds the frame of WriteVolumeAnswer, in bytes.
const VolumeAnswerLimit = 4096

// WriteVolumeHello begins a connection to [PortFiles]: the guest's frame says
// which volume it is for, and the host answers, see [WriteVolumeAnswer].
func WriteVolumeHello(w io.Writer, id string) error {
	if !validVolumeID(id) {
		return fmt.Errorf("a volume's ID is %.32q and must be 1 to 16 letters and digits", id)
	}
	return WriteFrame(w, []byte(id), maxVolumeID)
}

// ReadVolumeHello reads which volume a connection is for.
func ReadVolumeHello(r io.Reader) (id string, err error) {
	b, err := ReadFrame(r, maxVolumeID)
	if err != nil {
		return "", fmt.Errorf("read a volume's ID: %w", err)
	}
	if !validVolumeID(string(b)) {
		return "", fmt.Errorf("the guest asks for the volume %.32q, which can be nobody's ID", b)
	}
	return string(b), nil
}

// WriteVolumeAnswer tells the guest that 9P follows, if refusal is empty, or
// why not. A refusal that is too long is cut.
func WriteVolumeAnswer(w io.Writer, refusal string) error {
	if len(refusal) > VolumeAnswerLimit {
		refusal = strings.ToValidUTF8(refusal[:VolumeAnswerLimit], "?")
	}
	return WriteFrame(w, []byte(refusal), VolumeAnswerLimit)
}

// ErrVolumeRefused is wrapped by ReadVolumeAnswer's error where the host has
// refused a volume.
var ErrVolumeRefused = errors.New("the host refuses it")

// ReadVolumeAnswer reads the host's answer. Nil means that 9P follows.
func ReadVolumeAnswer(r io.Reader) error {
	b, err := ReadFrame(r, VolumeAnswerLimit)
	if err != nil {
		return fmt.Errorf("read the host's answer: %w", err)
	}
	if len(b) > 0 {
		return fmt.Errorf("%w: %s", ErrVolumeRefused, strings.ToValidUTF8(string(b), "?"))
	}
	return nil
}
