package testenv

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// pins is embedded and not read, so that a test binary works from any folder.
//
//go:embed pins.txt
var pins string

// RequireVariable names the environment variable that lists what a test run must have.
const RequireVariable = "LATENT_TEST_REQUIRE"

// Missing ends a test that cannot run for want of something: it skips the test and says why, or
// fails it if $LATENT_TEST_REQUIRE names what is missing.
func Missing(t testing.TB, name string, reason error) {
	t.Helper()
	if required(name) {
		t.Fatalf("%s is missing and %s asks for it: %v", name, RequireVariable, reason)
	}
	t.Skipf("%s is missing: %v", name, reason)
}

func required(name string) bool {
	names := strings.FieldsFunc(os.Getenv(RequireVariable), func(r rune) bool { return r == ',' || r == ' ' })
	return slices.Contains(names, name)
}

// cacheFolder is where install.sh puts what it builds.
func cacheFolder() (string, error) {
	if folder := os.Getenv("LATENT_TEST_CACHE"); folder != "" {
		return folder, nil
	}
	if folder := os.Getenv("XDG_CACHE_HOME"); folder != "" {
		return filepath.Join(folder, "latent-engine", "testenv"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".cache", "latent-engine", "testenv"), nil
}

// built returns the folder of what install.sh builds under that name.
func built(name string) (string, error) {
	cache, err := cacheFolder()
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(pins) {
		fields := strings.Fields(line)
		if len(fields) != 4 || fields[0] != name {
			continue
		}
		folder := filepath.Join(cache, fields[0]+"-"+fields[2]+"-"+fields[3])
		if _, err := os.Stat(folder); err != nil {
			return "", fmt.Errorf("%s is not built; run internal/testenv/install.sh", folder)
		}
		return folder, nil
	}
	return "", fmt.Errorf("pins.txt has no %q", name)
}

// BuildbotPython is the Python of the virtual environment that has the newest Buildbot.
func BuildbotPython(t testing.TB) string {
	t.Helper()
	folder, err := built("buildbot-venv")
	if err != nil {
		Missing(t, "buildbot", err)
	}
	return filepath.Join(folder, "bin", "python")
}

// systemPath is the PATH that daemons get: a user's on Debian leaves out sbin.
const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// system finds a program of the distribution.
func system(name string) (string, error) {
	for _, folder := range []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		if path, err := exec.LookPath(filepath.Join(folder, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no %s of the distribution; run internal/testenv/install.sh", name)
}
