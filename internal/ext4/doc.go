// Package ext4 makes an empty ext4 filesystem on a disk that reads as zeros,
// such as a fresh sparse file, and writes nothing but what is not zero: about
// a hundred kilobytes for 2 GiB. It is on the path of every start.
//
// It knows no VM and no file beyond an [io.WriterAt], and it does not read,
// check, grow or populate filesystems.
//
// The layout is that of mke2fs(8) with these choices, each because the
// filesystem is thrown away with its VM:
//
//   - no journal;
//   - no backups of the superblock and the group descriptors (sparse_super2
//     without backup groups);
//   - checksums of group descriptors alone (uninit_bg), which is what lets
//     bitmaps that were never written be read as empty;
//   - every inode table is marked as zeroed, which it is, so that the kernel
//     starts no thread to zero it.
//
// The format is described in the kernel's Documentation/filesystems/ext4 and
// defined by fs/ext4/ext4.h.
package ext4
