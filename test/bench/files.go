//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"bake/test/bench/traffic"
)

// virtiofsd is the peer as Debian installs it with QEMU.
const virtiofsd = "/usr/lib/qemu/virtiofsd"

const (
	filesRounds = 3
	filesTime   = 25 * time.Minute
	// What is measured: MiB written and read, small files made, looked at and
	// removed, and files that are found.
	filesMiB   = 64
	filesSmall = 1000
	filesFound = 100_000
	// spareOpen is how many descriptors virtiofsd needs beside one for each
	// file that the guest remembers.
	spareOpen = 4000
)

// A filesGuest is an app with a volume, whose VM has the peer's device too.
type filesGuest struct {
	dir    string // short: sockets are made in it
	mode   string // of the volume
	open   int    // descriptors that a server may have
	found  int    // files to find
	app    *exec.Cmd
	server *exec.Cmd // virtiofsd
	stderr bytes.Buffer
	orders *orders
	sides  [2]filesSide // ours and the peer's
}

// A filesSide is a directory of the host in the guest.
type filesSide struct {
	name, host, guest string
	took              map[string]*samples // microseconds
}

const (
	oursSide = iota
	peerSide
)

// measureFiles is the benchmark.
func measureFiles(ctx context.Context, b *bench) error {
	ctx, cancel := context.WithTimeout(ctx, filesTime)
	defer cancel()
	open, err := raiseOpenFiles()
	if err != nil {
		return err
	}
	app, err := b.filesApp(ctx)
	if err != nil {
		return err
	}
	for _, mode := range []string{"9p", "virtiofs"} {
		g, err := b.startFilesGuest(ctx, app, mode, open)
		if err == nil {
			err = errors.Join(g.measure(), g.stop())
		}
		if err != nil {
			return fmt.Errorf("%w\nwhat the app said:\n%s", err, g.stderr.Bytes())
		}
		g.tell(&b.table)
	}
	return nil
}

// raiseOpenFiles lets this process's children have as many files open as they
// may, and says how many.
func raiseOpenFiles() (int, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, err
	}
	const enough = filesFound + spareOpen
	if more := (unix.Rlimit{Cur: enough, Max: enough}); l.Max < enough && unix.Setrlimit(unix.RLIMIT_NOFILE, &more) == nil {
		return enough, nil // as root may
	}
	l.Cur = l.Max
	return int(min(l.Max, enough)), unix.Setrlimit(unix.RLIMIT_NOFILE, &l)
}

// filesApp is a busybox with the benchmark's own program.
func (b *bench) filesApp(ctx context.Context) (string, error) {
	root, err := b.busyboxTree("files")
	if err != nil {
		return "", err
	}
	guest := filepath.Join(root, "bin/guest")
	if _, err := run(ctx, []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", guest, "./test/bench/guest"); err != nil {
		return "", err
	}
	app := filepath.Join(b.dir, "files.app")
	return app, b.bake(ctx, root, app, "--entrypoint", "/bin/guest")
}

