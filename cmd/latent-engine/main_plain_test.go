//go:build !integration

package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func withEngines(m *testing.M) testscript.TestingM { return m }
