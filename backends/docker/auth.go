package docker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/docker/api/types/registry"

	"github.com/latent-engine/latent-engine/backends"
)

// hubServer is the name under which docker's configuration keeps the credentials of docker.io.
const hubServer = "https://index.docker.io/v1/"

// registryConfig reads docker's own configuration anew: a `docker login` counts at once.
func (b *backend) registryConfig() (*configfile.ConfigFile, error) {
	refuse := func(err error) error {
		return &backends.Failure{Class: backends.ClassConfig, Message: fmt.Sprintf("cannot read docker's configuration: %v", err), Field: "docker_config"}
	}
	folder := b.dockerConfig
	if folder == "" {
		folder = config.Dir()
	} else if info, err := os.Stat(folder); err == nil && !info.IsDir() {
		if filepath.Base(folder) != config.ConfigFileName {
			return nil, refuse(fmt.Errorf("%s is neither a folder nor a %s", folder, config.ConfigFileName))
		}
		folder = filepath.Dir(folder)
	} else if err != nil {
		// One that is named has to be there; docker's usual place may be empty.
		return nil, refuse(err)
	}
	c, err := config.Load(folder)
	if err != nil {
		return nil, refuse(err)
	}
	return c, nil
}

// registryAuth is the header with the credentials for a reference's registry, from docker's configuration file or its
// credential helper.
func (b *backend) registryAuth(ref reference.Named) (string, error) {
	c, err := b.registryConfig()
	if err != nil {
		return "", err
	}
	server := reference.Domain(ref)
	if server == "docker.io" {
		server = hubServer
	}
	a, err := c.GetAuthConfig(server)
	if err != nil {
		return "", &backends.Failure{
			Class: backends.ClassConfig, Field: "docker_config",
			Message: fmt.Sprintf("cannot get the credentials for %s: %s", reference.Domain(ref), helperCause(err)),
			Hint:    "docker's configuration names a credential helper for this registry: is it in the PATH, and signed in?",
		}
	}
	return registry.EncodeAuthConfig(registry.AuthConfig{
		Username: a.Username, Password: a.Password, Auth: a.Auth, ServerAddress: a.ServerAddress, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken,
	})
}

// buildAuth is the header with all credentials that docker's configuration has: the builder pulls what the Dockerfile names.
func (b *backend) buildAuth(names []reference.Named) (map[string]registry.AuthConfig, error) {
	c, err := b.registryConfig()
	if err != nil {
		return nil, err
	}
	out := map[string]registry.AuthConfig{}
	for _, n := range names {
		server := reference.Domain(n)
		if server == "docker.io" {
			server = hubServer
		}
		if _, done := out[server]; done {
			continue
		}
		a, err := c.GetAuthConfig(server)
		if err != nil || a.Username == "" && a.Auth == "" && a.IdentityToken == "" && a.RegistryToken == "" {
			// A helper that fails here is told by the builder's own message, if the base image wants credentials at all.
			continue
		}
		out[server] = registry.AuthConfig{
			Username: a.Username, Password: a.Password, Auth: a.Auth, ServerAddress: a.ServerAddress, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken,
		}
	}
	return out, nil
}

// helperCause is a helper's error in one line.
func helperCause(err error) string {
	line, _, _ := strings.Cut(strings.TrimSpace(err.Error()), "\n")
	return clip(plainLine(line), 300)
}

var errReference = errors.New("it is neither a name, a name with tag or digest, nor an image id")

// checkReference refuses what is no reference at all: it becomes a part of a path.
func checkReference(ref string) error {
	if _, err := reference.ParseAnyReference(ref); err != nil || strings.ContainsAny(ref, "?#%\\ ") {
		return &backends.Failure{Class: backends.ClassImage, Image: ref, Field: "image", Message: fmt.Sprintf("cannot use image %q: %v", ref, errReference)}
	}
	return nil
}
