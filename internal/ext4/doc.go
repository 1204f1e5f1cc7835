// Package ext4 makes an empty ext4 filesystem on a disk that reads as zeros,
// such as a fresh sparse file, and writes nothing but what is not zero: about
// a hundred kilobytes for 2 GiB. It is on the path of every start.
//
// It knows no VM and no file beyond an [io.WriterAt], and it does not read,
// check, grow or populate filesystems.
//
// The layout is that of mke2fs(8) with these choices. A filesystem that is
// thrown away with its VM, the usual one, has
//
//   - no journal;
//   - no backups of the superblock and the group descriptors (sparse_super2
//     without backup groups);
//   - checksums of group descriptors alone (uninit_bg), which is what lets
//     bitmaps that were never written be read as empty.
//
// One that is durable has what mke2fs gives by default: a journal, backups in
// group 1 and the powers of 3, 5 and 7 (sparse_super), and checksums of all
// metadata (metadata_csum). It has no blocks reserved for root, which in a
// container is nobody else than who fills it, and it goes read-only on an
// error. It has no resize_inode: resize2fs(8) grows it unmounted.
//
// In both, every inode table is marked as zeroed, which it is, so that the
// kernel starts no thread to zero it and a sparse file stays sparse.
//
// The format is described in the kernel's Documentation/filesystems/ext4 and
// defined by fs/ext4/ext4.h.
package ext4
