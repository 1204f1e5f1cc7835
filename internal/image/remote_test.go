package image

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// testRegistry is a registry in this process on a loopback port, so over plain
// http. around wraps its handler.
func testRegistry(t *testing.T, around func(http.Handler) http.Handler) string {
	t.Helper()
	h := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	if around != nil {
		h = around(h)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func push(t *testing.T, ref string, img v1.Image) {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(r, img); err != nil {
		t.Fatal(err)
	}
}

func TestRegistry(t *testing.T) {
	host := testRegistry(t, nil)
	img, tars := sample(t, "amd64")
	ref := host + "/lib/app:1"
	push(t, ref, img)
	for _, source := range []string{ref, "docker://" + ref, host + "/lib/app@" + digestOf(t, img)} {
		checkImage(t, source, amd64, digestOf(t, img), tars)
	}
	checkImage(t, ref, Options{Arch: "amd64", CacheDir: t.TempDir()}, digestOf(t, img), tars)
	fails(t, ref, Options{Arch: "arm64"}, "is for linux/amd64", "--arch amd64")
	fails(t, host+"/lib/app:2", amd64, "no such file or directory", "has no "+host+"/lib/app:2", "check the name and the tag")
	fails(t, "docker://"+host+"/lib/none:2", amd64, "has no "+host+"/lib/none:2")

	opened, err := Open(context.Background(), ref, amd64)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	if opened.Ref != ref {
		t.Errorf("ref %s", opened.Ref)
	}
}

func TestMultiArch(t *testing.T) {
	host := testRegistry(t, nil)
	amd, amdTars := sample(t, "amd64")
	arm, _ := sample(t, "arm64")
	s390, _ := sample(t, "s390x")
	add := func(img v1.Image, arch string) mutate.IndexAddendum {
		return mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}}
	}
	pushIndex := func(ref string, adds ...mutate.IndexAddendum) {
		r, err := name.ParseReference(ref)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.WriteIndex(r, mutate.AppendManifests(empty.Index, adds...)); err != nil {
			t.Fatal(err)
		}
	}
	pushIndex(host+"/multi", add(s390, "s390x"), add(arm, "arm64"), add(amd, "amd64"))
	checkImage(t, host+"/multi", amd64, digestOf(t, amd), amdTars)
	img, err := Open(context.Background(), host+"/multi", Options{Arch: "arm64"})
	if err != nil || img.Digest != digestOf(t, arm) || img.Arch != "arm64" {
		t.Errorf("arm64: %+v, %v", img, err)
	}
	pushIndex(host+"/some", add(s390, "s390x"), add(arm, "arm64"))
	fails(t, host+"/some", amd64, "no image for linux/amd64", "linux/arm64, linux/s390x", "--arch arm64")
	pushIndex(host+"/none", add(s390, "s390x"))
	fails(t, host+"/none", amd64, "offers linux/s390x", "name another image")
	pushIndex(host + "/empty")
	fails(t, host+"/empty", amd64, "without any image")
	// What the index says and what the image says must agree.
	pushIndex(host+"/liar", add(arm, "amd64"))
	fails(t, host+"/liar", amd64, "is for linux/arm64")
}

type keychain struct{ user, password string }

func (k keychain) Resolve(authn.Resource) (authn.Authenticator, error) {
	if k.user == "" {
		return authn.Anonymous, nil
	}
	return &authn.Basic{Username: k.user, Password: k.password}, nil
}

func TestAuth(t *testing.T) {
	img, tars := sample(t, "amd64")
	var open atomic.Bool
	open.Store(true)
	host := testRegistry(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			user, password, _ := r.BasicAuth()
			switch {
			case open.Load() || user == "me" && password == "right":
				h.ServeHTTP(w, r)
			case user == "denied":
				w.WriteHeader(http.StatusForbidden)
			default:
				w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				w.WriteHeader(http.StatusUnauthorized)
			}
		})
	})
	ref := host + "/private"
	push(t, ref, img)
	open.Store(false)
	for _, k := range []keychain{{}, {"me", "wrong"}, {"denied", "x"}} {
		fails(t, ref, Options{Arch: "amd64", Keychain: k}, "doesn't let you have "+ref+":latest", `"docker login `+host+`"`)
	}
	checkImage(t, ref, Options{Arch: "amd64", Keychain: keychain{"me", "right"}}, digestOf(t, img), tars)
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close()
	fails(t, host+"/app", amd64, "no such file or directory", "registry "+host+" can't be reached")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Open(ctx, host+"/app", amd64); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestCache counts what is downloaded.
