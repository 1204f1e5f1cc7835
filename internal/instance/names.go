package instance

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"

	"bake/internal/platform"
)

// A name of an instance is a symbolic link names/NAME beside the instances'
// directories that leads to one of them. Whoever changes links holds the lock on
// the directory that has all of these; a link to an instance that does not live
// counts for nothing.

var nameForm = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$`)

// CheckName refuses what cannot be a name of an instance.
func CheckName(name string) error {
	if !nameForm.MatchString(name) {
		return fmt.Errorf("%.80q cannot be an instance's name: it takes 1 to 63 letters, digits, and _ . - after the first", name)
	}
	return nil
}

// lockNames keeps others from changing names in base until the file is closed.
func lockNames(base string) (*os.File, error) {
	f, err := platform.LockDir(base)
	if err != nil {
		return nil, fmt.Errorf("lock the names of instances: %w", err)
	}
	return f, nil
}

func nameLink(base, name string) string { return filepath.Join(base, "names", name) }

// claimName gives dir the name, or one that it makes up.
func claimName(dir *platform.RunDir, name string) (string, error) {
	base := filepath.Dir(dir.Path())
	lock, err := lockNames(base)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := os.Mkdir(filepath.Join(base, "names"), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("name this instance: %w", err)
	}
	if err := sweepNames(base); err != nil {
		return "", err
	}
	if name != "" {
		return name, link(dir, name)
	}
	for try := 0; ; try++ {
		name := makeName(try)
		err := link(dir, name)
		if !errors.Is(err, fs.ErrExist) {
			return name, err
		}
	}
}

// sweepNames removes the links that killed instances left behind.
func sweepNames(base string) error {
	entries, err := os.ReadDir(filepath.Join(base, "names"))
	if err != nil {
		return fmt.Errorf("name this instance: %w", err)
	}
	for _, e := range entries {
		if path := nameLink(base, e.Name()); holder(path) == "" {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("free the name of an instance that was killed: %w", err)
			}
		}
	}
	return nil
}

// holder is the directory of the living instance that has the name; empty if
// there is none.
func holder(link string) string {
	to, err := os.Readlink(link)
	if err != nil || filepath.Dir(to) != ".." {
		return ""
	}
	dir := filepath.Join(filepath.Dir(link), to)
	if !platform.IsLiving(dir) {
		return ""
	}
	return dir
}

// link makes a name lead to dir; fs.ErrExist is in the error when it is taken.
func link(dir *platform.RunDir, name string) error {
	base := filepath.Dir(dir.Path())
	for _, other := range platform.RunBases() {
		if by := holder(nameLink(other, name)); by != "" && other != base {
			return taken(name, by)
		}
	}
	path := nameLink(base, name)
	err := os.Symlink(filepath.Join("..", dir.ID()), path)
	if errors.Is(err, fs.ErrExist) {
		return taken(name, holder(path))
	}
	if err != nil {
		return fmt.Errorf("name this instance %s: %w", name, err)
	}
	return nil
}

func taken(name, dir string) error {
	who := "another instance has it"
	if i, err := read(dir); err == nil {
		who = fmt.Sprintf("the instance with PID %d has it", i.PID)
	}
	return fmt.Errorf("the name %s is in use: %s; stop that one, or give another --name: %w", name, who, fs.ErrExist)
}

// releaseName takes the name from dir, if it has it.
func releaseName(dir *platform.RunDir, name string) error {
	base := filepath.Dir(dir.Path())
	lock, err := lockNames(base)
	if err != nil {
		return err
	}
	defer lock.Close()
	path := nameLink(base, name)
	if to, err := os.Readlink(path); err != nil || filepath.Base(to) != dir.ID() {
		return nil
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("free the name %s: %w", name, err)
	}
	// The last one leaves nothing; others keep it from being removed.
	_ = os.Remove(filepath.Dir(path))
	return nil
}

// makeName makes up a name of two words; from the tenth try on it has a number
// too.
func makeName(try int) string {
	name := adjectives[rand.IntN(len(adjectives))] + "_" + nouns[rand.IntN(len(nouns))]
	if try >= 10 {
		name = fmt.Sprintf("%s_%d", name, rand.IntN(1<<20))
	}
	return name
}

var adjectives = [...]string{
	"amber", "ample", "brave", "brisk", "calm", "candid", "clever", "crisp", "deft", "eager", "fair", "fond",
	"gentle", "glad", "golden", "happy", "hardy", "honest", "jolly", "keen", "kind", "light", "lively", "lucky",
	"mellow", "merry", "mild", "modest", "neat", "nimble", "patient", "plain", "proud", "quick", "quiet", "rapid",
	"ready", "rosy", "sharp", "shiny", "silent", "sincere", "smart", "snug", "spry", "steady", "sunny", "swift",
	"tidy", "trusty", "vivid", "warm", "wise", "witty", "young", "zesty",
}

var nouns = [...]string{
	"almond", "apricot", "bagel", "baker", "barley", "biscuit", "brioche", "bun", "butter", "caraway", "cinnamon",
	"clove", "cocoa", "cookie", "cracker", "cream", "crumb", "crust", "dough", "eclair", "fennel", "flour", "ginger",
	"hazel", "honey", "kernel", "loaf", "macaron", "malt", "maple", "millet", "muffin", "nutmeg", "oat", "oven",
	"pastry", "pecan", "pie", "poppy", "pretzel", "quince", "raisin", "roll", "rye", "saffron", "scone", "sesame",
	"spelt", "strudel", "sugar", "tart", "toast", "vanilla", "waffle", "walnut", "wheat",
}
