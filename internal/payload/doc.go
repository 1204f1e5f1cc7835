// Package payload is the format of a packed application: what is embedded, where, and how it is found again.
//
// A payload is one run of bytes, the same in every executable that carries it:
//
//	0       header, 4 KiB: magic, version, length, hash of itself, table of parts
//	64 KiB  first part
//	...     every further part at the next multiple of 64 KiB, in the order of the table
//	        zeros up to a multiple of 64 KiB
//
// The order and the gaps follow from the sizes alone, so a table that says anything else is refused: parts
// cannot overlap, hide bytes between them or point outside. 64 KiB is the largest page of the systems that run
// apps (arm64 kernels), so that each part can be mapped into memory, or given to a hypervisor as a disk, where
// it lies.
//
// A carrier is the executable file around it. It answers one question, at what offset and how long, and
// nothing else in the file repeats that answer, because strip and objcopy move things. [FindELF] and
// [WriteELF] are the ELF one: a program header of an OS-specific type and a section over the same bytes.
//
// Opening reads the carrier's headers and 4 KiB more, whatever the size of the app. What is read whole is checked
// against its hash ([Payload.ReadAll]); what is used in place is checked on demand ([Payload.Verify]).
//
// All of it reads input that may have been made to do harm: every number is checked before it is used.
//
// The package knows no hypervisor, no image format and nothing about what runs in the guest.
package payload
