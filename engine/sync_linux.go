package engine

import (
	"os"

	"golang.org/x/sys/unix"
)

// datasync writes a file's data to the disk; the journal's times do not matter.
func datasync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }
