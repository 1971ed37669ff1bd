//go:build tools

// Package engine29 pins the module that today's Docker Engine is built from.
package engine29

import (
	_ "github.com/moby/moby/v2/cmd/docker-proxy"
	_ "github.com/moby/moby/v2/cmd/dockerd"
)