func TestCache(t *testing.T) {
	var mu sync.Mutex
	got := map[string]int{}
	var spoil atomic.Bool
	host := testRegistry(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
				mu.Lock()
				got[filepath.Base(r.URL.Path)]++
				mu.Unlock()
				if spoil.Load() && !strings.Contains(r.Header.Get("Accept"), "json") {
					rec := httptest.NewRecorder()
					h.ServeHTTP(rec, r)
					b := rec.Body.Bytes()
					if len(b) > 2000 { // a layer, not the configuration
						b[len(b)/2] ^= 1
					}
					for k, v := range rec.Header() {
						w.Header()[k] = v
					}
					w.WriteHeader(rec.Code)
					w.Write(b)
					return
				}
			}
			h.ServeHTTP(w, r)
		})
	})
	big := tarOf(t, "f", strings.Repeat("abcdefgh", 10000))
	img := imageOf(t, "amd64", plainLayerOf(t, big), layerOf(t, tarOf(t, "g", "h")), plainLayerOf(t, big))
	push(t, host+"/app", img)
	m, _ := img.Manifest()
	bigDigest := m.Layers[0].Digest
	cache := t.TempDir()
	opts := Options{Arch: "amd64", CacheDir: cache}
	tars := [][]byte{big, tarOf(t, "g", "h"), big}
	blobPath := filepath.Join(cache, "blobs", "sha256", bigDigest.Hex)

	spoil.Store(true)
	fails(t, host+"/app", opts, "download")
	if left, _ := filepath.Glob(filepath.Join(cache, "blobs", "sha256", ".*")); len(left) != 0 {
		t.Errorf("a failed download left %v", left)
	}
	if _, err := os.Stat(blobPath); err == nil {
		t.Error("a damaged download is in the cache")
	}
	spoil.Store(false)
	mu.Lock()
	clear(got)
	mu.Unlock()
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return got[bigDigest.String()]
	}

	for range 2 {
		checkImage(t, host+"/app", opts, digestOf(t, img), tars)
	}
	if n := count(); n != 1 {
		t.Errorf("the layer was downloaded %d times", n)
	}
	// A copy that rots is said to be damaged once, and fetched again.
	b, err := os.ReadFile(blobPath)
	if err != nil {
		t.Fatal(err)
	}
	b[1000] ^= 1
	os.WriteFile(blobPath, b, 0o600)
	fails(t, host+"/app", opts, "damaged", "get the image again")
	checkImage(t, host+"/app", opts, digestOf(t, img), tars)
	if n := count(); n != 2 {
		t.Errorf("the layer was downloaded %d times", n)
	}
	// Leftovers of killed downloads go after a day.
	stale, fresh := filepath.Join(cache, "blobs", "sha256", ".old-1"), filepath.Join(cache, "blobs", "sha256", ".new-1")
	os.WriteFile(stale, nil, 0o600)
	os.WriteFile(fresh, nil, 0o600)
	os.Chtimes(stale, time.Now(), time.Now().Add(-48*time.Hour))
	checkImage(t, host+"/app", opts, digestOf(t, img), tars)
	if _, err := os.Stat(stale); err == nil {
		t.Error("an old leftover is still there")
	}
	if _, err := os.Stat(fresh); err != nil {
		t.Error("a download of another process was removed")
	}
}

// TestCloseEndsDownloads closes an image whose download never ends.
func TestCloseEndsDownloads(t *testing.T) {
	img := imageOf(t, "amd64", plainLayerOf(t, tarOf(t, "f", strings.Repeat("x", 1<<20))))
	m, _ := img.Manifest()
	slow := make(chan struct{})
	host := testRegistry(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, m.Layers[0].Digest.String()) {
				w.Header().Set("Content-Length", "1050624")
				w.Write(make([]byte, 1000))
				w.(http.Flusher).Flush()
				close(slow)
				<-r.Context().Done()
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	push(t, host+"/app", img)
	opened, err := Open(context.Background(), host+"/app", Options{Arch: "amd64", CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, err := opened.Layers[0].Open(context.Background())
		ended <- err
	}()
	<-slow
	opened.Close()
	if err := <-ended; err == nil {
		t.Error("the layer of a closed image was opened")
	}
}
