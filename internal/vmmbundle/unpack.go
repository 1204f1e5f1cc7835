package vmmbundle

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
)

const tempPrefix = ".unpack-"

// Unpack returns the directory that holds the bundle's files, cacheDir/vmm/<sum>, and makes it if it is not
// there. It appears in one step, when all is on disk and sum is the SHA-256 of the archive; any number of
// processes may do this at once, and one that was killed leaves nothing that counts. A directory that has lost
// a file is replaced.
//
// Since what is in there will be run, nobody else may write to it: cacheDir/vmm must belong to this user.
func Unpack(ctx context.Context, bundle *io.SectionReader, sum [sha256.Size]byte, cacheDir string) (dir string, err error) {
	parent := filepath.Join(cacheDir, "vmm")
	dir = filepath.Join(parent, hex.EncodeToString(sum[:]))
	defer func() {
		if err != nil {
			dir, err = "", fmt.Errorf("unpack the embedded QEMU to %s: %w", dir, err)
		}
	}()
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return dir, fmt.Errorf("%w: set XDG_CACHE_HOME to a directory that you may write to", err)
	}
	if err := checkOwner(parent); err != nil {
		return dir, err
	}
	if complete(dir) {
		return dir, nil
	}
	locked, unlock, err := lockDir(ctx, parent)
	if err != nil {
		return dir, err
	}
	defer unlock()
	if complete(dir) { // somebody else was faster
		return dir, nil
	}
	if locked {
		if err := sweep(parent, filepath.Base(dir)); err != nil {
			return dir, err
		}
	}
	temp, err := os.MkdirTemp(parent, tempPrefix)
	if err != nil {
		return dir, err
	}
	defer os.RemoveAll(temp) // nothing to do once it is renamed
	if err := extract(ctx, bundle, sum, temp); err != nil {
		return dir, err
	}
	if err := os.Rename(temp, dir); err != nil && !complete(dir) { // without locks somebody may still be faster
		return dir, err
	}
	return dir, nil
}

// sweep removes, under the lock, what killed processes left and a bundle that is not complete.
func sweep(parent, incomplete string) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if name := e.Name(); name == incomplete || len(name) > len(tempPrefix) && name[:len(tempPrefix)] == tempPrefix {
			if err := os.RemoveAll(filepath.Join(parent, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// complete reports whether dir holds all that its index lists. It reads no file but that.
func complete(dir string) bool {
	index, err := readIndex(dir)
	if err != nil {
		return false
	}
	for _, f := range index.Files {
		info, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(f.Name)))
		if err != nil || !info.Mode().IsRegular() || info.Size() != f.Size {
			return false
		}
	}
	return true
}

func readIndex(dir string) (*Index, error) {
	f, err := os.Open(filepath.Join(dir, indexName))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxIndex+1))
	if err != nil {
		return nil, err
	}
	return decodeIndex(b)
}

// extract unpacks the archive into dir, which is empty, and checks its hash. It takes only what Collect
// writes: the index, then the files that it lists.
func extract(ctx context.Context, bundle *io.SectionReader, sum [sha256.Size]byte, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	h := sha256.New()
	archive := io.TeeReader(io.NewSectionReader(bundle, 0, bundle.Size()), h)
	if err := extractFiles(ctx, tar.NewReader(archive), root, bundle.Size()); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, archive); err != nil {
		return err
	}
	if [sha256.Size]byte(h.Sum(nil)) != sum {
		return errors.New("it does not match its hash: the app was altered or damaged")
	}
	return syncDir(dir)
}

func extractFiles(ctx context.Context, tr *tar.Reader, root *os.Root, size int64) error {
	hdr, err := tr.Next()
	if err != nil || hdr.Name != indexName || hdr.Size > maxIndex {
		return errors.Join(fmt.Errorf("the archive does not begin with %s", indexName), err)
	}
	encoded, err := io.ReadAll(tr)
	if err != nil {
		return fmt.Errorf("read %s: %w", indexName, err)
	}
	index, err := decodeIndex(encoded)
	if err != nil {
		return err
	}
	for _, f := range index.Files {
		if err := ctx.Err(); err != nil {
			return err
		}
		hdr, err := tr.Next()
		if err != nil {
			return fmt.Errorf("the archive ends before %s: %w", f.Name, err)
		}
		// Sparse files could announce any size; what is stored as it is fits into the archive.
		if hdr.Typeflag != tar.TypeReg || hdr.Name != f.Name || hdr.Size != f.Size || f.Size > size {
			return fmt.Errorf("the archive has %.80q where its index has %q", hdr.Name, f.Name)
		}
		if err := writeFile(root, f, tr); err != nil {
			return err
		}
	}
	if _, err := tr.Next(); !errors.Is(err, io.EOF) {
		return errors.New("the archive holds more than its index")
	}
	return writeFile(root, File{Name: indexName, Size: int64(len(encoded))}, bytes.NewReader(encoded))
}

// writeFile writes a new file and forces it to the disk: after a power failure there must be no directory of
// the final name with empty files in it.
func writeFile(root *os.Root, f File, r io.Reader) error {
	if err := root.MkdirAll(path.Dir(f.Name), 0o700); err != nil {
		return err
	}
	w, err := root.OpenFile(f.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, f.mode())
	if err != nil {
		return err
	}
	n, err := io.Copy(w, r)
	if err == nil && n != f.Size {
		err = fmt.Errorf("%s has %d bytes in the archive instead of %d", f.Name, n, f.Size)
	}
	if err == nil {
		err = w.Sync()
	}
	return errors.Join(err, w.Close())
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
