//go:build integration

package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/latent-engine/latent-engine/internal/testenv"
)

func withEngines(m *testing.M) testscript.TestingM { return engines{m} }

// engines ends the engines that tests asked for.
type engines struct{ m *testing.M }

func (e engines) Run() int { return testenv.Main(e.m) }
