package docker

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/spec"
)

// secretLimit bounds a secret: Linux takes 128 KiB in one variable of a process's environment.
const secretLimit = 64 << 10

// filler fills the holes of one start, and knows afterwards what must not be seen.
type filler struct {
	from backends.Fill
	seen []string
}

func newFiller(from backends.Fill) *filler { return &filler{from: from} }

// fill gives a secret's value, checked; errors name the secret alone.
func (f *filler) fill(ref field.SecretRef) (string, error) {
	if f.from == nil {
		return "", fmt.Errorf("no secrets are to be had here, %q is asked for", ref.Name)
	}
	v, err := f.from(ref)
	if err != nil {
		return "", err
	}
	switch {
	case strings.ContainsRune(v, 0):
		return "", fmt.Errorf("the secret %q has a NUL byte in it", ref.Name)
	case strings.ContainsAny(v, "\r\n"):
		return "", fmt.Errorf("the secret %q has more than one line", ref.Name)
	case len(v) > secretLimit:
		return "", fmt.Errorf("the secret %q is longer than %d bytes", ref.Name, secretLimit)
	}
	if v != "" && !slices.Contains(f.seen, v) {
		f.seen = append(f.seen, v)
	}
	return v, nil
}

// redact takes every value that was filled in out of a text of the engine's, also as it looks quoted.
func (f *filler) redact(s string) string {
	for _, v := range f.seen {
		s = strings.ReplaceAll(s, v, spec.Mask)
		if q := strconv.Quote(v); q[1:len(q)-1] != v {
			s = strings.ReplaceAll(s, q[1:len(q)-1], spec.Mask)
		}
		if q := url.QueryEscape(v); q != v {
			s = strings.ReplaceAll(s, q, spec.Mask)
		}
	}
	return s
}

// redactFailure does so for all that a failure tells.
func (f *filler) redactFailure(fail *backends.Failure) *backends.Failure {
	if fail == nil || len(f.seen) == 0 {
		return fail
	}
	c := *fail
	c.Message, c.Reason, c.Hint = f.redact(c.Message), f.redact(c.Reason), f.redact(c.Hint)
	c.Log = slices.Clone(c.Log)
	for i, l := range c.Log {
		c.Log[i] = f.redact(l)
	}
	if c.Err != nil && f.redact(c.Err.Error()) != c.Err.Error() {
		c.Err = errors.New(f.redact(c.Err.Error()))
	}
	return &c
}
