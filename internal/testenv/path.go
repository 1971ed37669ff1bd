package testenv

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// PathWithout makes a PATH that has every program of this one but those of some names: a machine on which they are not
// installed.
func PathWithout(t testing.TB, names ...string) string {
	t.Helper()
	out := t.TempDir()
	for _, folder := range filepath.SplitList(os.Getenv("PATH")) {
		entries, err := os.ReadDir(folder)
		if err != nil {
			continue // A folder of the PATH need not be there.
		}
		for _, e := range entries {
			if slices.Contains(names, e.Name()) {
				continue
			}
			// The first of a name is the one that counts.
			if err := os.Symlink(filepath.Join(folder, e.Name()), filepath.Join(out, e.Name())); err != nil && !os.IsExist(err) {
				t.Fatalf("cannot make a PATH without %v: %v", names, err)
			}
		}
	}
	return out
}
