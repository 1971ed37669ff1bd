//go:build integration

package docker_test

import (
	"os"
	"testing"

	"github.com/latent-engine/latent-engine/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }
