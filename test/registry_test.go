//go:build linux

package test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// A registry serves the tests' images over HTTP on the loopback. What is below
// private/ asks for a user and a password.
type registry struct {
	server *httptest.Server
	addr   string
	images map[string]v1.Image
}

const (
	registryUser     = "baker"
	registryPassword = "open sesame"
)

func newRegistry(probe string) (*registry, error) {
	images, err := makeImages(probe)
	if err != nil {
		return nil, err
	}
	inner := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	r := &registry{images: images}
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		user, password, _ := req.BasicAuth()
		locked := strings.HasPrefix(req.URL.Path, "/v2/private/")
		// A client learns here that there is something to authenticate for.
		ping := req.URL.Path == "/v2/" && req.Header.Get("Authorization") == ""
		if (locked || ping) && (user != registryUser || password != registryPassword) {
			w.Header().Set("WWW-Authenticate", `Basic realm="bake's tests"`)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who are you?"}]}`)
			return
		}
		inner.ServeHTTP(w, req)
	}))
	r.addr = strings.TrimPrefix(r.server.URL, "http://")
	if err := r.push(); err != nil {
		r.close()
		return nil, fmt.Errorf("fill the tests' registry: %w", err)
	}
	return r, nil
}

func (r *registry) close() { r.server.Close() }

func (r *registry) push() error {
	auth := remote.WithAuth(&authn.Basic{Username: registryUser, Password: registryPassword})
	for path, img := range r.images {
		ref, err := name.ParseReference(r.addr + "/" + path)
		if err != nil {
			return err
		}
		if err := remote.Write(ref, img, auth); err != nil {
			return err
		}
	}
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: r.images["foreign"], Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: otherArch()}}},
		mutate.IndexAddendum{Add: r.images["busybox"], Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: thisArch()}}},
	)
	ref, err := name.ParseReference(r.addr + "/many")
	if err != nil {
		return err
	}
	return remote.WriteIndex(ref, index, auth)
}

// buildProgram compiles a program of the tests: probe, which runs in
// containers, world, which is around them, posix and attack, which are in volumes,
// or storm, which starts apps.
func buildProgram(name, path string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "./"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compile %s: %w\n%s", name, err, out)
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	mode := info.Mode().Perm() | 0o444
	if filepath.Ext(from) == "" {
		mode |= 0o111
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
