package unit

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// A nomadJob is what Nomad reads of a job, as far as units have it (Nomad's job
// specification). Anything else in the file is an error.
type nomadJob struct {
	Job struct {
		Name        string   `hcl:"name,label"`
		Type        string   `hcl:"type"`
		Datacenters []string `hcl:"datacenters,optional"`
		Group       struct {
			Name    string `hcl:"name,label"`
			Count   int    `hcl:"count"`
			Network *struct {
				Ports []struct {
					Label  string `hcl:"label,label"`
					Static int    `hcl:"static,optional"`
				} `hcl:"port,block"`
			} `hcl:"network,block"`
			Restart struct {
				Attempts int    `hcl:"attempts"`
				Mode     string `hcl:"mode"`
				Interval string `hcl:"interval"`
				Delay    string `hcl:"delay"`
			} `hcl:"restart,block"`
			Reschedule struct {
				Attempts  int  `hcl:"attempts"`
				Unlimited bool `hcl:"unlimited"`
			} `hcl:"reschedule,block"`
			Task struct {
				Name        string `hcl:"name,label"`
				Driver      string `hcl:"driver"`
				KillSignal  string `hcl:"kill_signal"`
				KillTimeout string `hcl:"kill_timeout"`
				Config      struct {
					Command string   `hcl:"command"`
					Args    []string `hcl:"args,optional"`
				} `hcl:"config,block"`
				Env *struct {
					Dollar string `hcl:"BAKE_DOLLAR"`
				} `hcl:"env,block"`
				Resources struct {
					Cores  int `hcl:"cores,optional"`
					CPU    int `hcl:"cpu,optional"`
					Memory int `hcl:"memory"`
				} `hcl:"resources,block"`
				Services []struct {
					Name     string `hcl:"name"`
					Port     string `hcl:"port"`
					Provider string `hcl:"provider"`
					Check    struct {
						Type     string `hcl:"type"`
						Interval string `hcl:"interval"`
						Timeout  string `hcl:"timeout"`
					} `hcl:"check,block"`
				} `hcl:"service,block"`
			} `hcl:"task,block"`
		} `hcl:"group,block"`
	} `hcl:"job,block"`
}

// parseNomad reads a job; variables of the runtime are left as they are, as Nomad
// does.
func parseNomad(data []byte, labels ...string) (job nomadJob, err error) {
	file, diags := hclsyntax.ParseConfig(data, "job.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		return job, diags
	}
	vars := map[string]cty.Value{}
	for _, l := range labels {
		vars["NOMAD_PORT_"+l] = cty.StringVal("${NOMAD_PORT_" + l + "}")
	}
	if diags := gohcl.DecodeBody(file.Body, &hcl.EvalContext{Variables: vars}, &job); diags.HasErrors() {
		return job, diags
	}
	return job, nil
}

// reference is what Nomad's client replaces in arguments when a task starts, if it
// knows the name (helper/args).
var reference = regexp.MustCompile(`\${[a-zA-Z0-9_:.\-/]+}`)

func interpolate(s string, env map[string]string) string {
	return reference.ReplaceAllStringFunc(s, func(r string) string {
		if v, ok := env[r[2:len(r)-1]]; ok {
			return v
		}
		return r
	})
}

func TestNomad(t *testing.T) {
	a := sample(slices.Concat(hostile, control)...)
	data, err := Nomad(a, NomadOptions{Datacenters: []string{"dc1", `"${x}`}})
	if err != nil {
		t.Fatal(err)
	}
	job, err := parseNomad(data, "tcp_6379", "udp_53")
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	if job.Job.Name != "redis-1-elf" || job.Job.Type != "service" || !slices.Equal(job.Job.Datacenters, []string{"dc1", `"${x}`}) {
		t.Errorf("job %+v", job.Job)
	}
	g := job.Job.Group
	if p := g.Network.Ports; len(p) != 2 || p[0].Label != "tcp_6379" || p[0].Static != 80 || p[1].Label != "udp_53" || p[1].Static != 0 {
		t.Errorf("ports %+v", p)
	}
	if g.Restart.Mode != "delay" {
		t.Errorf("restart %+v", g.Restart)
	}
	task := g.Task
	if task.Driver != "raw_exec" || task.KillSignal != "SIGTERM" || task.KillTimeout != "35s" || task.Resources.Cores != 2 || task.Resources.Memory != 512+overheadMiB {
		t.Errorf("task %+v", task)
	}
	if s := task.Services; len(s) != 1 || s[0].Port != "tcp_6379" {
		t.Errorf("services %+v", s)
	}
	// HOME and id are there to be taken for the user's ${HOME}.
	env := map[string]string{"HOME": "/wrong", "c": "wrong", dollar: task.Env.Dollar, "NOMAD_PORT_tcp_6379": "80", "NOMAD_PORT_udp_53": "20053"}
	var got []string
	for _, arg := range task.Config.Args {
		got = append(got, interpolate(arg, env))
	}
	want := []string{"--publish=0.0.0.0:80:6379", "--publish=127.0.0.1:20053:53/udp"}
	for _, arg := range wantArgs(a) {
		if !strings.HasPrefix(arg, "--publish=") {
			want = append(want, arg)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := interpolate(task.Config.Command, env); got != a.Exe {
		t.Errorf("command %q", got)
	}
}

func TestNomadRestart(t *testing.T) {
	for restart, want := range map[Restart]string{
		{}:                        "batch fail 0",
		{OnFailure: true}:         "batch delay 5",
		{OnFailure: true, Max: 7}: "batch fail 7",
		{Always: true}:            "service delay 5",
	} {
		data, err := Nomad(App{Exe: "/a", Name: "a", Restart: restart}, NomadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		job, err := parseNomad(data)
		if err != nil {
			t.Fatal(err)
		}
		r := job.Job.Group.Restart
		if got := fmt.Sprint(job.Job.Type, " ", r.Mode, " ", r.Attempts); got != want {
			t.Errorf("%+v: %s, want %s", restart, got, want)
		}
		if job.Job.Group.Task.Env != nil || job.Job.Group.Network != nil {
			t.Errorf("a job with more than it needs:\n%s", data)
		}
	}
}

func TestNomadNormalForm(t *testing.T) {
	if _, err := Nomad(sample("e\u0301"), NomadOptions{}); err == nil || !strings.Contains(err.Error(), "NFC") {
		t.Errorf("a combining accent: %v", err)
	}
}

func FuzzNomadString(f *testing.F) {
	for _, s := range slices.Concat(hostile, control) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			return
		}
		e, diags := hclsyntax.ParseExpression([]byte(nomadString(s)), "x.hcl", hcl.InitialPos)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		v, diags := e.Value(nil)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		// cty normalises strings (NFC), as all of HCL does.
		if got, want := interpolate(v.AsString(), map[string]string{dollar: "$"}), cty.NormalizeString(s); got != want {
			t.Fatalf("%q became %q", s, got)
		}
	})
}