func (b *bench) startFilesGuest(ctx context.Context, app, mode string, open int) (g *filesGuest, err error) {
	g = &filesGuest{mode: mode, open: open, found: min(filesFound, open-spareOpen)}
	defer func() {
		if err != nil {
			g.abandon()
		}
	}()
	// In memory, so that the host's disk has no say.
	if g.dir, err = os.MkdirTemp("/dev/shm", "bf"); err != nil {
		return g, err
	}
	for i, name := range []string{"bake's " + mode, map[string]string{"9p": "QEMU's 9p", "virtiofs": "virtiofsd"}[mode]} {
		side := filesSide{name: name, host: filepath.Join(g.dir, strconv.Itoa(i)), guest: "/side" + strconv.Itoa(i), took: map[string]*samples{}}
		if err := os.Mkdir(side.host, 0o755); err != nil {
			return g, err
		}
		g.sides[i] = side
	}
	p, err := planOf(ctx, app)
	if err != nil {
		return g, err
	}
	devices, mount, err := g.peer(ctx)
	if err != nil {
		return g, err
	}
	qemu := filepath.Join(g.dir, "qemu")
	script := fmt.Sprintf("#!/bin/sh\ncase \" $* \" in\n*\" -kernel \"*) exec '%s' \"$@\" %s ;;\n*) exec '%[1]s' \"$@\" ;;\nesac\n", p.Command[0], devices)
	if err := os.WriteFile(qemu, []byte(script), 0o755); err != nil {
		return g, err
	}
	g.app = appCommand(ctx, app, "--memory", "1g", "--volume-mode", mode, "-v", g.sides[oursSide].host+":"+g.sides[oursSide].guest, "--", "container")
	g.app.Env = append(g.app.Env, "BAKE_QEMU="+qemu, "XDG_RUNTIME_DIR="+g.dir)
	g.app.Stderr = &g.stderr
	in, err := g.app.StdinPipe()
	if err != nil {
		return g, err
	}
	out, err := g.app.StdoutPipe()
	if err != nil {
		return g, err
	}
	g.orders = newOrders(struct {
		io.Reader
		io.Writer
	}{out, in})
	if err := g.app.Start(); err != nil {
		return g, err
	}
	peer := g.sides[peerSide].guest
	if _, err := g.do("/bin/busybox", "mkdir", peer); err != nil {
		return g, err
	}
	if _, err := g.do(append(append([]string{"/bin/busybox", "mount"}, mount...), "peer", peer)...); err != nil {
		return g, fmt.Errorf("mount %s in the guest: %w", g.sides[peerSide].name, err)
	}
	return g, nil
}

// peer starts what serves the peer's side. It returns QEMU's arguments and
// those of mount(8). The 9P client gets the options that bake's has.
func (g *filesGuest) peer(ctx context.Context) (devices string, mount []string, err error) {
	dir := g.sides[peerSide].host
	// virtiofsd serves no legacy device, which microvm's are otherwise.
	const modern = "-global virtio-mmio.force-legacy=false "
	if g.mode == "9p" {
		return modern + fmt.Sprintf("-fsdev 'local,id=peer,path=%s,security_model=passthrough' -device virtio-9p-device,fsdev=peer,mount_tag=peer", dir),
			[]string{"-t", "9p", "-o", "trans=virtio,version=9p2000.L,cache=mmap,access=client,msize=262144"}, nil
	}
	socket := filepath.Join(g.dir, "fs")
	g.server = exec.CommandContext(ctx, virtiofsd, "--socket-path="+socket, "-o", "source="+dir, "-o", "sandbox=chroot", "-o", "xattr", "-f",
		fmt.Sprintf("--rlimit-nofile=%d", g.open))
	g.server.Stderr = &g.stderr
	g.server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := g.server.Start(); err != nil {
		return "", nil, fmt.Errorf("start the virtiofsd of qemu-system-common: %w", err)
	}
	return modern + fmt.Sprintf("-chardev socket,id=peer,path=%s -device vhost-user-fs-device,chardev=peer,tag=peer,queue-size=1024", socket),
		[]string{"-t", "virtiofs"}, waitFor(ctx, socket)
}

// do runs a command in the container.
func (g *filesGuest) do(command ...string) (string, error) {
	r, err := g.orders.do(traffic.Order{Op: traffic.OrderRun, Command: command})
	if err != nil {
		return "", fmt.Errorf("%s: %w", strings.Join(command, " "), err)
	}
	return r.Output, nil
}

