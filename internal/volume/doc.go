// Package volume is what a user says about volumes and what the host keeps of
// them: the grammar of -v and --tmpfs ([Parse], [ParseTmpfs]), its checks
// against the host ([Spec.Resolve], [Sort]), disk images and the locks on them
// ([OpenImage]), and the store of named volumes ([Store]).
//
// The grammar is that of docker-run(1), so that command lines written for
// docker work, and bake's own flags beside it. What docker has and a virtual
// machine cannot give is refused with a sentence that says so.
//
// The package knows no VM, no protocol and nothing of the guest.
package volume
