package rootfs

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

var (
	errLoop    = errors.New("too many symbolic links on the way (40 are followed)")
	errTooDeep = fmt.Errorf("it lies more than %d directories deep", maxDepth)
	errNotDir  = errors.New("not a directory")
)

type walkMode int

const (
	walkFollow walkMode = iota // the last component's link is followed; all must exist
	walkCreate                 // missing directories are made
)

// walker resolves one path. stack holds the directories from the root to where
// it stands, so that ".." in a link's target works and can't climb out.
type walker struct {
	t     *Tree
	stack []*Inode
	links int
}

func (w *walker) top() *Inode { return w.stack[len(w.stack)-1] }

// walk goes along path from the top of the stack and returns what it names.
// Symbolic links are followed inside the tree: an absolute target starts at
// the tree's root, and ".." stops there, as under chroot(2).
func (w *walker) walk(path string, mode walkMode) (*Inode, error) {
	rest := path
	for rest != "" {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		switch name {
		case "", ".":
			continue
		case "..":
			if len(w.stack) > 1 {
				w.stack = w.stack[:len(w.stack)-1]
			}
			continue
		}
		child, ok := w.top().children[name]
		switch {
		case !ok && mode == walkCreate:
			if err := checkName(name); err != nil {
				return nil, err
			}
			if err := w.t.count(); err != nil {
				return nil, err
			}
			dir := newDir(w.t.layer)
			w.top().children[name] = dirent{dir, w.t.layer}
			if err := w.push(dir); err != nil {
				return nil, err
			}
		case !ok:
			return nil, fmt.Errorf("%s: %w", display(name), os.ErrNotExist)
		case child.node.IsDir():
			if err := w.push(child.node); err != nil {
				return nil, err
			}
		case child.node.IsSymlink():
			if w.links++; w.links > maxLinks {
				return nil, errLoop
			}
			target := child.node.Target
			if strings.HasPrefix(target, "/") {
				w.stack = w.stack[:1]
			}
			// At most 41 targets of 4095 bytes can pile up here.
			rest = target + "/" + rest
		case strings.Trim(rest, "/") == "" && mode == walkFollow:
			return child.node, nil
		default:
			return nil, fmt.Errorf("%s: %w", display(name), errNotDir)
		}
	}
	return w.top(), nil
}

func (w *walker) push(dir *Inode) error {
	if len(w.stack) > maxDepth {
		return errTooDeep
	}
	w.stack = append(w.stack, dir)
	return nil
}

func checkName(name string) error {
	switch {
	case len(name) > maxName:
		return fmt.Errorf("a name in it is %d bytes long (Linux allows %d)", len(name), maxName)
	case strings.IndexByte(name, 0) >= 0:
		return errors.New("a name in it has a zero byte")
	}
	return nil
}

// cleanPath turns the name of a tar entry into a path relative to the tree's
// root, "" for the root itself. Leading slashes mean the root of the image, as
// everywhere in the field; a path that climbs above it is refused.
func cleanPath(name string) (string, error) {
	if len(name) > maxPath {
		return "", fmt.Errorf("its path is %d bytes long (Linux allows %d)", len(name), maxPath)
	}
	if !strings.Contains(name, "./") && !strings.Contains(name, "//") &&
		!strings.HasSuffix(name, "/") && !strings.HasPrefix(name, "/") &&
		!strings.HasSuffix(name, "/..") && name != "." && name != ".." && !strings.HasSuffix(name, "/.") {
		return name, nil // nothing to clean: the common case
	}
	parts := strings.Split(name, "/")
	out := parts[:0]
	for _, p := range parts {
		switch p {
		case "", ".":
		case "..":
			if len(out) == 0 {
				return "", errors.New("its path climbs out of the image with \"..\"")
			}
			out = out[:len(out)-1]
		default:
			out = append(out, p)
		}
	}
	return strings.Join(out, "/"), nil
}

// count admits one more entry.
func (t *Tree) count() error {
	if t.entries >= maxEntries {
		return fmt.Errorf("the image has more than %d files", maxEntries)
	}
	t.entries++
	return nil
}
