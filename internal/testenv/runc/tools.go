//go:build tools

// Package runc pins the module that the OCI runtime of today's Docker Engine is built from.
package runc

import _ "github.com/opencontainers/runc"
