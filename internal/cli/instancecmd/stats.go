package instancecmd

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"bake/internal/app"
	"bake/internal/instance"
)

func newStats(scope Scope) *cobra.Command {
	s := &selector{scope: scope}
	var noStream, asJSON bool
	cmd := &cobra.Command{
		Use:   "stats" + usage,
		Short: "Show what instances use",
		Long: "Show what instances use, all that run or those that are named, every second until they end: the\n" +
			"container's CPU, memory, traffic, disks and processes, and what the VM takes of this host.\n" +
			"100 % is one CPU.",
	}
	cmd.Flags().BoolVar(&noStream, "no-stream", false, "measure once")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, one object on a line for each instance and second")
	s.register(cmd, false)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		m := &meter{which: s.instances(args), every: measureEvery}
		out := cmd.OutOrStdout()
		var show func([]usageRow) error
		switch f, ok := out.(*os.File); {
		case asJSON:
			show = func(rows []usageRow) error { return printUsageJSON(out, rows) }
		case !noStream && ok && term.IsTerminal(int(f.Fd())):
			show = func(rows []usageRow) error { return redraw(out, rows) }
		default:
			p := &usagePrinter{w: out}
			show = p.print
		}
		if noStream {
			return m.once(cmd.Context(), show)
		}
		return m.stream(cmd.Context(), show)
	}
	return cmd
}

// instances finds what stats is about, again every second: those that are named
// as long as they live, else all that run by then.
func (s *selector) instances(args []string) func() ([]instance.Instance, error) {
	named := len(args) > 0 || s.name != "" || s.pid != 0
	var found []instance.Instance
	return func() ([]instance.Instance, error) {
		all, err := instance.List()
		if err != nil {
			return nil, err
		}
		if !named {
			return inScope(all, s.scope), nil
		}
		if found == nil {
			list, err := s.wanted(args)
			if err != nil {
				return nil, err
			}
			for _, w := range list {
				i, err := instance.Find(w.query)
				if err != nil {
					return nil, app.Failures([]error{err})
				}
				found = append(found, i)
			}
			return found, nil
		}
		return living(found, all), nil
	}
}

// inScope are those of all that scope is about.
func inScope(all []instance.Instance, scope Scope) []instance.Instance {
	var in []instance.Instance
	for _, i := range all {
		if scope.App == "" || i.App == scope.App {
			in = append(in, i)
		}
	}
	return in
}

// living are those of found that are among all.
func living(found, all []instance.Instance) []instance.Instance {
	byID := map[string]bool{}
	for _, i := range all {
		byID[i.ID] = true
	}
	var live []instance.Instance
	for _, i := range found {
		if byID[i.ID] {
			live = append(live, i)
		}
	}
	return live
}

const (
	// measureEvery is the time between two measurements.
	measureEvery = time.Second
	// measureLimit is how long an instance may take to answer.
	measureLimit = 5 * time.Second
)

// A meter measures instances, and compares with what it measured before.
type meter struct {
	which  func() ([]instance.Instance, error)
	every  time.Duration
	before map[string]sample // by ID
}

// A sample is what an instance told, and when.
type sample struct {
	at    time.Time
	stats instance.Stats
}

// measure asks all instances at the same time.
func (m *meter) measure(ctx context.Context) ([]usageRow, error) {
	list, err := m.which()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, measureLimit)
	defer cancel()
	rows := make([]usageRow, len(list))
	samples := make([]sample, len(list))
	var wg sync.WaitGroup
	for n, i := range list {
		wg.Go(func() {
			stats, err := i.Stats(ctx)
			samples[n] = sample{time.Now(), stats}
			rows[n] = usageRow{Instance: i, err: err}
		})
	}
	wg.Wait()
	now := map[string]sample{}
	for n := range rows {
		if r := &rows[n]; r.err == nil {
			before, ok := m.before[r.ID]
			r.set(samples[n], before, ok)
			now[r.ID] = samples[n]
		}
	}
	m.before = now
	return rows, nil
}

// stream shows every measurement, the first one when there is a second to
// compare it with. It ends when there were instances and there are none any more.
func (m *meter) stream(ctx context.Context, show func([]usageRow) error) error {
	tick := time.NewTicker(m.every)
	defer tick.Stop()
	seen := false
	for first := true; ; first = false {
		rows, err := m.measure(ctx)
		if err != nil {
			return err
		}
		if seen && len(rows) == 0 {
			return nil
		}
		seen = seen || len(rows) > 0
		if !first {
			if err := show(rows); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// once shows one measurement of what happens in a second. What could not be
// measured is an error.
func (m *meter) once(ctx context.Context, show func([]usageRow) error) error {
	rows, err := m.measure(ctx)
	if err != nil {
		return err
	}
	if len(rows) > 0 {
		select {
		case <-time.After(m.every):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if rows, err = m.measure(ctx); err != nil {
			return err
		}
	}
	if err := show(rows); err != nil {
		return err
	}
	var failed []error
	for _, r := range rows {
		failed = append(failed, r.err)
	}
	return app.Failures(failed)
}

// printUsageJSON prints an object on a line for each instance.
func printUsageJSON(w io.Writer, rows []usageRow) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	var errs []error
	for _, r := range rows {
		errs = append(errs, enc.Encode(r.json()))
	}
	return errors.Join(errs...)
}
