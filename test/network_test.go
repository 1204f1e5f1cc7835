//go:build linux

package test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"
)

// The world of a script that has called "network": a network namespace, and a
// mount namespace whose /etc is the directory etc of the script, so that a
// script is free to change its hosts file and its resolver.
//
// All of 198.51.100.0/24, 203.0.113.0/24, 2001:db8::1 to ::3 and the cloud
// metadata address 169.254.169.254 are addresses of it: servers choose which
// they listen on. There is a route to everywhere else and nobody at its end,
// where connections time out. Sockets for ping are everyone's, as they are in
// distributions.
const networkScript = `
cp -a /etc/. "$0"/ 2>/dev/null || true
rm -f "$0"/resolv.conf "$0"/hosts
echo 'nameserver 198.51.100.53' >"$0"/resolv.conf
printf '127.0.0.1 localhost\n::1 localhost\n' >"$0"/hosts
mount --bind "$0" /etc
ip link set lo up
ip addr add 198.51.100.1/24 dev lo
ip addr add 203.0.113.1/24 dev lo
ip addr add 169.254.169.254/32 dev lo
for i in 1 2 3; do ip addr add 2001:db8::$i/64 dev lo nodad; done
ip route add default dev lo src 198.51.100.1
ip -6 route add default dev lo
echo '0 2147483647' >/proc/sys/net/ipv4/ping_group_range
echo 1 >/proc/sys/net/ipv4/tcp_syn_retries
echo ready
exec cat
`

func cmdNetwork(ts *testscript.TestScript, args []string) {
	need(ts, args, 0, "network")
	script := scriptOf(ts)
	if script.network != nil {
		ts.Fatalf("the script has a network already")
	}
	etc := ts.MkAbs("etc")
	ts.Check(os.MkdirAll(etc, 0o755))
	namespaces := []string{"--net", "--mount", "--propagation=private"}
	if os.Getuid() != 0 {
		namespaces = append(namespaces, "--user", "--map-root-user")
	}
	cmd := exec.Command("unshare", append(namespaces, "sh", "-e", "-c", networkScript, etc)...)
	cmd.Dir = "/"
	s := newSession(cmd)
	// It ends with its stdin, when the tests have ended.
	ts.Check(s.start(true))
	script.network = s
	if err := s.out.expect(regexp.MustCompile(`(?m)^ready$`)); err != nil {
		ts.Fatalf("make a network namespace, for which the tests must run as root or be allowed user namespaces: %v\n%s", err, s.err)
	}
}

// enterNetwork has cmd started inside of the script's namespaces.
func (s *script) enterNetwork(cmd *exec.Cmd) {
	if cmd.Err != nil {
		return
	}
	args := []string{"nsenter", "--target=" + strconv.Itoa(s.network.cmd.Process.Pid), "--net", "--mount", "--wdns=" + cmd.Dir}
	if os.Getuid() != 0 {
		args = append(args, "--user", "--preserve-credentials")
	}
	if cmd.SysProcAttr != nil && cmd.SysProcAttr.Credential != nil {
		c := cmd.SysProcAttr.Credential
		args = append(args, fmt.Sprintf("--setuid=%d", c.Uid), fmt.Sprintf("--setgid=%d", c.Gid))
		cmd.SysProcAttr = nil
	}
	args = append(append(args, "--", cmd.Path), cmd.Args[1:]...)
	nsenter, err := exec.LookPath(args[0])
	cmd.Path, cmd.Args, cmd.Err, cmd.Dir = nsenter, args, err, "/"
}
