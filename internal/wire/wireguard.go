package wire

import (
	"encoding/base64"
	"errors"
	"net/netip"
)

// A WireGuard is a tunnel of the guest, made with the kernel's own WireGuard.
// The host has checked all of it; names of endpoints are looked up in the guest.
type WireGuard struct {
	// Name is the interface's.
	Name       string          `json:"name"`
	PrivateKey WireGuardSecret `json:"privateKey"`
	// ListenPort is the UDP port in the guest; 0 lets the kernel choose.
	ListenPort uint16 `json:"listenPort,omitempty"`
	// FwMark is on the packets that the tunnel itself sends; 0 lets the agent
	// choose one if routing needs it.
	FwMark uint32 `json:"fwMark,omitempty"`
	// Addresses are those of the interface, with the length of their network's
	// prefix.
	Addresses []netip.Prefix `json:"addresses,omitempty"`
	// MTU is the interface's, in bytes.
	MTU int `json:"mtu"`
	// Table is the routing table for the peers' AllowedIPs, or 0: then the
	// agent takes one of its own, and rules that send into it all but the
	// tunnel's own packets. With NoRoutes there are no routes.
	Table    uint32          `json:"table,omitempty"`
	NoRoutes bool            `json:"noRoutes,omitempty"`
	Peers    []WireGuardPeer `json:"peers,omitempty"`
}

// A WireGuardPeer is one peer of a tunnel.
type WireGuardPeer struct {
	PublicKey WireGuardKey `json:"publicKey"`
	// PresharedKey is zero where there is none, as in the protocol.
	PresharedKey WireGuardSecret `json:"presharedKey,omitzero"`
	// Endpoint is where the peer is reached first. Without one it has to send
	// first.
	Endpoint WireGuardEndpoint `json:"endpoint,omitzero"`
	// AllowedIPs are the destinations that are sent to this peer, and the
	// sources that it may use. They are masked.
	AllowedIPs []netip.Prefix `json:"allowedIPs,omitempty"`
	// Keepalive is the seconds between packets that keep the way to this peer
	// open; 0 sends none.
	Keepalive uint16 `json:"keepalive,omitempty"`
}

// A WireGuardEndpoint is an address or a name, and a UDP port.
type WireGuardEndpoint struct {
	// Name is empty where Addr is valid.
	Name string     `json:"name,omitempty"`
	Addr netip.Addr `json:"addr,omitzero"`
	Port uint16     `json:"port"`
}

// IsZero reports whether there is no endpoint.
func (e WireGuardEndpoint) IsZero() bool { return e == WireGuardEndpoint{} }

// A WireGuardKey is a Curve25519 public key. Its text is base64, as in wg(8).
type WireGuardKey [32]byte

// A WireGuardSecret is a Curve25519 private key or a preshared key. It prints
// as "(secret)"; its text, for encoding it, is base64.
type WireGuardSecret [32]byte

func (k WireGuardKey) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

func (k WireGuardKey) MarshalText() ([]byte, error) { return encodeKey(k[:]), nil }

func (k *WireGuardKey) UnmarshalText(text []byte) error { return decodeKey(k[:], text) }

// String and GoString keep the secret out of logs and errors.
func (WireGuardSecret) String() string   { return "(secret)" }
func (WireGuardSecret) GoString() string { return "(secret)" }

func (s WireGuardSecret) MarshalText() ([]byte, error) { return encodeKey(s[:]), nil }

func (s *WireGuardSecret) UnmarshalText(text []byte) error { return decodeKey(s[:], text) }

func encodeKey(key []byte) []byte {
	return base64.StdEncoding.AppendEncode(nil, key)
}

// decodeKey takes base64 in its one canonical form. Its error has nothing of
// the text, which may be secret.
func decodeKey(key, text []byte) error {
	if len(text) != base64.StdEncoding.EncodedLen(len(key)) {
		return errors.New("a key has 32 bytes, which are 44 characters of base64")
	}
	b, err := base64.StdEncoding.Strict().DecodeString(string(text))
	if err != nil || len(b) != len(key) {
		return errors.New("it is not the base64 of 32 bytes")
	}
	copy(key, b)
	return nil
}
