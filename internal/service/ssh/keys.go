package ssh

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"

	"bake/internal/wire"
)

// The names of what is published in an instance's directory.
const (
	// KnownHostsFile holds the public key of the guest's server, in the format of
	// sshd(8), SSH_KNOWN_HOSTS FILE FORMAT.
	KnownHostsFile = "known_hosts"
	// IdentityFile holds the public key to log in with: by it ssh(1) finds the
	// private one in the agent.
	IdentityFile = "identity.pub"
	// AgentSocket is where [ServeAgent] listens.
	AgentSocket = "agent"
)

// keyComment is in every private key that is written to a file, which tells it
// from the keys that a user wants to keep.
const keyComment = "the key of one run of bake"

// hostPattern stands for every name of an instance in its known_hosts: the file
// is the instance's own, so it need not tell instances apart.
const hostPattern = "bake-*"

// Keys are those of one run, RFC 8709.
type Keys struct {
	host, client ed25519.PrivateKey
}

// NewKeys makes the key of the guest's server and the one that it lets in.
func NewKeys() (*Keys, error) {
	var k Keys
	for _, key := range []*ed25519.PrivateKey{&k.host, &k.client} {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("make a key for SSH: %w", err)
		}
		*key = private
	}
	return &k, nil
}

// Client is the private key to log in with.
func (k *Keys) Client() ed25519.PrivateKey { return k.client }

// Manifest is what the guest is told.
func (k *Keys) Manifest() *wire.SSH {
	return &wire.SSH{HostKey: k.host.Seed(), ClientKey: k.client.Public().(ed25519.PublicKey)}
}

// Publish writes both public keys into dir, an instance's directory.
func (k *Keys) Publish(dir string) error {
	host, err := authorizedKey(k.host)
	if err != nil {
		return err
	}
	client, err := authorizedKey(k.client)
	if err != nil {
		return err
	}
	host = append([]byte(hostPattern+" "), host...)
	if err := os.WriteFile(filepath.Join(dir, KnownHostsFile), host, 0o600); err != nil {
		return fmt.Errorf("publish the key of the guest's SSH server: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, IdentityFile), client, 0o600); err != nil {
		return fmt.Errorf("publish the key to log in with: %w", err)
	}
	return nil
}

// authorizedKey is the public half as one line, sshd(8), AUTHORIZED_KEYS FILE
// FORMAT.
func authorizedKey(k ed25519.PrivateKey) ([]byte, error) {
	public, err := ssh.NewPublicKey(k.Public())
	if err != nil {
		return nil, fmt.Errorf("encode a key for SSH: %w", err)
	}
	return ssh.MarshalAuthorizedKey(public), nil
}

// privateKeyFile is the client's key in OpenSSH's format, PROTOCOL.key.
func (k *Keys) privateKeyFile() ([]byte, error) {
	block, err := ssh.MarshalPrivateKey(k.client, keyComment)
	if err != nil {
		return nil, fmt.Errorf("encode the private key: %w", err)
	}
	return pem.EncodeToMemory(block), nil
}
