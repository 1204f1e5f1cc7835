package rootfs

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/bits"
	"runtime"
)

// SquashFSOptions of an image. The zero value is usable.
type SquashFSOptions struct {
	// BuildTime in seconds since 1970 goes in the superblock; take it from
	// SOURCE_DATE_EPOCH.
	BuildTime int64
	// BlockSize in bytes, a power of two from 4 KiB to 1 MiB; 0 is 256 KiB.
	// Larger blocks compress better, smaller ones are read faster at random.
	BlockSize int
	// Workers compress at once; 0 is the number of CPUs. The image doesn't
	// depend on it.
	Workers int
}

const defaultSquashBlock = 256 << 10

// WriteSquashFS writes t as a squashfs 4.0 image with zstd, which Linux mounts
// since 4.14. Equal trees and options give equal bytes, whatever Workers is.
//
// Files with equal contents are stored once, runs of zeros not at all. Times
// are whole seconds from 1970 to 2106, others are clamped; POSIX ACLs, which
// squashfs has no place for, are left out (Options.Warn of the tree says so).
//
// An error of w, of the contents or of ctx leaves a partial image in w. The
// superblock is written last, so such an image doesn't mount.
func WriteSquashFS(ctx context.Context, w io.WriterAt, t *Tree, opts SquashFSOptions) (Result, error) {
	if opts.BlockSize == 0 {
		opts.BlockSize = defaultSquashBlock
	}
	if bits.OnesCount(uint(opts.BlockSize)) != 1 || opts.BlockSize < 4096 || opts.BlockSize > 1<<20 {
		return Result{}, fmt.Errorf("write the squashfs image: block size %d is not a power of two from 4096 to 1048576", opts.BlockSize)
	}
	if opts.Workers <= 0 {
		opts.Workers = runtime.GOMAXPROCS(0)
	}
	s := &squash{t: t, opts: opts, list: t.index()}
	size, err := s.write(ctx, w)
	if err != nil {
		return Result{}, fmt.Errorf("write the squashfs image: %w", err)
	}
	return Result{Size: size, Inodes: len(s.list)}, nil
}

// squash is one image in the making:
//
//	superblock | file blocks and fragment blocks | inodes | directories | fragments | export | ids | attributes
type squash struct {
	t    *Tree
	opts SquashFSOptions
	list []*Inode

	files     map[*Inode]*squashFile
	fragments []squashFragment
	ids       idTable
	xattrs    xattrTable
	refs      []uint64 // by inode number: where the inode is in the inode table
	written   []bool
	inodes    metaWriter
	dirs      metaWriter

	aclsDropped int
}

func (s *squash) write(ctx context.Context, w io.WriterAt) (int64, error) {
	enc, err := newSquashEncoder(s.opts.BlockSize)
	if err != nil {
		return 0, err
	}
	defer enc.Close()
	end, err := s.writeData(ctx, w)
	if err != nil {
		return 0, err
	}
	s.inodes.enc, s.dirs.enc = enc, enc
	s.refs = make([]uint64, len(s.list))
	s.written = make([]bool, len(s.list))
	if err := s.writeDir(ctx, s.t.root); err != nil {
		return 0, err
	}
	if s.aclsDropped > 0 {
		s.t.opts.Warn(fmt.Sprintf("squashfs can't store POSIX ACLs: %d are left out; pack without compression to keep them.", s.aclsDropped))
	}
	if len(s.inodes.out) > math.MaxUint32 || len(s.dirs.out) > math.MaxUint32 {
		return 0, fmt.Errorf("the names and metadata are too large for squashfs")
	}
	super := make([]byte, squashSuperSize)
	le := binary.LittleEndian
	put := func(p []byte) error {
		_, err := w.WriteAt(p, end)
		end += int64(len(p))
		return err
	}
	le.PutUint64(super[64:], uint64(end))
	if err := put(s.inodes.finish()); err != nil {
		return 0, err
	}
	le.PutUint64(super[72:], uint64(end))
	if err := put(s.dirs.finish()); err != nil {
		return 0, err
	}
	table := func(field int, data []byte) error {
		b, start := indexedTable(enc, data, end)
		le.PutUint64(super[field:], start)
		return put(b)
	}
	if err := table(80, fragmentTable(s.fragments)); err != nil {
		return 0, err
	}
	export := make([]byte, 0, 8*len(s.refs))
	for _, ref := range s.refs {
		export = le.AppendUint64(export, ref)
	}
	if err := table(88, export); err != nil {
		return 0, err
	}
	if err := table(48, s.ids.bytes()); err != nil {
		return 0, err
	}
	le.PutUint64(super[56:], math.MaxUint64)
	if s.xattrs.len() > 0 {
		b, start := s.xattrs.bytes(enc, end)
		le.PutUint64(super[56:], start)
		if err := put(b); err != nil {
			return 0, err
		}
	}
	used := end
	if pad := -end & 4095; pad > 0 { // loop devices and disks have whole blocks
		if err := put(make([]byte, pad)); err != nil {
			return 0, err
		}
	}
	le.PutUint32(super[0:], squashMagic)
	le.PutUint32(super[4:], uint32(len(s.list)))
	le.PutUint32(super[8:], clampTime(s.opts.BuildTime))
	le.PutUint32(super[12:], uint32(s.opts.BlockSize))
	le.PutUint32(super[16:], uint32(len(s.fragments)))
	le.PutUint16(super[20:], squashZstd)
	le.PutUint16(super[22:], uint16(bits.Len(uint(s.opts.BlockSize))-1))
	le.PutUint16(super[24:], squashFlags)
	le.PutUint16(super[26:], uint16(len(s.ids.list)))
	le.PutUint16(super[28:], 4)
	le.PutUint16(super[30:], 0)
	le.PutUint64(super[32:], s.refs[0])
	le.PutUint64(super[40:], uint64(used))
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if _, err := w.WriteAt(super, 0); err != nil {
		return 0, err
	}
	return end, nil
}

func clampTime(sec int64) uint32 {
	return uint32(max(0, min(sec, math.MaxUint32)))
}
