package app

import "time"

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
