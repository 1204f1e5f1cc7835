package runflags

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/pflag"

	"bake/internal/app"
	"bake/internal/instance"
)

// instanceFlags are what a run is called, how it is kept alive and who may log
// in, with the flags that docker-run(1) has for it.
type instanceFlags struct {
	detach, rm    bool
	name, restart string

	healthCmd                                                             string
	healthInterval, healthTimeout, healthStartPeriod, healthStartInterval string
	healthRetries                                                         int
	noHealthcheck                                                         bool

	noSSH bool
	ssh   app.SSHOptions
}

// The flags of files for SSH, and the variables that stand for them.
const (
	sshKeyFlag, sshKeyEnv       = "ssh-private-key-path", "BAKE_SSH_PRIVATE_KEY_PATH"
	sshSockFlag, sshSockEnv     = "ssh-sock-path", "BAKE_SSH_SOCK_PATH"
	sshScriptFlag, sshScriptEnv = "ssh-script-path", "BAKE_SSH_SCRIPT_PATH"
)

// healthFlags are those that change the image's health check.
var healthFlags = []string{"health-cmd", "health-interval", "health-timeout", "health-start-period", "health-start-interval", "health-retries"}

func (f *instanceFlags) register(set *pflag.FlagSet) {
	set.BoolVarP(&f.detach, "detach", "d", false, "run in the background and print the instance's ID; its output goes to its log")
	set.StringVar(&f.name, "name", "", "what the instance is called (`name`; one is made up without it)")
	set.BoolVar(&f.rm, "rm", true, "leave nothing of an ended instance; --rm=false keeps its exit code and its log")
	set.StringVar(&f.restart, "restart", app.RestartNo, "when to start an ended container again: no, on-failure[:MAX], always or unless-stopped (`policy`)")
	set.StringVar(&f.healthCmd, "health-cmd", "", "`line` for the container's shell that succeeds while it does its work, in place of the image's health check")
	set.StringVar(&f.healthInterval, "health-interval", "", "`time` between two checks, such as 30s")
	set.StringVar(&f.healthTimeout, "health-timeout", "", "`time` that a check may take")
	set.StringVar(&f.healthStartPeriod, "health-start-period", "", "`time` that the container has to come up, in which no failure counts")
	set.StringVar(&f.healthStartInterval, "health-start-interval", "", "`time` between two checks in that period")
	set.IntVar(&f.healthRetries, "health-retries", 0, "`number` of failures in a row that make the container unhealthy")
	set.BoolVar(&f.noHealthcheck, "no-healthcheck", false, "do not check the container's health, whatever the image says")
	set.BoolVar(&f.noSSH, "no-ssh", false, "no SSH server in the guest: no ssh, exec and cp")
	set.StringVar(&f.ssh.PrivateKeyPath, sshKeyFlag, os.Getenv(sshKeyEnv), "`file` to write this run's private SSH key to [$"+sshKeyEnv+"]")
	set.StringVar(&f.ssh.SockPath, sshSockFlag, os.Getenv(sshSockEnv), "Unix `socket` to make that leads to the guest's SSH server [$"+sshSockEnv+"]")
	set.StringVar(&f.ssh.ScriptPath, sshScriptFlag, os.Getenv(sshScriptEnv), "`file` to write a script to that logs in by SSH [$"+sshScriptEnv+"]")
}

// options adds the flags' values to o. The error is about the flag that cannot
// be so.
func (f *instanceFlags) options(set *pflag.FlagSet, o *app.Options) (err error) {
	o.Detach, o.Keep, o.Name, o.NoSSH = f.detach, !f.rm, f.name, f.noSSH
	if set.Changed("name") {
		if err := instance.CheckName(f.name); err != nil {
			return fmt.Errorf("--name: %w", err)
		}
	}
	if o.Restart, err = app.ParseRestart(f.restart); err != nil {
		return err
	}
	if o.Health, err = f.health(set); err != nil {
		return err
	}
	o.SSH, err = f.files(set)
	return err
}

// health is nil if no flag is about it.
func (f *instanceFlags) health(set *pflag.FlagSet) (*app.HealthOptions, error) {
	given := ""
	for _, name := range healthFlags {
		if set.Changed(name) {
			given = name
		}
	}
	switch {
	case f.noHealthcheck && given != "":
		return nil, fmt.Errorf("--no-healthcheck and --%s contradict each other: give one of them", given)
	case f.noHealthcheck:
		return &app.HealthOptions{Disable: true}, nil
	case given == "":
		return nil, nil
	}
	if set.Changed("health-cmd") && f.healthCmd == "" {
		return nil, fmt.Errorf("--health-cmd is empty: give a line for the container's shell, or --no-healthcheck for none")
	}
	if f.healthRetries < 0 {
		return nil, fmt.Errorf("--health-retries %d is no number of failures: give 1 or more", f.healthRetries)
	}
	h := &app.HealthOptions{Cmd: f.healthCmd, Retries: f.healthRetries}
	for _, d := range []struct {
		flag, value string
		to          *time.Duration
	}{
		{"health-interval", f.healthInterval, &h.Interval},
		{"health-timeout", f.healthTimeout, &h.Timeout},
		{"health-start-period", f.healthStartPeriod, &h.StartPeriod},
		{"health-start-interval", f.healthStartInterval, &h.StartInterval},
	} {
		if d.value == "" && !set.Changed(d.flag) {
			continue
		}
		var err error
		if *d.to, err = Seconds(d.value); err != nil {
			return nil, fmt.Errorf("--%s: %w", d.flag, err)
		}
		if *d.to != 0 && *d.to < time.Millisecond {
			return nil, fmt.Errorf("--%s %s is too short: give 1ms or more", d.flag, d.value)
		}
	}
	return h, nil
}

// files are the files for SSH, and an error for those that cannot be. Where
// there is no server, nothing stands for a flag that was not given.
func (f *instanceFlags) files(set *pflag.FlagSet) (app.SSHOptions, error) {
	seen := map[string]string{}
	for _, file := range []struct{ flag, path string }{
		{sshKeyFlag, f.ssh.PrivateKeyPath}, {sshSockFlag, f.ssh.SockPath}, {sshScriptFlag, f.ssh.ScriptPath},
	} {
		switch given := set.Changed(file.flag); {
		case file.path == "" && given:
			return f.ssh, fmt.Errorf("--%s is empty: give the path of a file to make", file.flag)
		case f.noSSH && given:
			return f.ssh, fmt.Errorf("--no-ssh and --%s contradict each other: without a server there is nobody to log in to", file.flag)
		case file.path == "":
		case seen[file.path] != "":
			return f.ssh, fmt.Errorf("--%s and --%s are the same file %s: give each its own", seen[file.path], file.flag, file.path)
		default:
			seen[file.path] = file.flag
		}
	}
	if f.noSSH {
		return app.SSHOptions{}, nil
	}
	return f.ssh, nil
}
