package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// orderedModule is a module that a guest loads.
type orderedModule struct {
	name    string
	data    []byte
	feature string // see want.feature
}

// resolver collects modules in load order: depth first, so that each comes after all that it depends on.
type resolver struct {
	tree  *moduleTree
	order []orderedModule
	state map[string]visit
	// feature is that of the want which is resolved now.
	feature string
}

type visit int

const (
	unseen visit = iota
	inProgress
	done
)

// resolve selects the modules of a tree that a guest of bake loads, in load order, and says in notes what it will
// lack. A needed module that is neither in the tree nor built in is an error that names it.
func resolve(ctx context.Context, tree *moduleTree, wants []want) (order []orderedModule, notes []string, err error) {
	r := &resolver{tree: tree, state: map[string]visit{}}
	for _, w := range wants {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		r.feature = w.feature
		missing, err := r.want(w)
		if err != nil {
			return nil, nil, err
		}
		if missing == "" {
			continue
		}
		if !w.optional {
			return nil, nil, fmt.Errorf("the kernel has no %s, neither built in nor as a module in %s, and without it %s; take another kernel, a distribution's generic one has it", missing, tree.dir, w.without)
		}
		notes = append(notes, fmt.Sprintf("no %s: %s", missing, w.without))
	}
	return r.order, notes, nil
}

// want adds the modules of w and names those that are missing, if that makes the want missing.
func (r *resolver) want(w want) (missing string, err error) {
	var absent []string
	for _, name := range w.modules {
		err := r.add(name)
		switch {
		case errors.Is(err, errNoModule):
			absent = append(absent, name)
		case err != nil:
			return "", err
		}
	}
	switch {
	case w.any && len(absent) == len(w.modules):
		return strings.Join(absent, " or "), nil
	case !w.any && len(absent) > 0:
		return absent[0], nil
	}
	return "", nil
}

// add puts a module behind all that it depends on. The error is errNoModule when the module itself, and nothing
// that it depends on, is missing.
func (r *resolver) add(name string) error {
	if r.tree.builtin[name] {
		return nil
	}
	switch r.state[name] {
	case done:
		return nil
	case inProgress:
		return fmt.Errorf("the modules in %s depend on one another in a circle at %s; the tree is damaged", r.tree.dir, name)
	}
	m, err := r.tree.load(name)
	if err != nil {
		return err
	}
	r.state[name] = inProgress
	// A soft dependency is often an alias of something built in ("crc32c"): what cannot be found is let go, as
	// modprobe does.
	for _, soft := range m.softPre {
		dep := r.softName(normalise(soft))
		if dep == "" || r.state[dep] == inProgress {
			continue
		}
		if err := r.add(dep); err != nil {
			return err
		}
	}
	for _, dep := range m.depends {
		err := r.add(dep)
		if errors.Is(err, errNoModule) {
			return fmt.Errorf("module %s depends on %s, which is neither built in nor in %s; the tree is not complete", name, dep, r.tree.dir)
		}
		if err != nil {
			return err
		}
	}
	r.state[name] = done
	if len(r.order) >= maxModules {
		return fmt.Errorf("the modules that bake needs of %s depend on more than %d others; the tree is damaged", r.tree.dir, maxModules)
	}
	r.order = append(r.order, orderedModule{name: name, data: m.data, feature: r.feature})
	return nil
}

// softName is the module in the tree that a soft dependency means; empty when there is none. Besides a module's own
// name it may be the alias of a crypto algorithm, with or without "crypto-" ("crc32c"); the file of an algorithm's
// portable implementation is called after it.
func (r *resolver) softName(name string) string {
	candidates := []string{name, name + "_generic", strings.TrimPrefix(name, "crypto_") + "_generic"}
	i := slices.IndexFunc(candidates, func(c string) bool { return r.tree.files[c] != "" })
	if i < 0 {
		return ""
	}
	return candidates[i]
}
