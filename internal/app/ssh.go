package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"

	"bake/internal/service/ssh"
)

// An sshService is what one instance has for those who log in to it.
type sshService struct {
	keys *ssh.Keys
	// dir is the instance's directory, and id its name.
	dir, id string
	// exe is the app's own file, which ssh(1) starts to get to the guest.
	exe string
	// dial reaches the guest's server, once that is up.
	dial ssh.Dial
	// warn tells the user of a failure that ends nothing.
	warn func(error)
}

// startSSH publishes the public keys of an instance, serves its agent, and makes
// the files that the user asked for. All of them go when ctx ends; wg waits for
// that. It is called once for all boots: the guest of each is told of the same
// keys, by its manifest.
func startSSH(ctx context.Context, wg *sync.WaitGroup, s sshService, o SSHOptions) error {
	if err := s.keys.Publish(s.dir); err != nil {
		return err
	}
	ln, err := net.Listen("unix", filepath.Join(s.dir, ssh.AgentSocket))
	if err != nil {
		return fmt.Errorf("make the socket of the agent with the run's key: %w", err)
	}
	wg.Go(func() {
		if err := ssh.ServeAgent(ctx, ln, s.keys.Client()); err != nil {
			s.warn(fmt.Errorf("serve the agent with the run's key: %w", err))
		}
	})
	files, err := s.makeFiles(ctx, wg, o)
	if err != nil {
		return errors.Join(err, removeAll(files))
	}
	wg.Go(func() {
		<-ctx.Done()
		if err := removeAll(files); err != nil {
			s.warn(err)
		}
	})
	return nil
}

// makeFiles makes the files of o. The script uses the key and the socket that the
// user asked for, if there are any, so that whoever may use those can use it.
func (s sshService) makeFiles(ctx context.Context, wg *sync.WaitGroup, o SSHOptions) (files []*ssh.File, err error) {
	login := ssh.NewLogin(s.exe, s.id, s.dir)
	if o.PrivateKeyPath != "" {
		path, err := filepath.Abs(o.PrivateKeyPath)
		if err != nil {
			return files, err
		}
		f, err := s.keys.WritePrivateKey(path)
		if err != nil {
			return files, err
		}
		files = append(files, f)
		login.Agent, login.Identity = "", path
	}
	if o.SockPath != "" {
		path, err := filepath.Abs(o.SockPath)
		if err != nil {
			return files, err
		}
		ln, f, err := ssh.Listen(path)
		if err != nil {
			return files, err
		}
		files = append(files, f)
		wg.Go(func() {
			if err := ssh.Forward(ctx, ln, s.dial, s.warn); err != nil {
				s.warn(fmt.Errorf("serve the socket %s: %w", path, err))
			}
		})
		login.Proxy = []string{s.exe, ssh.ProxyVerb, "--" + ssh.ProxySocketFlag, path}
	}
	if o.ScriptPath != "" {
		f, err := ssh.WriteScript(o.ScriptPath, login)
		if err != nil {
			return files, err
		}
		files = append(files, f)
	}
	return files, nil
}

func removeAll(files []*ssh.File) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, f.Remove())
	}
	return errors.Join(errs...)
}
