//go:build linux

package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
)

// serveHTTP [-dir=DIR] ADDR... serves the files of DIR and besides
//
//	/remote      the address that the request comes from
//	/pattern/N   N bytes, the same as those of probe pattern N
//	/sum         for POST and PUT: how many bytes came, and their SHA-256
func serveHTTP(args []string) error {
	dir, addrs := option(args, "dir")
	handler := testHandler(dir)
	for _, addr := range addrs {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		go func() { fmt.Fprintln(os.Stderr, "world:", http.Serve(ln, handler)) }()
	}
	return untilTerminated()
}

// testHandler is what serveHTTP serves; dir may be empty.
func testHandler(dir string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/remote", func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintln(w, host)
	})
	mux.HandleFunc("/pattern/{size}", func(w http.ResponseWriter, r *http.Request) {
		size, err := strconv.ParseInt(r.PathValue("size"), 10, 64)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		_, _ = io.CopyN(w, patternOf(), size) // the client tells
	})
	mux.HandleFunc("/sum", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		if err != nil {
			return
		}
		fmt.Fprintf(w, "%d %x\n", n, h.Sum(nil))
	})
	if dir != "" {
		mux.Handle("/", http.FileServerFS(os.DirFS(dir)))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		say("%s %s for %s from %s", r.Method, r.URL.Path, r.Host, r.RemoteAddr)
		mux.ServeHTTP(w, r)
	})
}

// patternOf is what probe pattern prints.
func patternOf() io.Reader {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], 42)
	return rand.NewChaCha8(seed)
}
