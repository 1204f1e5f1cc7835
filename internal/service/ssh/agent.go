package ssh

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"os"

	"golang.org/x/crypto/ssh"

	"bake/internal/platform"
	"bake/internal/relay"
	"bake/internal/wire"
)

const (
	// agentConns bounds the connections to the agent that are served at once; the
	// others wait. ssh(1) holds one for as long as its session lasts.
	agentConns = 256
	// agentRequestLimit bounds a request, in bytes, as ssh-agent(1) does.
	agentRequestLimit = 256 << 10
)

// The messages of draft-ietf-sshm-ssh-agent, section 5, that the agent knows.
const (
	agentFailure           = 5
	agentRequestIdentities = 11
	agentSignRequest       = 13
)

// errForeign says that a peer is not this process's user.
var errForeign = errors.New("the peer is another user")

// ServeAgent is an ssh-agent on ln, a Unix socket, until ctx ends, with nil. It
// has one key, which it lists and signs with for its own user; all else it
// refuses, as the protocol has it for requests that an agent does not know.
func ServeAgent(ctx context.Context, ln net.Listener, key ed25519.PrivateKey) error {
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		ln.Close()
		return err
	}
	return relay.Serve(ctx, ln, agentConns, func(_ context.Context, conn net.Conn) {
		if samePeer(conn) == nil {
			serveAgentConn(conn, signer)
		}
	})
}

// samePeer checks that a peer is this process's user.
func samePeer(conn net.Conn) error {
	uid, err := platform.PeerUID(conn)
	if err != nil {
		return err
	}
	if uid != os.Geteuid() {
		return errForeign
	}
	return nil
}

// serveAgentConn answers one peer. A message of the agent protocol is framed as
// one of ours: its length in four bytes, big-endian, then its type and contents.
func serveAgentConn(conn net.Conn, signer ssh.Signer) {
	for {
		request, err := wire.ReadFrame(conn, agentRequestLimit)
		if err != nil {
			return
		}
		if err := wire.WriteFrame(conn, answer(request, signer), agentRequestLimit); err != nil {
			return
		}
	}
}

// answer is the response to one request.
func answer(request []byte, signer ssh.Signer) []byte {
	refusal := []byte{agentFailure}
	if len(request) == 0 {
		return refusal
	}
	blob := signer.PublicKey().Marshal()
	switch request[0] {
	case agentRequestIdentities:
		return ssh.Marshal(struct {
			N       uint32 `sshtype:"12"`
			Blob    []byte
			Comment string
		}{1, blob, keyComment})
	case agentSignRequest:
		var m struct {
			Blob  []byte `sshtype:"13"`
			Data  []byte
			Flags uint32 // only RSA has any
		}
		if ssh.Unmarshal(request, &m) != nil || string(m.Blob) != string(blob) {
			return refusal
		}
		signature, err := signer.Sign(rand.Reader, m.Data)
		if err != nil {
			return refusal
		}
		return ssh.Marshal(struct {
			Signature []byte `sshtype:"14"`
		}{ssh.Marshal(signature)})
	}
	return refusal
}
