package sessioncmd

import (
	"context"

	"golang.org/x/crypto/ssh"

	"bake/internal/instance"
	"bake/internal/sshclient"
)

// loginUser is who we log in as. What runs in the container as somebody else
// says so in its request.
const loginUser = "root"

// dial logs in to the container of the instance that q describes.
func dial(ctx context.Context, q instance.Query) (*ssh.Client, error) {
	i, err := instance.Find(q)
	if err != nil {
		return nil, err
	}
	return sshclient.Dial(ctx, i, loginUser)
}
