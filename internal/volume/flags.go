package volume

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A flag is one that can be written after the last colon.
type flag struct {
	name string
	// excludes names flags that say the opposite.
	excludes []string
	// value says that it is NAME=VALUE; parse reads VALUE.
	value bool
	// kinds are those that it means something to; none is all.
	kinds []Kind
	// apply does what the flag says. It may be nil: the flag is known, and
	// means what is so anyway or nothing here.
	apply func(s *Spec, value string) error
	// refuse is why a flag of docker's cannot be had.
	refuse string
	// quiet flags are not listed: they are there for command lines that were
	// written for docker.
	quiet bool
}

var (
	shares = []Kind{KindShare}
	named  = []Kind{KindNamed}
)

const noPropagation = "mounts do not pass between this host and a virtual machine, so %s cannot be had; leave it out"

// common are flags of -v and of --tmpfs.
var common = []flag{
	{name: "ro", excludes: []string{"rw"}, apply: func(s *Spec, _ string) error { s.ReadOnly = true; return nil }},
	{name: "rw"},
	{name: "nosuid", excludes: []string{"suid"}, apply: func(s *Spec, _ string) error { s.NoSUID = true; return nil }},
	{name: "suid", quiet: true, apply: func(s *Spec, _ string) error { s.NoSUID = false; return nil }},
	{name: "nodev", excludes: []string{"dev"}, apply: func(s *Spec, _ string) error { s.NoDev = true; return nil }},
	{name: "dev", quiet: true, apply: func(s *Spec, _ string) error { s.NoDev = false; return nil }},
	{name: "noexec", excludes: []string{"exec"}, apply: func(s *Spec, _ string) error { s.NoExec = true; return nil }},
	{name: "exec", quiet: true, apply: func(s *Spec, _ string) error { s.NoExec = false; return nil }},
}

// volumeFlags are those of -v. SELinux labels and the hints for how consistent
// a Mac's share has to be mean nothing to a VM, and are in many command lines.
var volumeFlags = append(slices.Clone(common), []flag{
	{name: "uid", value: true, kinds: shares, apply: setUID},
	{name: "gid", value: true, kinds: shares, apply: setGID},
	{name: "create", kinds: shares, apply: func(s *Spec, _ string) error { s.Create = true; return nil }},
	{name: "notify", kinds: shares, apply: func(s *Spec, _ string) error { s.Notify = true; return nil }},
	{name: "cache", kinds: shares, value: true, apply: setCache},
	{name: "ext4"},
	{name: "nocopy", kinds: named, apply: func(s *Spec, _ string) error { s.NoCopy = true; return nil }},
	{name: "z", quiet: true}, {name: "Z", quiet: true},
	{name: "cached", quiet: true}, {name: "delegated", quiet: true}, {name: "consistent", quiet: true},
	{name: "private", quiet: true}, {name: "rprivate", quiet: true},
	{name: "shared", quiet: true, refuse: noPropagation}, {name: "rshared", quiet: true, refuse: noPropagation},
	{name: "slave", quiet: true, refuse: noPropagation}, {name: "rslave", quiet: true, refuse: noPropagation},
}...)

// tmpfsFlags are those of --tmpfs, tmpfs(5). How a tmpfs keeps its times and
// when it writes back makes no difference in memory.
var tmpfsFlags = append(slices.Clone(common), []flag{
	{name: "size", value: true, apply: func(s *Spec, v string) (err error) { s.Size, err = parseTmpfsSize(v); return }},
	{name: "mode", value: true, apply: setPerm},
	{name: "uid", value: true, apply: setUID},
	{name: "gid", value: true, apply: setGID},
	{name: "defaults", quiet: true}, {name: "sync", quiet: true}, {name: "async", quiet: true},
	{name: "atime", quiet: true}, {name: "noatime", quiet: true}, {name: "relatime", quiet: true}, {name: "strictatime", quiet: true},
	{name: "diratime", quiet: true}, {name: "nodiratime", quiet: true},
}...)

// A flagSet is what was written after the last colon.
type flagSet struct {
	what  string
	given []given
}

type given struct {
	flag  flag
	value string
}

func newFlagSet(what string) *flagSet { return &flagSet{what: what} }

// maxFlags bounds how many flags are looked at.
const maxFlags = 100

// parse reads a list separated by commas.
func (f *flagSet) parse(list string, known []flag) error {
	words := strings.Split(list, ",")
	if len(words) > maxFlags {
		return fmt.Errorf("it has %d flags, and there are not that many", len(words))
	}
	for _, word := range words {
		name, value, hasValue := strings.Cut(word, "=")
		i := slices.IndexFunc(known, func(k flag) bool { return k.name == name })
		if i < 0 {
			if name == "" {
				return errors.New("one of its flags is empty: write each once, with one comma between two")
			}
			return fmt.Errorf("there is no flag %q: the flags of a %s are %s", word, f.what, listFlags(known))
		}
		k := known[i]
		switch {
		case k.refuse != "":
			return fmt.Errorf(k.refuse, k.name)
		case k.value && (!hasValue || value == ""):
			return fmt.Errorf("the flag %s needs a value: write %[1]s=VALUE", name)
		case !k.value && hasValue:
			return fmt.Errorf("the flag %s takes no value: write %[1]s alone", name)
		}
		if err := f.add(given{k, value}); err != nil {
			return err
		}
	}
	return nil
}

// add refuses contradictions; the same said twice is no harm.
func (f *flagSet) add(g given) error {
	for _, old := range f.given {
		if slices.Contains(old.flag.excludes, g.flag.name) || slices.Contains(g.flag.excludes, old.flag.name) {
			return fmt.Errorf("the flags %s and %s say opposite things: leave one out", old.flag.name, g.flag.name)
		}
		if old.flag.name == g.flag.name && old.value != g.value {
			return fmt.Errorf("the flag %s is there twice, with %s and with %s: leave one out", g.flag.name, old.value, g.value)
		}
	}
	f.given = append(f.given, g)
	return nil
}

func (f *flagSet) has(name string) bool {
	return slices.ContainsFunc(f.given, func(g given) bool { return g.flag.name == name })
}

// apply does what the flags say, to a spec that knows its kind.
func (f *flagSet) apply(s *Spec) error {
	for _, g := range f.given {
		if len(g.flag.kinds) > 0 && !slices.Contains(g.flag.kinds, s.Kind) {
			return fmt.Errorf("the flag %s says nothing about a %s: %s", g.flag.name, s.Kind, whyNot(g.flag.name, s.Kind))
		}
		if g.flag.apply != nil {
			if err := g.flag.apply(s, g.value); err != nil {
				return err
			}
		}
	}
	return nil
}

// whyNot completes the sentence about a flag of another kind's.
func whyNot(name string, kind Kind) string {
	switch {
	case name == "create" && kind == KindNamed:
		return "it is made when it is not there"
	case name == "create":
		return "make it with `bake volume create NAME SIZE`, or with mkfs.ext4"
	case name == "uid", name == "gid":
		return "its files have owners of their own, which chown in the container changes"
	case name == "notify":
		return "it changes by what the container does alone, which inotify sees anyway"
	case name == "cache":
		return "the guest is the only one to use it, and caches it fully"
	case name == "nocopy" && kind == KindShare:
		return "nothing of the image is ever copied to a folder of this host; a named volume is written without a slash"
	case name == "nocopy":
		return "nothing of the image is ever copied into it"
	}
	return "leave it out"
}

func listFlags(known []flag) string {
	var names []string
	for _, k := range known {
		switch {
		case k.quiet:
		case k.name == "cache":
			names = append(names, "cache="+strings.Join(caches, "|"))
		case k.value:
			names = append(names, k.name+"=…")
		default:
			names = append(names, k.name)
		}
	}
	return strings.Join(names, ", ")
}

var caches = []string{"none", "mmap", "loose"}

func setCache(s *Spec, v string) error {
	if !slices.Contains(caches, v) {
		return fmt.Errorf("cache=%s is not known: write %s", v, strings.Join(caches, ", "))
	}
	s.Cache = v
	return nil
}

// noID is -1, which chown(2) takes for "leave it".
const noID = 1<<32 - 1

func setUID(s *Spec, v string) (err error) { s.UID, err = parseID("uid", v); return }
func setGID(s *Spec, v string) (err error) { s.GID, err = parseID("gid", v); return }

func parseID(name, v string) (*uint32, error) {
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil || n == noID {
		return nil, fmt.Errorf("%s=%s is no user or group: write its number, such as %[1]s=1000", name, v)
	}
	id := uint32(n)
	return &id, nil
}

func setPerm(s *Spec, v string) error {
	n, err := strconv.ParseUint(v, 8, 32)
	if err != nil || n > 0o7777 {
		return fmt.Errorf("mode=%s is no mode of a folder: write it in octal, such as mode=1777", v)
	}
	s.Perm = uint32(n)
	return nil
}

// printable says whether s is UTF-8 without control characters.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
