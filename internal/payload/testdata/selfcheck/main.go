// Selfcheck is a carrier for the tests: it opens the payload that it carries, checks every hash and prints the part
// "greeting".
package main

import (
	"context"
	"fmt"
	"os"

	"bake/internal/payload"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	app, err := payload.OpenSelf()
	if err != nil {
		return err
	}
	defer app.Close()
	if err := app.Verify(context.Background()); err != nil {
		return err
	}
	greeting, err := app.ReadAll("greeting", 1<<10)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(greeting)
	return err
}
