package sessioncmd

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/crypto/ssh"

	"bake/internal/instance"
	"bake/internal/sshclient"
)

// loginUser is who we log in as. What runs in the container as somebody else
// says so in its request.
const loginUser = "root"

// dial logs in to the container of the instance that q describes.
func dial(ctx context.Context, q instance.Query) (*ssh.Client, error) {
	i, err := find(q)
	if err != nil {
		return nil, err
	}
	return sshclient.Dial(ctx, i, loginUser)
}

// find returns the instance that q describes, if one can log in to it.
func find(q instance.Query) (instance.Instance, error) {
	i, err := instance.Find(q)
	if err != nil {
		return i, err
	}
	if _, err := os.Stat(i.KnownHosts()); errors.Is(err, os.ErrNotExist) {
		return i, fmt.Errorf("log in to the instance %s: %w", i.Name, sshclient.ErrNoServer)
	}
	return i, nil
}
