//go:build linux

package agent

import "bake/internal/wire"

// A resizer takes the host's window sizes; it is the terminal.
type resizer interface {
	Resize(rows, cols uint16) error
}

// A resolverUpdater takes what the host's resolver has become; it is the
// container's resolv.conf.
type resolverUpdater interface {
	Update(*wire.Resolver) error
}

// A notified takes what the host tells of changes in volumes.
type notified interface {
	Notify(wire.HostMessage) error
}

func (c *control) setTerminal(t resizer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.terminal = t
	if c.size != [2]uint16{} {
		c.apply(c.size[0], c.size[1])
	}
}

func (c *control) resize(rows, cols uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.size = [2]uint16{rows, cols}
	if c.terminal != nil {
		c.apply(rows, cols)
	}
}

func (c *control) apply(rows, cols uint16) {
	if err := c.terminal.Resize(rows, cols); err != nil {
		c.log.always("%v", err)
	}
}

// setResolvConf names who takes changes of the host's resolver.
func (c *control) setResolvConf(r resolverUpdater) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resolv = r
	if c.resolver != nil {
		c.applyResolver()
	}
}

func (c *control) updateResolver(r *wire.Resolver) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resolver = r
	if c.resolv != nil {
		c.applyResolver()
	}
}

func (c *control) applyResolver() {
	if err := c.resolv.Update(c.resolver); err != nil {
		c.log.always("%v", err)
	}
}

// setVolumes names who takes changes in volumes; nil says that there is nobody
// any more. What the host tells before that was there when they were mounted.
func (c *control) setVolumes(v notified) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.volumes = v
}

func (c *control) notify(m wire.HostMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.volumes == nil {
		return
	}
	if err := c.volumes.Notify(m); err != nil {
		c.log.verbose("%v", err)
	}
}
