package app

import (
	"cmp"
	"time"

	"bake/internal/payload"
	"bake/internal/wire"
)

// HealthOptions are the --health flags of docker-run(1). What is zero is as the
// image says.
type HealthOptions struct {
	// Cmd is a line for the container's /bin/sh.
	Cmd                                           string
	Interval, Timeout, StartPeriod, StartInterval time.Duration
	// Retries is how many failures in a row make the container unhealthy.
	Retries int
	// Disable is a container whose health nobody tests.
	Disable bool
}

// What neither the image nor a flag says, as docker-run(1) has it.
const (
	healthInterval      = 30 * time.Second
	healthTimeout       = 30 * time.Second
	healthStartInterval = 5 * time.Second
	healthRetries       = 3
)

// health is the test of the container's health: the image's, with the user's
// flags over it. It is nil if there is none.
func health(image *payload.Healthcheck, o *HealthOptions) *wire.Health {
	if o == nil {
		o = &HealthOptions{}
	}
	if image == nil {
		image = &payload.Healthcheck{}
	}
	test := image.Test
	if o.Cmd != "" {
		test = []string{payload.HealthShell, o.Cmd}
	}
	if o.Disable || len(test) == 0 || test[0] == payload.HealthNone {
		return nil
	}
	return &wire.Health{
		Test:          test,
		Interval:      int64(cmp.Or(o.Interval, image.Interval, healthInterval)),
		Timeout:       int64(cmp.Or(o.Timeout, image.Timeout, healthTimeout)),
		StartPeriod:   int64(cmp.Or(o.StartPeriod, image.StartPeriod)),
		StartInterval: int64(cmp.Or(o.StartInterval, image.StartInterval, healthStartInterval)),
		Retries:       cmp.Or(o.Retries, image.Retries, healthRetries),
	}
}
