package sshclient

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/crypto/ssh"
)

// handshakeTimeout bounds the handshake with a server that took the connection.
// The guest's processor may be emulated, and have more to do.
const handshakeTimeout = time.Minute

// knownHostsLimit bounds the file with the server's key.
const knownHostsLimit = 64 << 10

// A Target is a guest to log in to, as [instance.Instance] is one.
type Target interface {
	// DialSSH returns a stream to the guest's SSH server.
	DialSSH(ctx context.Context) (net.Conn, error)
	// Key is the private key that the server lets in.
	Key(ctx context.Context) (ed25519.PrivateKey, error)
	// KnownHosts is the path of the file that holds the server's public key.
	KnownHosts() string
}

// Dial logs in to the container as user, who is one of the container's. ctx
// bounds the login and has no effect on the client that is returned.
func Dial(ctx context.Context, t Target, user string) (*ssh.Client, error) {
	hostKey, err := readHostKey(t.KnownHosts())
	if err != nil {
		return nil, err
	}
	key, err := t.Key(ctx)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, fmt.Errorf("use the instance's key to log in: %w", err)
	}
	conn, err := t.DialSSH(ctx)
	if err != nil {
		return nil, err
	}
	client, err := login(ctx, conn, &ssh.ClientConfig{
		User:              user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback:   ssh.FixedHostKey(hostKey),
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
		ClientVersion:     "SSH-2.0-bake",
	})
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("log in to the container: %w", err)
	}
	return client, nil
}

// login makes the handshake. Its end moves the connection's deadline into the
// past, which wakes the read or write under way.
func login(ctx context.Context, conn net.Conn, config *ssh.ClientConfig) (*ssh.Client, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, handshakeTimeout, errors.New("the server in the guest did not answer in time"))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	c, channels, requests, err := ssh.NewClientConn(conn, "bake", config)
	if !stop() {
		if err == nil {
			c.Close()
		}
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	return ssh.NewClient(c, channels, requests), nil
}

// readHostKey reads the key of the guest's server from a file that has one key,
// in the format of sshd(8), SSH_KNOWN_HOSTS FILE FORMAT. The directory says whose
// key it is, so the names before the key are not looked at.
func readHostKey(path string) (ssh.PublicKey, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errors.New("nobody can log in to this instance: it was started with --no-ssh")
	}
	if err != nil {
		return nil, fmt.Errorf("read the key of the guest's SSH server: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, knownHostsLimit))
	if err != nil {
		return nil, fmt.Errorf("read the key of the guest's SSH server: %w", err)
	}
	_, _, key, _, rest, err := ssh.ParseKnownHosts(data)
	if err != nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%s does not hold the one key of the guest's SSH server", path)
	}
	return key, nil
}
