//go:build tools

// Package registry pins the module that the test registry is built from.
package registry

import _ "github.com/distribution/distribution/v3/cmd/registry"
