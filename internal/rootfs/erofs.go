package rootfs

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// EROFSOptions of an image. The zero value is usable.
type EROFSOptions struct {
	// BuildTime in seconds since 1970 goes in the superblock, and is the time
	// of files that have just this one; take it from SOURCE_DATE_EPOCH.
	BuildTime int64
}

// Result describes an image that was written.
type Result struct {
	Size   int64 // bytes, a multiple of 4096
	Inodes int
}

// WriteEROFS writes t as an uncompressed EROFS image with 4 KiB blocks, from
// front to back without seeking. Equal trees and options give equal bytes: the
// order follows the names, and the volume's UUID is taken from the metadata.
//
// Equal files share their blocks and the ends of files lie beside their inodes.
// Linux 5.4 and later mount it (EROFS left staging there); an image that holds
// a file of 16 MiB or more that is mostly zeros needs 5.15, since such a file is
// stored without them.
//
// An error of w, of the contents or of ctx leaves a partial image in w.
func WriteEROFS(ctx context.Context, w io.Writer, t *Tree, opts EROFSOptions) (Result, error) {
	l, err := planEROFS(ctx, t, opts)
	if err != nil {
		return Result{}, fmt.Errorf("lay out the EROFS image: %w", err)
	}
	bw := &blockWriter{ctx: ctx, w: w, buf: make([]byte, 0, 1<<20)}
	if err := l.write(bw); err != nil {
		return Result{}, fmt.Errorf("write the EROFS image: %w", err)
	}
	return Result{Size: bw.pos, Inodes: len(l.nodes)}, nil
}

func (l *erofsLayout) write(w *blockWriter) error {
	if err := w.padTo(erofsSuperOffset); err != nil {
		return err
	}
	// The checksum covers the rest of the first block too, so that block is
	// made in memory before it goes out.
	first := &blockWriter{ctx: w.ctx, w: io.Discard, buf: make([]byte, 0, 2*erofsBlock), pos: erofsSuperOffset}
	if err := first.write(l.super()); err != nil {
		return err
	}
	var o opener
	defer o.close()
	i := 0
	for ; i < len(l.byPos) && l.byPos[i].pos < erofsBlock; i++ {
		if err := l.writeInode(first, l.byPos[i], &o); err != nil {
			return err
		}
	}
	if err := first.padTo(erofsBlock); err != nil {
		return err
	}
	sum := ^crc32.Checksum(first.buf, crc32.MakeTable(crc32.Castagnoli)) // the kernel's crc32c has no final inversion
	binary.LittleEndian.PutUint32(first.buf[4:], sum)
	if err := w.write(first.buf); err != nil {
		return err
	}
	for ; i < len(l.byPos); i++ {
		if err := l.writeInode(w, l.byPos[i], &o); err != nil {
			return err
		}
	}
	if err := w.padTo(l.sharedAt * erofsBlock); err != nil {
		return err
	}
	var entry []byte
	for _, x := range l.shared {
		entry = appendErofsXattr(entry[:0], x)
		if err := w.write(entry); err != nil {
			return err
		}
	}
	for _, dirs := range []bool{true, false} {
		for _, e := range l.nodes {
			if e.n.IsDir() != dirs || e.blocks == 0 || e.borrowed {
				continue
			}
			if err := w.padTo(e.block * erofsBlock); err != nil {
				return err
			}
			if err := l.writeBlocks(w, e, &o); err != nil {
				return err
			}
		}
	}
	if err := w.padTo(l.blocks * erofsBlock); err != nil {
		return err
	}
	return w.flush()
}

// super returns the superblock (struct erofs_super_block) with no checksum.
func (l *erofsLayout) super() []byte {
	le := binary.LittleEndian
	b := make([]byte, erofsSuperSize)
	le.PutUint32(b[0:], erofsMagic)
	le.PutUint32(b[8:], erofsCompatChecksum|erofsCompatMtime)
	b[12] = erofsBlockBits
	le.PutUint16(b[14:], uint16(l.nodes[0].nid()))
	le.PutUint64(b[16:], uint64(len(l.nodes)))
	le.PutUint64(b[24:], uint64(l.opts.BuildTime))
	le.PutUint32(b[36:], uint32(l.blocks))
	le.PutUint32(b[40:], 0) // inodes are numbered from the start of the image
	le.PutUint32(b[44:], uint32(l.sharedAt))
	copy(b[48:64], l.uuid())
	if l.chunked {
		le.PutUint32(b[80:], erofsChunkedFile)
	}
	return b
}

