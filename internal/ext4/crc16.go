package ext4

// crc16 continues the CRC-16 that the kernel's lib/crc16.c computes: the
// polynomial x^16 + x^15 + x^2 + 1, reflected.
func crc16(sum uint16, b []byte) uint16 {
	for _, c := range b {
		sum ^= uint16(c)
		for range 8 {
			if sum&1 != 0 {
				sum = sum>>1 ^ 0xa001
			} else {
				sum >>= 1
			}
		}
	}
	return sum
}
