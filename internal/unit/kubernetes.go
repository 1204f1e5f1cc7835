package unit

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"bake/internal/service/forward"
	"bake/internal/volume"
)

// What bake build --oci makes of an app.
const (
	// AppPath is where the image has the app.
	AppPath = "/app"
	// StateHome is its XDG_DATA_HOME, and stateDir what bake has there: the
	// named volumes.
	StateHome = "/var/lib"
	stateDir  = StateHome + "/bake"
)

// The values of KubernetesOptions.Kind.
const (
	KindPod        = "Pod"
	KindDeployment = "Deployment"
)

// KubernetesOptions are what Kubernetes has to know besides.
type KubernetesOptions struct {
	Kind string // KindPod or KindDeployment
	// Image is the reference that the image of bake build --oci was pushed as.
	Image string
	// KVMResource is the resource of a device plugin that gives /dev/kvm, such
	// as devices.kubevirt.io/kvm. If it is empty, the node's device is mounted,
	// and only a privileged container may open it.
	KVMResource string
	// NoKVM emulates the VM.
	NoKVM bool
	// Claims has, for a path of the host in Volumes or the name of a named
	// volume, the persistent volume claim to mount in its place.
	Claims map[string]string
}

// Kubernetes writes a Pod or a Deployment that runs the app's image, and a Service
// if it publishes ports.
func Kubernetes(a App, o KubernetesOptions) ([]byte, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	if o.Image == "" {
		return nil, errors.New("there is no image: give the reference that the file of bake build --oci was pushed as, with --image")
	}
	for s := range o.Claims {
		if err := checkText(s); err != nil {
			return nil, err
		}
	}
	k := &kubernetes{app: a, options: o, name: label(a.Name), ports: podPorts(a)}
	pod, err := k.pod()
	if err != nil {
		return nil, err
	}
	documents := []yamlMap{}
	switch o.Kind {
	case KindPod:
		documents = append(documents, yamlMap{}.with("apiVersion", "v1").with("kind", KindPod).
			with("metadata", k.metadata()).with("spec", pod))
	case KindDeployment:
		if !a.Restart.Always {
			return nil, errors.New("a Deployment starts its pods again whatever their end: give --restart always, or print a Pod")
		}
		documents = append(documents, yamlMap{}.with("apiVersion", "apps/v1").with("kind", KindDeployment).
			with("metadata", k.metadata()).
			with("spec", yamlMap{}.
				with("replicas", 1).
				// Two at once would want the same volumes.
				with("strategy", yamlMap{}.with("type", "Recreate")).
				with("selector", yamlMap{}.with("matchLabels", k.labels())).
				with("template", yamlMap{}.with("metadata", yamlMap{}.with("labels", k.labels())).with("spec", pod))))
	default:
		return nil, fmt.Errorf("--kind %q is none that bake writes: give %s or %s", o.Kind, KindPod, KindDeployment)
	}
	if len(k.ports) > 0 {
		documents = append(documents, k.service())
	}
	var text []string
	for _, d := range documents {
		text = append(text, yamlDocument(d))
	}
	return []byte(strings.Join(text, "---\n")), nil
}

type kubernetes struct {
	app     App
	options KubernetesOptions
	name    string
	ports   []forward.Port
}

func (k *kubernetes) labels() yamlMap { return yamlMap{}.with("app.kubernetes.io/name", k.name) }

func (k *kubernetes) metadata() yamlMap {
	return yamlMap{}.with("name", k.name).with("labels", k.labels()).
		with("annotations", yamlMap{}.with("bake/image", oneLine(k.app.Title)))
}

// podPorts are the published ports as a pod has them. A pod has an address of its
// own: what the host's port would be is the pod's, and what was to be any port is
// that of the container.
func podPorts(a App) []forward.Port {
	var ports []forward.Port
	for _, p := range slices.Concat(a.Ports, a.Exposed) {
		if p.Chosen() {
			p.First, p.Last = p.VMPort, p.VMPort
		}
		if !slices.ContainsFunc(ports, func(q forward.Port) bool { return p.Proto == q.Proto && p.First == q.First }) {
			ports = append(ports, p)
		}
	}
	return ports
}

// kubeletText is an argument of a container, in which the kubelet takes $(NAME) for
// a variable and $$ for a dollar (Container.args of the API's reference).
func kubeletText(s string) string { return strings.ReplaceAll(s, "$", "$$") }

