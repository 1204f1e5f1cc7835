//go:build linux

package qemu

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"bake/internal/hypervisor"
)

// maxCacheFile bounds a cache file that is read, in bytes.
const maxCacheFile = 16 << 10

// readCache reads an entry of the cache into v. An entry that is not there or
// not readable is none: what it holds can be found out again.
func readCache(dir, name string, v any) bool {
	if dir == "" {
		return false
	}
	f, err := os.Open(filepath.Join(dir, name+".json"))
	if err != nil {
		return false
	}
	defer f.Close()
	return json.NewDecoder(io.LimitReader(f, maxCacheFile)).Decode(v) == nil
}

// writeCache keeps v. A cache that cannot be written only costs time.
func writeCache(dir, name string, v any) {
	if dir == "" {
		return
	}
	b, err := json.Marshal(v)
	if err != nil {
		return
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return
	}
	_ = renameio.WriteFile(filepath.Join(dir, name+".json"), b, 0o600)
}

// identity is a name for a command that changes when one of the files in it
// does.
func identity(command []string) string {
	h := sha256.New()
	for _, arg := range command {
		fmt.Fprintf(h, "%q", arg)
		var st unix.Stat_t
		if filepath.IsAbs(arg) && unix.Stat(arg, &st) == nil {
			fmt.Fprintf(h, " %d %d %d %d", st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano())
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// kernelIdentity is a name for a kernel: a hash of its size, its beginning and
// its end. That is enough to tell builds apart and costs nothing.
func kernelIdentity(kernel hypervisor.Resource) (string, error) {
	r, err := reader(kernel)
	if err != nil {
		return "", err
	}
	const part = 64 << 10
	h := sha256.New()
	fmt.Fprintf(h, "%d ", r.Size())
	for _, at := range []int64{0, max(0, r.Size()-part)} {
		if _, err := io.Copy(h, io.NewSectionReader(r, at, part)); err != nil {
			return "", fmt.Errorf("read the kernel (%s): %w", kernel.Name, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:12]), nil
}
