package app

import (
	"context"
	"io"
	"net"
	"strings"

	"bake/internal/service/forward"
)

// publishedPorts are the ports that the user asked for and, with PublishAll,
// those that the image exposes beside them. others are exposed and of a
// protocol that cannot be published.
func publishedPorts(exposed []string, o Options) (ports []forward.Port, others []string, err error) {
	ports = o.Publish
	if o.PublishAll {
		var more []forward.Port
		if more, others, err = forward.Exposed(exposed, o.Publish); err != nil {
			return nil, nil, err
		}
		ports = append(ports[:len(ports):len(ports)], more...)
	}
	return ports, others, forward.Check(ports)
}

// listenPorts takes every published port before anything boots, and says which
// ones the system chose where it was asked to, and what cannot be published.
func listenPorts(pl *plan, stderr io.Writer) (*forward.Published, error) {
	p, err := forward.Listen(pl.ports)
	if err != nil {
		return nil, err
	}
	say := func(port forward.Port, addr net.Addr) {
		if port.Chosen() {
			warn(stderr, "port %s of the VM is published on %s", port.Guest(), addr)
		}
	}
	for _, ln := range p.TCP {
		say(ln.Port, ln.Addr())
	}
	for _, c := range p.UDP {
		say(c.Port, c.LocalAddr())
	}
	if len(pl.unpublished) > 0 {
		warn(stderr, "what the image exposes as %s is not published: only tcp and udp ports can be", strings.Join(pl.unpublished, " "))
	}
	return p, nil
}

// servePorts carries the connections of the published TCP ports until ctx
// ends.
func servePorts(ctx context.Context, p *forward.Published, s *supervisor) {
	err := p.Serve(ctx, forward.Options{Dial: s.vm.DialVsock, Started: s.running, ProxyProtocol: s.options.ProxyProtocol})
	if err != nil {
		warn(s.stderr, "%v", err)
	}
}
