package ext4

import "hash/crc32"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crc32c continues a CRC-32C as the kernel's crc32c() computes it: without the
// inversions at the beginning and the end.
func crc32c(sum uint32, b []byte) uint32 {
	return ^crc32.Update(^sum, castagnoli, b)
}
