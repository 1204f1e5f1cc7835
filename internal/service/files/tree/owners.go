package tree

// ShowsOwners says whether owners are shown as they are on the host, so that
// the numbers in POSIX ACLs mean the same to the guest.
func (t *Tree) ShowsOwners() bool { return t.o.UID == nil && t.o.GID == nil && !t.o.Squash }
