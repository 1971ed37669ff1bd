package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/config"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/spec"
)

// maxSecret bounds a secret's size in bytes: it travels in an environment variable or a header.
const maxSecret = 64 << 10

// secrets finds the values of secrets: in a folder of files, then in environment variables with a prefix. A tenant's
// secrets are in a folder of its own below, and under a prefix of its own.
type secrets struct{ dir, env string }

func newSecrets(e config.Engine) *secrets { return &secrets{dir: e.SecretsDir, env: e.SecretsEnv} }

// instanceSecrets are those of one instance alone.
type instanceSecrets struct {
	given string      // the password from the caller, or the one made for it
	plan  field.Value // the definition's password
}

// fill gives values on the way out. Errors name the secret, never a value.
func (e *Engine) fill(_ context.Context, tenant string, own *instanceSecrets) backends.Fill {
	var get backends.Fill
	get = func(ref field.SecretRef) (string, error) {
		if ref.Provider != spec.InstanceProvider {
			return e.secrets.lookup(tenant, ref.Name)
		}
		switch {
		case own == nil:
			return "", errors.New("cannot fill the worker's password: there is no instance")
		case own.given != "":
			return checkSecret("the worker's password", own.given)
		}
		switch p := own.plan.(type) {
		case field.String:
			return checkSecret("the worker's password", string(p))
		case field.Text:
			text, err := spec.FillText(p, get)
			if err != nil {
				return "", err
			}
			return checkSecret("the worker's password", text)
		}
		return "", errors.New("cannot fill the worker's password: none is set")
	}
	return get
}

func (s *secrets) lookup(tenant, name string) (string, error) {
	what := fmt.Sprintf("secret %q", name)
	if !config.ValidName(name) {
		return "", fmt.Errorf("cannot read %s: not a name of a secret", what)
	}
	if s.dir != "" {
		value, err := s.file(tenant, name)
		if err == nil {
			return checkSecret(what, value)
		}
		if !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("cannot read %s from the secrets folder: %w", what, withoutPath(err))
		}
	}
	if s.env != "" {
		variable := s.variable(tenant, name)
		if value, ok := os.LookupEnv(variable); ok {
			return checkSecret(what, value)
		}
		return "", fmt.Errorf("cannot find %s: no provider has it, the environment has no %s", what, variable)
	}
	where := "no provider of secrets is set: engine.secrets"
	if s.dir != "" {
		where = "no provider has it"
	}
	return "", fmt.Errorf("cannot find %s: %s", what, where)
}

// variable is the environment variable of a secret, of a tenant's that of tenant/name: in capitals, and what is neither a
// lower-case letter, a digit nor a single "_" between two of them as "__" and the two hexadecimal digits of its byte. So no
// two secrets have one variable, also where names of variables know no case (Windows), and no tenant reads another's.
func (s *secrets) variable(tenant, name string) string {
	if tenant != "" {
		name = tenant + "/" + name
	}
	plain := func(i int) bool {
		return i >= 0 && i < len(name) && (name[i] >= 'a' && name[i] <= 'z' || name[i] >= '0' && name[i] <= '9')
	}
	b := []byte(s.env)
	for i := range len(name) {
		if plain(i) || name[i] == '_' && plain(i-1) && plain(i+1) {
			b = append(b, strings.ToUpper(name[i:i+1])...)
			continue
		}
		b = fmt.Appendf(b, "__%02X", name[i])
	}
	return string(b)
}

// file reads a secret's file; os.Root keeps it below the folder, whatever links stand there.
func (s *secrets) file(tenant, name string) (string, error) {
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	path := name
	if tenant != "" {
		path = tenant + "/" + name
	}
	f, err := root.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+2))
	if err != nil {
		return "", err
	}
	// Editors and `echo` end a file with a newline that nobody means.
	return strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), nil
}

func withoutPath(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// checkSecret refuses what cannot travel in an environment variable or a header, without a word of the value.
func checkSecret(what, v string) (string, error) {
	switch {
	case v == "":
		return "", fmt.Errorf("cannot use %s: it is empty", what)
	case len(v) > maxSecret:
		return "", fmt.Errorf("cannot use %s: it has more than %d bytes", what, maxSecret)
	case strings.ContainsAny(v, "\x00\n\r"):
		return "", fmt.Errorf("cannot use %s: it holds a NUL or a newline", what)
	case !utf8.ValidString(v):
		return "", fmt.Errorf("cannot use %s: it is not UTF-8", what)
	}
	return v, nil
}