// measure measures both sides by turns.
func (g *filesGuest) measure() error {
	what := [][2]string{{"sequential", strconv.Itoa(filesMiB)}, {"small", strconv.Itoa(filesSmall)}}
	if g.mode == "virtiofs" {
		what = append(what, [2]string{"find", strconv.Itoa(g.found)})
		for _, side := range g.sides {
			if err := plant(filepath.Join(side.host, "tree"), g.found); err != nil {
				return err
			}
		}
	}
	if g.mode == "virtiofs" && g.found < filesFound {
		// What the peer cannot do here is measured of ours alone.
		ours := &g.sides[oursSide]
		if err := plant(filepath.Join(ours.host, "all"), filesFound); err != nil {
			return err
		}
		out, err := g.do("/bin/guest", "files", "find", ours.guest+"/all", strconv.Itoa(filesFound))
		if err != nil {
			return fmt.Errorf("find %d files: %w", filesFound, err)
		}
		if err := ours.add("all " + strings.TrimPrefix(out, "find ")); err != nil {
			return err
		}
	}
	for range filesRounds {
		for i := range g.sides {
			side := &g.sides[i]
			for _, w := range what {
				dir := side.guest
				if w[0] == "find" {
					dir += "/tree"
				}
				out, err := g.do("/bin/guest", "files", w[0], dir, w[1])
				if err != nil {
					return fmt.Errorf("measure %s: %w", side.name, err)
				}
				if err := side.add(out); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// add takes the lines "NAME MICROSECONDS".
func (s *filesSide) add(out string) error {
	for line := range strings.Lines(out) {
		var name string
		var us float64
		if _, err := fmt.Sscan(line, &name, &us); err != nil {
			return fmt.Errorf("the guest measured %q: %w", line, err)
		}
		if s.took[name] == nil {
			s.took[name] = &samples{}
		}
		s.took[name].add(us)
	}
	return nil
}

// plant makes the files that are to be found.
func plant(dir string, n int) error {
	const each = 500
	for i := range n {
		sub := filepath.Join(dir, strconv.Itoa(i/each))
		if i%each == 0 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("file%06d", i)), nil, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// tell adds the rows of the table.
func (g *filesGuest) tell(tab *table) {
	limits := map[string]float64{"write": 1, "read": 1}
	if g.mode == "virtiofs" {
		limits = map[string]float64{"write": 0.9, "read": 0.9, "create": 1, "stat": 1, "unlink": 1, "find": 1 / 1.5}
	}
	if all := g.sides[oursSide].took["all"]; all != nil {
		tab.figure(fmt.Sprintf("%s: find over %d files, s", g.sides[oursSide].name, filesFound), all.scaled(1e-6).text("%.1f"))
	}
	for _, name := range []string{"write", "read", "create", "stat", "readall", "unlink", "find"} {
		ours, theirs := g.sides[oursSide].took[name], g.sides[peerSide].took[name]
		if ours == nil || theirs == nil {
			continue
		}
		for _, side := range g.sides {
			took := *side.took[name]
			switch name {
			case "write", "read":
				rate := took.with(took, func(us, _ float64) float64 { return filesMiB * (1 << 20) / us })
				tab.figure(fmt.Sprintf("%s: %s of %d MiB, MB/s", side.name, name, filesMiB), rate.text("%.0f"))
			case "find":
				tab.figure(fmt.Sprintf("%s: find over %d files, s", side.name, g.found), took.scaled(1e-6).text("%.1f"))
			default:
				tab.figure(fmt.Sprintf("%s: %s, µs a file", side.name, name), took.scaled(1.0/filesSmall).text("%.0f"))
			}
		}
		r := ratioOf(*theirs, *ours) // how much faster
		row := fmt.Sprintf("%s: speed of %s, of that of %s", g.sides[oursSide].name, name, g.sides[peerSide].name)
		if limit, ok := limits[name]; ok {
			tab.atLeast(row, r.String(), r.value, limit, "×")
		} else {
			tab.figure(row, r.String())
		}
	}
}

func (g *filesGuest) stop() error {
	err := g.orders.powerOff()
	if e := g.app.Wait(); e != nil {
		err = errors.Join(err, fmt.Errorf("the app: %w", e))
	}
	g.abandon()
	return err
}

// abandon ends whatever still runs.
func (g *filesGuest) abandon() {
	for _, cmd := range []*exec.Cmd{g.app, g.server} {
		if cmd == nil || cmd.Process == nil || cmd.ProcessState != nil {
			continue
		}
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()                          // as it was told
	}
	if g.dir != "" {
		os.RemoveAll(g.dir)
	}
}
