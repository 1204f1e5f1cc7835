// Package rootfs turns the layers of a container image, or a directory, into
// one read-only filesystem image.
//
// The work has two halves. A [Tree] is the merged view: layers are applied to
// it from the lowest up, as the OCI image specification says ("Image Layer
// Filesystem Changeset": later entries replace earlier ones, whiteouts and
// opaque markers hide what lower layers brought). It holds names and metadata
// in memory and leaves file contents where they are, or in one unlinked spool
// file when they arrived compressed. Then a writer lays the tree out:
// [WriteEROFS] uncompressed, for speed, or [WriteSquashFS] with zstd, for size.
//
// Nothing of a layer is ever created on the host's file system: a path in a
// layer is only ever a key in the tree. Packing therefore needs no privilege,
// and owners, device nodes, setuid bits and extended attributes come from the
// layer's headers whoever runs it.
//
// The package knows nothing of registries, of image configuration, or of where
// a layer came from; it never interprets a file of the tree.
package rootfs