// uuid derives a version 8 UUID (RFC 9562, section 5.8) from all metadata.
func (l *erofsLayout) uuid() []byte {
	h := sha256.New()
	io.WriteString(h, "bake erofs uuid\n")
	for _, e := range l.nodes {
		writeMeta(h, e.n)
		writeInts(h, uint64(e.pos), uint64(e.block))
		for _, name := range e.n.Names() {
			writeString(h, name)
		}
	}
	u := h.Sum(nil)[:16]
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return u
}

// writeInode writes the inode at its place, its attributes, and its tail or
// chunk addresses.
func (l *erofsLayout) writeInode(w *blockWriter, e *erofsNode, o *opener) error {
	if err := w.padTo(e.pos); err != nil {
		return err
	}
	if err := w.write(e.inode()); err != nil {
		return err
	}
	if err := w.write(l.xattrBody(e)); err != nil {
		return err
	}
	if e.chunks != nil {
		return w.write(e.chunkAddresses())
	}
	if e.tail == 0 {
		return nil
	}
	at := e.size - int64(e.tail)
	switch {
	case e.n.IsDir():
		return w.write(l.dirData(e.n)[at:])
	case e.n.IsSymlink():
		return w.write([]byte(e.n.Target))
	}
	return w.copy(e.n, o, at, int64(e.tail))
}

// inode returns struct erofs_inode_compact or struct erofs_inode_extended.
func (e *erofsNode) inode() []byte {
	le := binary.LittleEndian
	b := make([]byte, e.inodeSize())
	format := uint16(erofsExtended)
	if e.compact {
		format = erofsCompact
	}
	value := uint32(e.block)
	switch {
	case e.chunks != nil:
		format |= erofsChunked
		value = uint32(e.chunks.bits)
	case e.tail > 0:
		format |= erofsInline
	default:
		format |= erofsPlain
	}
	if t := e.n.Mode & ModeType; t == ModeBlock || t == ModeChar {
		value = encodeDevice(e.n.Major, e.n.Minor)
	}
	le.PutUint16(b[0:], format)
	if e.xattrLen > 0 {
		le.PutUint16(b[2:], uint16(1+(e.xattrLen-erofsXattrHeader)/4))
	}
	le.PutUint16(b[4:], uint16(e.n.Mode))
	le.PutUint32(b[16:], value)
	le.PutUint32(b[20:], e.n.num+1)
	if e.compact {
		le.PutUint16(b[6:], uint16(e.n.nlink))
		le.PutUint32(b[8:], uint32(e.size))
		le.PutUint16(b[24:], uint16(e.n.UID))
		le.PutUint16(b[26:], uint16(e.n.GID))
		return b
	}
	le.PutUint64(b[8:], uint64(e.size))
	le.PutUint32(b[24:], e.n.UID)
	le.PutUint32(b[28:], e.n.GID)
	le.PutUint64(b[32:], uint64(e.n.Mtime.Unix()))
	le.PutUint32(b[40:], uint32(e.n.Mtime.Nanosecond()))
	le.PutUint32(b[44:], e.n.nlink)
	return b
}

// xattrBody returns struct erofs_xattr_ibody_header and what follows it.
func (l *erofsLayout) xattrBody(e *erofsNode) []byte {
	if e.xattrLen == 0 {
		return nil
	}
	b := make([]byte, erofsXattrHeader, e.xattrLen)
	b[4] = byte(len(e.shared))
	for _, i := range e.shared {
		b = binary.LittleEndian.AppendUint32(b, uint32(l.sharedPos[i]/4))
	}
	for _, x := range e.inline {
		b = appendErofsXattr(b, x)
	}
	return b
}

// chunkAddresses returns the first block of each chunk.
func (e *erofsNode) chunkAddresses() []byte {
	b := make([]byte, 0, 4*len(e.chunks.present))
	next := uint32(e.block)
	for _, present := range e.chunks.present {
		if !present {
			b = binary.LittleEndian.AppendUint32(b, erofsNullBlock)
			continue
		}
		b = binary.LittleEndian.AppendUint32(b, next)
		next += 1 << e.chunks.bits // only the last chunk can be shorter
	}
	return b
}

// writeBlocks writes the whole blocks of a file or directory.
func (l *erofsLayout) writeBlocks(w *blockWriter, e *erofsNode, o *opener) error {
	switch {
	case e.chunks != nil:
		chunk := e.chunks.chunk()
		for i, present := range e.chunks.present {
			if present {
				at := int64(i) * chunk
				if err := w.copy(e.n, o, at, min(chunk, e.size-at)); err != nil {
					return err
				}
			}
		}
		return nil
	case e.n.IsDir():
		return w.write(l.dirData(e.n)[:e.size-int64(e.tail)])
	case e.n.IsSymlink():
		return w.write([]byte(e.n.Target))
	}
	return w.copy(e.n, o, 0, e.size-int64(e.tail))
}
