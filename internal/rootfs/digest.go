package rootfs

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
)

// Digest identifies the tree for a cache: "sha256:" and 64 hexadecimal digits
// over every name and all metadata, and over contents as cheaply as is sound.
//
// Contents that came in a layer are hashed. Contents in a directory of the host
// (AddDir) are not read: device, inode, size, modification and change time
// stand for them, as in a build tool. So the digest of a directory differs on
// every copy of it, and catches every change that the kernel stamps; a caller
// that packs a directory takes the digest again afterwards, from a new tree,
// to know that nothing changed meanwhile.
func (t *Tree) Digest(ctx context.Context) (string, error) {
	h := sha256.New()
	io.WriteString(h, "bake tree 1\n")
	list := t.index()
	buf := make([]byte, 256<<10)
	for _, n := range list {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		writeMeta(h, n)
		if n.IsDir() {
			for _, name := range n.Names() {
				writeString(h, name)
				writeInts(h, uint64(n.children[name].node.num))
			}
		}
		if !n.IsRegular() {
			continue // there is no more to it
		}
		if host := n.content.host; host != nil {
			writeInts(h, host.stamp.device, host.stamp.ino, uint64(host.stamp.ctime))
			continue
		}
		if err := hashContent(ctx, h, n, buf); err != nil {
			return "", err
		}
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// writeMeta hashes all of n but names and contents.
func writeMeta(h hash.Hash, n *Inode) {
	writeInts(h, uint64(n.Mode), uint64(n.UID), uint64(n.GID), uint64(n.Mtime.Unix()), uint64(n.Mtime.Nanosecond()),
		uint64(n.Size), uint64(n.Major), uint64(n.Minor), uint64(n.nlink), uint64(len(n.Xattrs)), uint64(len(n.children)))
	writeString(h, n.Target)
	for _, x := range n.Xattrs {
		writeString(h, x.Name)
		writeString(h, x.Value)
	}
}

func writeInts(h hash.Hash, v ...uint64) {
	var b [8]byte
	for _, v := range v {
		binary.LittleEndian.PutUint64(b[:], v)
		h.Write(b[:])
	}
}

func writeString(h hash.Hash, s string) {
	writeInts(h, uint64(len(s)))
	io.WriteString(h, s)
}

func hashContent(ctx context.Context, h hash.Hash, n *Inode, buf []byte) error {
	var o opener
	defer o.close()
	ra, off, err := o.open(n)
	if err != nil {
		return err
	}
	for left := n.Size; left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buf[:min(int64(len(buf)), left)]
		if err := readFull(ra, p, off); err != nil {
			return err
		}
		h.Write(p)
		off += int64(len(p))
		left -= int64(len(p))
	}
	return nil
}

// readFull fills p from ra at off.
func readFull(ra io.ReaderAt, p []byte, off int64) error {
	n, err := ra.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read file contents: %w", err)
}
