package ssh

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
)

// scriptMark is in every script that we write, which tells it from those of users.
const scriptMark = "# Logs in to one running app. Written by bake, which removes it when the app ends."

// fileLimit bounds what is read of a file to tell whose it is, in bytes.
const fileLimit = 64 << 10

// A File is one that was made for the time of a run, where the user asked for it.
type File struct {
	path string
	made os.FileInfo
}

// Remove removes the file, unless something else is there by now.
func (f *File) Remove() error {
	now, err := os.Lstat(f.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	// The number of an inode is used again.
	if err == nil && !(os.SameFile(now, f.made) && now.ModTime().Equal(f.made.ModTime())) {
		return nil
	}
	if err == nil {
		err = os.Remove(f.path)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove what this run made: %w", err)
	}
	return nil
}

// WritePrivateKey writes the private key to log in with to path, mode 0600. It
// replaces the key of another run, or an empty file, and nothing else.
func (k *Keys) WritePrivateKey(path string) (*File, error) {
	data, err := k.privateKeyFile()
	if err != nil {
		return nil, err
	}
	f, err := writeFile(path, data, 0o600, isRunKey)
	if err != nil {
		return nil, fmt.Errorf("write the private key to %s: %w", path, err)
	}
	return f, nil
}

// WriteScript writes a script to path, mode 0700, that logs in as l says, with its
// arguments as a command. It replaces the script of another run, or an empty file,
// and nothing else.
func WriteScript(path string, l Login) (*File, error) {
	data, err := script(l)
	if err == nil {
		var f *File
		if f, err = writeFile(path, data, 0o700, isScript); err == nil {
			return f, nil
		}
	}
	return nil, fmt.Errorf("write the script that logs in to %s: %w", path, err)
}

func script(l Login) ([]byte, error) {
	settings, err := l.Settings()
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "#!/bin/sh\n%s\nexec ssh", scriptMark)
	for _, s := range settings {
		fmt.Fprintf(&b, " \\\n\t-o %s", ShellQuote(s.Key+"="+s.Value))
	}
	// Options of ssh(1) may stand behind the destination, too.
	fmt.Fprintf(&b, " \\\n\t%s \"$@\"\n", l.Alias)
	return []byte(b.String()), nil
}

// isRunKey tells whether a file holds the private key of a run.
func isRunKey(data []byte) bool {
	block, _ := pem.Decode(data)
	return block != nil && bytes.Contains(block.Bytes, []byte(keyComment))
}

// isScript tells whether a file is a script of a run.
func isScript(data []byte) bool { return bytes.Contains(data, []byte(scriptMark)) }

// writeFile makes path whole or not at all. What is there must be ours to replace.
func writeFile(path string, data []byte, mode os.FileMode, ours func([]byte) bool) (*File, error) {
	if err := replaceable(path, ours); err != nil {
		return nil, err
	}
	if err := renameio.WriteFile(path, data, mode, renameio.IgnoreUmask()); err != nil {
		return nil, err
	}
	return made(path)
}

// made remembers what is at path.
func made(path string) (*File, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	return &File{path: path, made: info}, nil
}

// replaceable refuses to lose anything that a user may want to keep.
func replaceable(path string, ours func([]byte) bool) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	foreign := errors.New("there is something that no run of bake has made: remove it, or choose another path")
	if !info.Mode().IsRegular() {
		return foreign
	}
	if info.Size() == 0 {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, fileLimit))
	if err != nil {
		return err
	}
	if !ours(data) {
		return foreign
	}
	return nil
}

// Listen makes a Unix socket at path for this user alone, in the place of one that
// nobody listens on any more. Remove the File when the listener is closed.
func Listen(path string) (net.Listener, *File, error) {
	ln, f, err := listen(path)
	if err != nil {
		return nil, nil, fmt.Errorf("make the socket %s for SSH: %w", path, err)
	}
	return ln, f, nil
}

func listen(path string) (net.Listener, *File, error) {
	// The address holds the path and, on Linux too, a NUL that ends it (unix(7)).
	if room := len(syscall.RawSockaddrUnix{}.Path) - 1; len(path) > room {
		return nil, nil, fmt.Errorf("the path has %d bytes and the address of a Unix socket holds %d: use a shorter one", len(path), room)
	}
	if err := removeStale(path); err != nil {
		return nil, nil, err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, nil, err
	}
	ln.SetUnlinkOnClose(false) // the path may be another's by then
	f, err := made(path)
	if err == nil {
		// Before that the umask said who may connect. The key is needed anyway.
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		ln.Close()
		return nil, nil, err
	}
	return ln, f, nil
}

// removeStale removes a socket whose process is gone, and nothing else.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return errors.New("there is something that is not a socket: remove it, or choose another path")
	}
	conn, err := net.Dial("unix", path)
	switch {
	case err == nil:
		conn.Close()
		return errors.New("a process listens on it already: choose another path")
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	}
	return err
}
