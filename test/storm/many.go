//go:build linux

package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
)

// many starts n instances at once, expects ps to list them all, and stops them at
// once.
func many(n int, app string) error {
	name := func(i int) string { return fmt.Sprintf("many%d", i) }
	err := each(n, func(i int) error {
		return command(app, "--detach", "--name", name(i), "--memory", "64m", "--boot-timeout", "600", "--", "sleep", "100000")
	})
	if err != nil {
		return err
	}
	list, err := exec.Command(app, "ps", "-q").Output()
	if err != nil {
		return fmt.Errorf("ps: %w", err)
	}
	if got := len(strings.Fields(string(list))); got != n {
		return fmt.Errorf("ps lists %d of %d instances", got, n)
	}
	if err := each(n, func(i int) error { return command(app, "stop", "-t", "60", name(i)) }); err != nil {
		return err
	}
	fmt.Printf("started and stopped %d\n", n)
	return nil
}

// each calls f for 0 to n-1, all at once.
func each(n int, f func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func command(args ...string) error {
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}
