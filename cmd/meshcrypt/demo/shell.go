package demo

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
)

// shell opens a shell in the client's namespace and waits for its end.
func (c *company) shell(ctx context.Context, config Config, dataDir string) error {
	path := os.Getenv("SHELL")
	if path == "" {
		path = "/bin/sh"
	}
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = append(os.Environ(), "MESHCRYPT_DATA_DIR="+dataDir, "MESHCRYPT_RUN_DIR="+filepath.Join(c.dir, "run"),
		"PATH="+filepath.Dir(c.binary)+":"+os.Getenv("PATH"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = config.Stdin, config.Stdout, config.Stderr
	if err := c.site.start(clientHost, cmd); err != nil {
		return err
	}
	// The exit code of a shell is its last command's, and says nothing of us.
	_ = cmd.Wait()
	return nil
}
