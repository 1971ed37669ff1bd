package docker

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/cli/cli/config"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/field"
)

var _ backends.Sampler = Kind{}

//go:embed sample.yaml
var sampleTable string

// Sample is a first definition for the Docker Engine that the docker command would speak to: the one of $DOCKER_HOST, else of
// docker's current context, else one whose socket is in a usual place.
func (Kind) Sample(environ func(name string) string) backends.Sample {
	s := backends.Sample{Address: DefaultHost}
	at, _ := connectionTable.Lookup("docker_host")
	for _, c := range candidates(environ) {
		// What a definition would not take is not what the user means to write there; ${{ would begin an expression.
		v, problems := at.Type.Coerce(field.String(c.Address))
		if host, ok := v.(field.String); ok && len(problems) == 0 && !strings.Contains(c.Address, "${{") {
			s.Address, s.Source = string(host), c.Source
			break
		}
	}
	// A string in JSON's quotes is one in YAML's.
	host, _ := json.Marshal(s.Address)
	s.Text = strings.Replace(sampleTable, "@HOST@", string(host), 1)
	return s
}

// candidates are the places where a Docker Engine may be, the likeliest first.
func candidates(environ func(string) string) []backends.Sample {
	var out []backends.Sample
	if host := environ("DOCKER_HOST"); host != "" {
		out = append(out, backends.Sample{Address: host, Source: "$DOCKER_HOST"})
	}
	home := environ("HOME")
	folder := environ("DOCKER_CONFIG")
	if folder == "" && home != "" {
		folder = filepath.Join(home, ".docker")
	}
	if name, host := currentContext(folder, environ("DOCKER_CONTEXT")); host != "" {
		out = append(out, backends.Sample{Address: host, Source: "docker's context " + strconv.Quote(name)})
	}
	for _, path := range []string{
		strings.TrimPrefix(DefaultHost, "unix://"),
		filepath.Join(environ("XDG_RUNTIME_DIR"), "docker.sock"),
		filepath.Join(home, ".docker", "run", "docker.sock"),
	} {
		if info, err := os.Stat(path); err == nil && filepath.IsAbs(path) && info.Mode().Type() == os.ModeSocket {
			out = append(out, backends.Sample{Address: "unix://" + path, Source: "a socket is there"})
		}
	}
	return out
}

// currentContext is the docker command's context, by name where one is given, and its engine; "" where there is none that can
// be read: the docker command itself says what is wrong with it.
func currentContext(folder, name string) (string, string) {
	if folder == "" {
		return "", ""
	}
	if name == "" {
		c, err := config.Load(folder)
		if err != nil {
			return "", ""
		}
		name = c.CurrentContext
	}
	if name == "" || name == "default" {
		return "", ""
	}
	// The folder of a context is named by its name's digest.
	sum := sha256.Sum256([]byte(name))
	data, err := os.ReadFile(filepath.Join(folder, "contexts", "meta", hex.EncodeToString(sum[:]), "meta.json"))
	if err != nil {
		return "", ""
	}
	var meta struct {
		Endpoints struct {
			Docker struct{ Host string } `json:"docker"`
		}
	}
	if err := json.Unmarshal(data, &meta); err != nil {
		return "", ""
	}
	return name, meta.Endpoints.Docker.Host
}
