//go:build !linux

package testenv

import (
	"errors"
	"net/netip"
	"os"
	"syscall"
)

var errNotLinux = errors.New("a Docker Engine of our own runs on Linux only")

func checkHost() error { return errNotLinux }

func boundToUs() *syscall.SysProcAttr { return nil }

func onItsOwn() *syscall.SysProcAttr { return nil }

func lockFile(string) (*os.File, bool, error) { return nil, false, errNotLinux }

func ownFolder(string) error { return errNotLinux }

func onOverlay(string) bool { return false }

func taken(netip.Prefix, string) (bool, error) { return false, errNotLinux }

func addBridge(string, netip.Prefix) error { return errNotLinux }

func sweep(string, netip.Prefix) error { return errNotLinux }
