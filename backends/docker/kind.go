package docker

import (
	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/field"
)

// Kind is the Docker backend without any connection: tables and pure functions. The zero Kind is ready to use and safe
// for concurrent use.
type Kind struct{}

var _ backends.Kind = Kind{}

// New is the Docker backend.
func New() backends.Kind { return Kind{} }

// Name is the key in a definition.
func (Kind) Name() string { return "docker" }

// Connection is the table of backends.NAME.docker.
func (Kind) Connection() *field.Table { return connectionTable }

// Worker is the table of a docker worker's fields.
func (Kind) Worker() *field.Table { return workerTable }
