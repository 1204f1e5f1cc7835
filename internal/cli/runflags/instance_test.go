package runflags

import (
	"reflect"
	"testing"
	"time"

	"bake/internal/app"
	"bake/internal/payload"
)

func TestInstance(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []string
		want func(*app.Options)
	}{
		{"nothing", nil, func(*app.Options) {}},
		{"the words of docker", []string{"-d", "--name", "web", "--rm", "--restart", "unless-stopped"}, func(o *app.Options) {
			o.Detach, o.Name, o.Restart.Mode = true, "web", app.RestartUnlessStopped
		}},
		{"kept", []string{"--rm=false", "--restart=on-failure:2"}, func(o *app.Options) {
			o.Keep, o.Restart = true, app.Restart{Mode: app.RestartOnFailure, Max: 2}
		}},
		{"health", []string{"--health-cmd=true", "--health-interval=5s", "--health-timeout=2", "--health-start-period=1m", "--health-start-interval=200ms", "--health-retries=4"}, func(o *app.Options) {
			o.Health = &app.HealthOptions{Cmd: "true", Interval: 5 * time.Second, Timeout: 2 * time.Second, StartPeriod: time.Minute, StartInterval: 200 * time.Millisecond, Retries: 4}
		}},
		{"a part of the image's health check", []string{"--health-retries=9"}, func(o *app.Options) { o.Health = &app.HealthOptions{Retries: 9} }},
		{"no health check", []string{"--no-healthcheck"}, func(o *app.Options) { o.Health = &app.HealthOptions{Disable: true} }},
		{"files for SSH", []string{"--ssh-private-key-path=k", "--ssh-sock-path=s", "--ssh-script-path=c"}, func(o *app.Options) {
			o.SSH = app.SSHOptions{PrivateKeyPath: "k", SockPath: "s", ScriptPath: "c"}
		}},
		{"no SSH", []string{"--no-ssh"}, func(o *app.Options) { o.NoSSH = true }},
	} {
		_, f := parse(t, payload.Defaults{}, tc.args...)
		got, err := f.Options(nil)
		_, f = parse(t, payload.Defaults{})
		want, _ := f.Options(nil)
		tc.want(&want)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v\nwant %+v", tc.name, got, err, want)
		}
	}
}

func TestSSHFilesOfTheEnvironment(t *testing.T) {
	t.Setenv("BAKE_SSH_PRIVATE_KEY_PATH", "key")
	t.Setenv("BAKE_SSH_SOCK_PATH", "sock")
	t.Setenv("BAKE_SSH_SCRIPT_PATH", "script")
	for _, tc := range []struct {
		args []string
		want app.SSHOptions
	}{
		{nil, app.SSHOptions{PrivateKeyPath: "key", SockPath: "sock", ScriptPath: "script"}},
		{[]string{"--ssh-sock-path=other"}, app.SSHOptions{PrivateKeyPath: "key", SockPath: "other", ScriptPath: "script"}},
		{[]string{"--no-ssh"}, app.SSHOptions{}},
	} {
		_, f := parse(t, payload.Defaults{}, tc.args...)
		if o, err := f.Options(nil); err != nil || o.SSH != tc.want {
			t.Errorf("%v: %+v, %v, want %+v", tc.args, o.SSH, err, tc.want)
		}
	}
}
