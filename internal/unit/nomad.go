package unit

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"

	"bake/internal/service/forward"
)

// NomadOptions are what Nomad has to know besides.
type NomadOptions struct {
	// Datacenters are where the job may run; none is all.
	Datacenters []string
}

// Nomad writes a job in HCL. Its task has the driver raw_exec: the app is its own
// sandbox and needs /dev/kvm and the host's paths, which the driver exec hides.
func Nomad(a App, o NomadOptions) ([]byte, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	for _, d := range o.Datacenters {
		if err := checkText(d); err != nil {
			return nil, err
		}
	}
	for _, s := range slices.Concat([]string{a.Exe}, a.Flags, a.Command) {
		// Strings of HCL are made so (cty.StringVal).
		if !norm.NFC.IsNormalString(s) {
			return nil, fmt.Errorf("%.60q is not in the normal form NFC of Unicode, and Nomad would change it to that: pass it by a file", s)
		}
	}
	n := &nomad{app: a, name: label(a.Name)}
	n.job(o)
	return []byte(n.text.String()), nil
}

type nomad struct {
	app   App
	name  string
	text  strings.Builder
	depth int
}

func (n *nomad) line(format string, args ...any) {
	n.text.WriteString(strings.Repeat("  ", n.depth))
	fmt.Fprintf(&n.text, format+"\n", args...)
}

func (n *nomad) block(header string, body func()) {
	n.line("%s {", header)
	n.depth++
	body()
	n.depth--
	n.line("}")
}

func (n *nomad) job(o NomadOptions) {
	// A batch job starts again what failed, a service all that ends.
	kind := "batch"
	if n.app.Restart.Always {
		kind = "service"
	}
	n.block("job "+hclString(n.name), func() {
		n.line("type = %s", hclString(kind))
		if len(o.Datacenters) > 0 {
			n.list("datacenters", o.Datacenters, hclString)
		}
		n.block(`group "app"`, func() {
			n.line("count = 1")
			if ports := n.ports(); len(ports) > 0 {
				n.block("network", func() {
					for _, p := range ports {
						n.port(p)
					}
				})
			}
			n.restart()
			n.block(`task "app"`, n.task)
		})
	})
}

// restart makes Nomad's policy of docker's. Another machine may lack the app.
func (n *nomad) restart() {
	r := n.app.Restart
	n.block("restart", func() {
		switch {
		case r.OnFailure && r.Max > 0:
			n.line("attempts = %d", r.Max)
			n.line(`mode     = "fail"`)
		case r.Always || r.OnFailure:
			n.line("attempts = 5")
			n.line(`mode     = "delay"`)
		default:
			n.line("attempts = 0")
			n.line(`mode     = "fail"`)
		}
		n.line(`interval = "1h"`)
		n.line(`delay    = "2s"`)
	})
	n.block("reschedule", func() {
		n.line("attempts  = 0")
		n.line("unlimited = false")
	})
}

func (n *nomad) task() {
	a := n.app
	n.line(`driver       = "raw_exec"`)
	n.line(`kill_signal  = "SIGTERM"`)
	n.line(`kill_timeout = "%ds"`, seconds(a.StopTimeout+shutdown))
	argv := n.arguments()
	n.block("config", func() {
		n.line("command = %s", nomadString(a.Exe))
		if len(argv) > 0 {
			n.line("args = [")
			n.depth++
			for _, arg := range argv {
				n.line("%s,", arg)
			}
			n.depth--
			n.line("]")
		}
	})
	if strings.Contains(strings.Join(argv, ""), dollar) || strings.Contains(nomadString(a.Exe), dollar) {
		n.block("env", func() { n.line("%s = %s", dollar, hclString("$")) })
	}
	n.block("resources", func() {
		if a.CPUs > 0 {
			n.line("cores  = %d", a.CPUs)
		} else {
			n.line("cpu    = 500")
		}
		n.line("memory = %d", a.MemoryMiB+overheadMiB)
	})
	for _, p := range n.ports() {
		if p.Proto == forward.TCP && !p.Host.IsLoopback() {
			n.service(p)
		}
	}
}

// service registers a port that others can reach with Nomad. The check is whether the app listens; the
// app itself ends when its guest does.
func (n *nomad) service(p nomadPort) {
	n.block("service", func() {
		n.line("name     = %s", hclString(fmt.Sprintf("%s-%d", n.name, p.VMPort)))
		n.line("port     = %s", hclString(p.label))
		n.line(`provider = "nomad"`)
		n.block("check", func() {
			n.line(`type     = "tcp"`)
			n.line(`interval = "10s"`)
			n.line(`timeout  = "5s"`)
		})
	})
}

// A nomadPort is a published port and what the job calls it.
type nomadPort struct {
	forward.Port
	label string
}

// ports are all that are published. A port that is to be any one is Nomad's choice.
func (n *nomad) ports() []nomadPort {
	var ports []nomadPort
	add := func(list []forward.Port) {
		for _, p := range list {
			l := fmt.Sprintf("%s_%d", p.Proto, p.VMPort)
			same := func(q nomadPort) bool { return q.label == l }
			for i := 2; slices.ContainsFunc(ports, same); i++ {
				l = fmt.Sprintf("%s_%d_%d", p.Proto, p.VMPort, i)
			}
			ports = append(ports, nomadPort{p, l})
		}
	}
	add(n.app.Ports)
	add(n.app.Exposed)
	return ports
}

func (n *nomad) port(p nomadPort) {
	n.block("port "+hclString(p.label), func() {
		if !p.Chosen() {
			n.line("static = %d", p.First)
		}
	})
}

// arguments are the app's, quoted. The ports are those that Nomad gives, on the
// addresses that were asked for.
func (n *nomad) arguments() []string {
	var quoted []string
	for _, p := range n.ports() {
		address := p.Host.String()
		if p.Host.Is6() {
			address = "[" + address + "]"
		}
		quoted = append(quoted, fmt.Sprintf(`"--publish=%s:${NOMAD_PORT_%s}:%s"`, address, p.label, p.Guest()))
	}
	for _, arg := range n.app.argv(func(name, _ string) ([]string, bool) {
		return nil, !slices.Contains(append([]string{"publish", "publish-all"}, managed...), name)
	}) {
		quoted = append(quoted, nomadString(arg))
	}
	return quoted
}

func (n *nomad) list(name string, values []string, quote func(string) string) {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = quote(v)
	}
	n.line("%s = [%s]", name, strings.Join(quoted, ", "))
}