// podAddress is what a published port listens on. A pod has no neighbours but its
// own containers, so that the loopback, the default of --publish, would be of no use.
func podAddress(p forward.Port) netip.Addr {
	if p.Host.Is6() && !p.Host.IsLoopback() {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// arguments are the app's, with its ports and volumes where a pod has them.
func (k *kubernetes) arguments(volumes []podVolume) []string {
	argv := k.app.argv(func(name, _ string) ([]string, bool) {
		return nil, !slices.Contains(append([]string{"publish", "publish-all", "volume"}, managed...), name)
	})
	var own []string
	for _, p := range k.ports {
		p.Host = podAddress(p)
		own = append(own, "--publish="+p.String())
	}
	for _, v := range volumes {
		own = append(own, "--volume="+v.flag)
	}
	if !slices.ContainsFunc(k.app.Flags, func(flag string) bool { return strings.HasPrefix(flag, "--name=") }) {
		own = append(own, "--name="+k.name) // for the probes
	}
	return append(own, argv...)
}

// pod is the PodSpec.
func (k *kubernetes) pod() (yamlMap, error) {
	volumes, err := k.volumes()
	if err != nil {
		return nil, err
	}
	restart := "Never"
	switch r := k.app.Restart; {
	case r.Always:
		restart = "Always"
	case r.OnFailure && r.Max > 0:
		return nil, fmt.Errorf("Kubernetes counts no restarts: give --restart on-failure, always or no in place of on-failure:%d", r.Max)
	case r.OnFailure:
		restart = "OnFailure"
	}
	container := yamlMap{}.
		with("name", "app").
		with("image", k.options.Image).
		with("command", yamlStrings([]string{AppPath}))
	args := k.arguments(volumes)
	for i := range args {
		args[i] = kubeletText(args[i])
	}
	if len(args) > 0 {
		container = container.with("args", yamlStrings(args))
	}
	var ports []any
	for _, p := range k.ports {
		ports = append(ports, yamlMap{}.with("name", portName(p)).
			with("containerPort", int(p.First)).with("protocol", strings.ToUpper(string(p.Proto))))
	}
	if len(ports) > 0 {
		container = container.with("ports", ports)
	}
	container = container.with("resources", k.resources()).with("securityContext", k.security())
	container = k.probes(container)
	mounts := []any{yamlMap{}.with("name", "scratch").with("mountPath", "/tmp")}
	list := []any{yamlMap{}.with("name", "scratch").with("emptyDir", yamlMap{})}
	if k.mountsKVM() {
		mounts = append(mounts, yamlMap{}.with("name", "kvm").with("mountPath", "/dev/kvm"))
		list = append(list, yamlMap{}.with("name", "kvm").
			with("hostPath", yamlMap{}.with("path", "/dev/kvm").with("type", "CharDevice")))
	}
	for _, v := range volumes {
		if v.path == "" {
			continue
		}
		mount := yamlMap{}.with("name", v.name).with("mountPath", v.path)
		if v.readOnly {
			mount = mount.with("readOnly", true)
		}
		mounts = append(mounts, mount)
		list = append(list, yamlMap{}.with("name", v.name).with(v.kind, v.source))
	}
	container = container.with("volumeMounts", mounts)
	return yamlMap{}.
		with("restartPolicy", restart).
		with("terminationGracePeriodSeconds", seconds(k.app.StopTimeout+shutdown)).
		with("automountServiceAccountToken", false).
		with("enableServiceLinks", false).
		with("containers", []any{container}).
		with("volumes", list), nil
}

func (k *kubernetes) mountsKVM() bool { return !k.options.NoKVM && k.options.KVMResource == "" }

// A podVolume is a -v of the app in the pod.
type podVolume struct {
	name, path string
	readOnly   bool
	kind       string // of the pod's volume, as Kubernetes names the field
	source     yamlMap
	flag       string // for --volume
}

// volumes mounts what the app is to share at /volumes/N, and lets it share that.
func (k *kubernetes) volumes() ([]podVolume, error) {
	var list []podVolume
	named := ""
	for n, v := range k.app.Volumes {
		p := podVolume{name: fmt.Sprintf("volume-%d", n), path: fmt.Sprintf("/volumes/%d", n), readOnly: v.ReadOnly}
		key, rest, _ := strings.Cut(v.Flag, ":")
		claim := k.options.Claims[key]
		switch {
		case v.Kind == volume.KindNamed:
			switch {
			case claim == "":
				return nil, fmt.Errorf("the volume %s would be gone with the pod: name the claim that is to hold it, with --claim %[1]s=CLAIM", v.Name)
			case named != "" && named != claim:
				return nil, fmt.Errorf("an app has all its named volumes in one folder, and so in one claim: give one of %s and %s for all", named, claim)
			}
			p.flag, p.path, p.readOnly = v.Flag, stateDir, false
			if named != "" {
				p.path = "" // it is mounted already
			}
			named = claim
		case v.Kind == volume.KindImage && claim == "" && strings.HasPrefix(v.Host, "/dev/"):
			return nil, fmt.Errorf("the block device %s cannot be a pod's volume by its path: name a claim with a file on it, with --claim %[1]s=CLAIM", v.Host)
		case v.Kind == volume.KindImage && claim != "":
			p.flag = p.path + "/disk.ext4:" + rest
		default:
			p.flag = p.path + ":" + rest
		}
		p.kind, p.source = k.source(v, claim, p.readOnly)
		list = append(list, p)
	}
	return list, nil
}

// source is where a pod's volume comes from: the claim, or the node's file.
func (k *kubernetes) source(v Volume, claim string, readOnly bool) (kind string, source yamlMap) {
	if claim != "" {
		source = yamlMap{}.with("claimName", claim)
		if readOnly {
			source = source.with("readOnly", true)
		}
		return "persistentVolumeClaim", source
	}
	hostType := "Directory"
	switch {
	case v.File || v.Kind == volume.KindImage:
		hostType = "File"
	case v.Create:
		hostType = "DirectoryOrCreate"
	}
	return "hostPath", yamlMap{}.with("path", v.Host).with("type", hostType)
}

// resources are the guest's memory and CPUs, and what the VMM takes beside them.
// CPUs are a request and no limit: a VM that is throttled loses its clock.
func (k *kubernetes) resources() yamlMap {
	memory := fmt.Sprintf("%dMi", k.app.MemoryMiB+overheadMiB)
	cpu := "250m"
	if k.app.CPUs > 0 {
		cpu = fmt.Sprint(k.app.CPUs)
	}
	limits := yamlMap{}.with("memory", memory)
	if k.options.KVMResource != "" && !k.options.NoKVM {
		limits = limits.with(yamlString(k.options.KVMResource), "1")
	}
	return yamlMap{}.with("requests", yamlMap{}.with("cpu", cpu).with("memory", memory)).with("limits", limits)
}

// security takes all that the app does not need. It stays user 0, who owns
// /dev/kvm; without capabilities that is a user like others.
func (k *kubernetes) security() yamlMap {
	if k.mountsKVM() {
		// There is no smaller way to open a device that no plugin gives.
		return yamlMap{}.with("privileged", true).with("readOnlyRootFilesystem", true)
	}
	capabilities := yamlMap{}.with("drop", []any{"ALL"})
	if slices.ContainsFunc(k.ports, func(p forward.Port) bool { return p.First < 1024 }) {
		capabilities = capabilities.with("add", []any{"NET_BIND_SERVICE"})
	}
	return yamlMap{}.
		with("runAsUser", 0).
		with("allowPrivilegeEscalation", false).
		with("readOnlyRootFilesystem", true).
		with("capabilities", capabilities).
		with("seccompProfile", yamlMap{}.with("type", "RuntimeDefault"))
}

// probes are the container's health check if it has one, else whether the guest
// answers. A connection to a port tells nothing: the app takes it before the guest
// is there.
func (k *kubernetes) probes(c yamlMap) yamlMap {
	name := k.name
	for _, flag := range k.app.Flags {
		if given, ok := strings.CutPrefix(flag, "--name="); ok {
			name = given
		}
	}
	test := []string{AppPath, "stats", "--no-stream", "--name", name}
	period, timeout, failures, boot := 10*time.Second, 10*time.Second, 3, k.app.BootTimeout
	if h := k.app.Health; h != nil {
		test = append([]string{AppPath, "exec", "--name", name, "--"}, h.Command...)
		period, timeout, failures, boot = h.Interval, h.Timeout, h.Retries, boot+h.StartPeriod
	}
	for i := range test {
		test[i] = kubeletText(test[i])
	}
	probe := func(period time.Duration, failures int) yamlMap {
		return yamlMap{}.
			with("exec", yamlMap{}.with("command", yamlStrings(test))).
			with("periodSeconds", max(1, seconds(period))).
			with("timeoutSeconds", max(1, seconds(timeout))).
			with("failureThreshold", max(1, failures))
	}
	const startPeriod = 5 * time.Second
	return c.
		with("startupProbe", probe(startPeriod, int(boot/startPeriod)+1)).
		with("readinessProbe", probe(period, failures)).
		with("livenessProbe", probe(period, failures))
}

// service makes the ports reachable by the app's name.
func (k *kubernetes) service() yamlMap {
	var ports []any
	for _, p := range k.ports {
		ports = append(ports, yamlMap{}.with("name", portName(p)).with("port", int(p.First)).
			with("targetPort", portName(p)).with("protocol", strings.ToUpper(string(p.Proto))))
	}
	return yamlMap{}.with("apiVersion", "v1").with("kind", "Service").
		with("metadata", yamlMap{}.with("name", k.name).with("labels", k.labels())).
		with("spec", yamlMap{}.with("selector", k.labels()).with("ports", ports))
}

// portName is an IANA service name (RFC 6335) for a port: at most 15 characters.
func portName(p forward.Port) string { return fmt.Sprintf("%s-%d", p.Proto, p.First) }
