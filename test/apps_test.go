//go:build linux

package test

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/rogpeppe/go-internal/testscript"
)

// save IMAGE FORMAT PATH
func cmdSave(ts *testscript.TestScript, args []string) {
	need(ts, args, 3, "save IMAGE docker-archive|oci|oci-tar|rootfs-tar PATH")
	img := scriptOf(ts).lab.registry.images[args[0]]
	path := ts.MkAbs(args[2])
	if img == nil {
		ts.Fatalf("there is no image %s", args[0])
	}
	switch args[1] {
	case "docker-archive":
		tag, err := name.NewTag("example.test/" + args[0] + ":saved")
		ts.Check(err)
		ts.Check(tarball.WriteToFile(path, tag, img))
	case "oci":
		ts.Check(writeLayout(path, img))
	case "oci-tar":
		dir := path + ".layout"
		ts.Check(writeLayout(dir, img))
		ts.Check(tarDir(dir, path))
		ts.Check(os.RemoveAll(dir))
	case "rootfs-tar":
		// Only one image has layers that hide something of each other.
		files, err := busyboxFiles(ts.ReadFile(filepath.Join(scriptOf(ts).lab.bin, "probe")))
		ts.Check(err)
		if args[0] == "layers" {
			files = append(files, flatData()...)
		}
		f, err := os.Create(path)
		ts.Check(err)
		ts.Check(writeTar(f, files))
		ts.Check(f.Close())
	default:
		ts.Fatalf("there is no format %s", args[1])
	}
}

func writeLayout(dir string, img v1.Image) error {
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	return p.AppendImage(img)
}

func tarDir(dir, path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	tw := tar.NewWriter(f)
	if err := tw.AddFS(os.DirFS(dir)); err != nil {
		return err
	}
	if err := tw.Close(); err != nil {
		return err
	}
	return f.Close()
}

// A place is where a part of an app is in its file.
type place struct {
	Name   string `json:"name"`
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
}

// places asks bake where the parts of an app are; the whole payload is the one
// without a name.
func places(ts *testscript.TestScript, app string) []place {
	out, err := exec.Command(filepath.Join(scriptOf(ts).lab.bin, "bake"), "inspect", "--json", app).Output()
	if err != nil {
		ts.Fatalf("bake inspect %s: %v", app, err)
	}
	var r struct {
		Payload place   `json:"payload"`
		Parts   []place `json:"parts"`
	}
	ts.Check(json.Unmarshal(out, &r))
	if r.Payload.Size == 0 || len(r.Parts) == 0 {
		ts.Fatalf("bake inspect --json does not say where the parts are: %s", out)
	}
	return append([]place{r.Payload}, r.Parts...)
}

// flip FILE PART
func cmdFlip(ts *testscript.TestScript, args []string) {
	need(ts, args, 2, "flip FILE PART")
	path := ts.MkAbs(args[0])
	for _, p := range places(ts, path) {
		if p.Name == args[1] {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			ts.Check(err)
			defer f.Close()
			ts.Check(invert(f, p.Offset+p.Size/2))
			return
		}
	}
	ts.Fatalf("%s has no part %s", args[0], args[1])
}

func invert(f *os.File, at int64) error {
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return err
	}
	b[0] ^= 0xff
	_, err := f.WriteAt(b[:], at)
	return err
}

// mutate APP N runs the app N times, each time with a few other bytes of its
// payload set to something else, as BAKE_DRY_RUN=1: it must describe its VM or
// fail with a sentence.
func cmdMutate(ts *testscript.TestScript, args []string) {
	need(ts, args, 2, "mutate APP N")
	app := ts.MkAbs(args[0])
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	places := places(ts, app)
	random := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for i := range n {
		undo, err := damage(app, places, random)
		ts.Check(err)
		cmd := scriptOf(ts).command(ts, []string{app})
		cmd.Env = append(cmd.Env, "BAKE_DRY_RUN=1")
		s := newSession(cmd)
		ts.Check(s.start(false))
		got, err := s.finish()
		said := s.err.String()
		switch {
		case err != nil:
			ts.Fatalf("mutation %d: %v", i, err)
		case got != "0" && got != "125":
			ts.Fatalf("mutation %d: the app ended with %s\n%s", i, got, said)
		case crashed.MatchString(said):
			ts.Fatalf("mutation %d: the app crashed\n%s", i, said)
		case got == "125" && len(lines(emulated.ReplaceAllString(said, ""))) != 1:
			ts.Fatalf("mutation %d: an error is one line, this is\n%s", i, said)
		case got == "125":
			refused++
		}
		ts.Check(undo())
	}
	fmt.Fprintf(ts.Stdout(), "%d of %d refused\n", refused, n)
}

// damage changes 1 to 8 bytes of the payload. Every second time they are in
// what the app must understand before it can boot.
func damage(app string, places []place, random *rand.Rand) (undo func() error, err error) {
	f, err := os.OpenFile(app, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	where := places[0]
	switch random.IntN(4) {
	case 0: // the header
		where.Size = 4096
	case 1:
		for _, p := range places {
			if p.Name == "manifest" {
				where = p
			}
		}
	}
	type change struct {
		at  int64
		was byte
	}
	var changes []change
	for range 1 + random.IntN(8) {
		at := where.Offset + random.Int64N(where.Size)
		var b [1]byte
		if _, err := f.ReadAt(b[:], at); err != nil {
			return nil, err
		}
		changes = append(changes, change{at, b[0]})
		b[0] = byte(random.Uint32())
		if _, err := f.WriteAt(b[:], at); err != nil {
			return nil, err
		}
	}
	return func() error {
		f, err := os.OpenFile(app, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		for i := len(changes) - 1; i >= 0; i-- {
			if _, err := f.WriteAt([]byte{changes[i].was}, changes[i].at); err != nil {
				return err
			}
		}
		return f.Close()
	}, nil
}
