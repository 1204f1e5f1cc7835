package image

import (
	"errors"
	"io"
	"os"
	"runtime"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Options of Open. The zero value is usable.
type Options struct {
	// Arch is the architecture wanted, as Go names it ("amd64", "arm64"); the
	// operating system is always linux. "" is this machine's.
	Arch string
	// CacheDir, if set, keeps layers from registries as blobs/ALGORITHM/HEX,
	// and lets them be downloaded side by side. Several processes may share it.
	CacheDir string
	// TempDir is where an image archive that is compressed as a whole is
	// unpacked to an unlinked file; "" is the system's.
	TempDir string
	// Progress, if set, is told in a few words what takes time. It may be
	// called from several goroutines.
	Progress func(string)
	// Keychain has the credentials for registries; nil is
	// [authn.DefaultKeychain], the Docker and Podman configuration.
	Keychain authn.Keychain
}

func (o *Options) defaults() {
	if o.Arch == "" {
		o.Arch = runtime.GOARCH
	}
	if o.TempDir == "" {
		o.TempDir = os.TempDir()
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	if o.Keychain == nil {
		o.Keychain = authn.DefaultKeychain
	}
}

// Image is an opened source. Exactly one of Layers (possibly empty, for an
// image without any), Dir and Ready says where the contents are: Dir and Ready
// are set for a directory and a ready filesystem, else it is Layers.
type Image struct {
	// Ref names the image for a person: the full reference for a registry, the
	// path for all else.
	Ref string
	// Digest identifies the image by content: of the manifest chosen for an
	// image from a registry or an OCI layout, of the configuration ("image ID")
	// for a docker-archive; empty for a plain tar, a directory and a ready
	// filesystem. Key is there for those.
	Digest string
	// Arch is what the image says it is for; for a source that doesn't say, the
	// architecture that was asked for.
	Arch   string
	Config Config

	Layers []*Layer
	Dir    string
	Ready  *Ready

	path string // of a local file, for Key

	mu      sync.Mutex
	closers []io.Closer
}

// Config is how the image wants its process run: the config object of the OCI
// image configuration (image-spec, config.md), which Docker's agrees with. All
// of it is empty for a source that has none.
type Config struct {
	Entrypoint   []string
	Cmd          []string
	Env          []string // NAME=VALUE
	WorkingDir   string
	User         string              // USER[:GROUP], names or numbers
	ExposedPorts map[string]struct{} // "80/tcp"
	StopSignal   string
	Labels       map[string]string
	Volumes      map[string]struct{} // paths
	Healthcheck  *v1.HealthConfig    // Docker's alone; nil if the image has none
}

// Ready is a filesystem image to be used as it is.
type Ready struct {
	Type string // "erofs", "squashfs" or "ext4"
	Path string
}

// Close frees what Open and Layer.Open opened and ends downloads. The layers'
// readers are invalid afterwards.
func (i *Image) Close() error {
	i.mu.Lock()
	closers := i.closers
	i.closers = nil
	i.mu.Unlock()
	var errs []error
	for _, c := range closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

func (i *Image) onClose(c io.Closer) {
	i.mu.Lock()
	i.closers = append(i.closers, c)
	i.mu.Unlock()
}

// Key identifies the contents for a cache. It is the Digest where there is one.
// For a plain tar or a ready filesystem it stands for the file as it is now, by
// device, inode, size, modification and change time, without reading it. For a
// directory it is empty: the tree that is made of it has a digest of that kind.
func (i *Image) Key() (string, error) {
	if i.Digest != "" || i.path == "" {
		return i.Digest, nil
	}
	return fileKey(i.path)
}
