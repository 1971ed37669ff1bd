package docker

import (
	"encoding/json"
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

// redact takes every value that was filled in out of a text, also as it looks quoted, in a URL, or without what a terminal
// would act on. What overlaps goes as a whole, so that no value that begins or ends another leaves a piece of that; and a value
// that was cut off (by clip, or by us) goes as far as it is there.
func (f *filler) redact(s string) string {
	if len(f.seen) == 0 || s == "" {
		return s
	}
	hidden := make([]bool, len(s))
	found := false
	for _, form := range f.forms() {
		done := 0
		for from := 0; ; {
			i := strings.Index(s[from:], form)
			if i < 0 {
				break
			}
			found = true
			for j := max(done, from+i); j < from+i+len(form); j++ {
				hidden[j] = true
			}
			from, done = from+i+1, from+i+len(form)
		}
		// Texts are put together of few that were cut: no need to look at all the marks that a log may hold.
		for at, marks := len(s), 0; marks < 8; marks++ {
			if at = strings.LastIndex(s[:at], cutMark); at < 0 {
				break
			}
			for n := min(len(form)-1, at); n > 0; n-- {
				if strings.HasSuffix(s[:at], form[:n]) {
					found = true
					for j := at - n; j < at; j++ {
						hidden[j] = true
					}
					break
				}
			}
		}
	}
	if !found {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		switch {
		case !hidden[i]:
			b.WriteByte(s[i])
		case i == 0 || !hidden[i-1]:
			b.WriteString(spec.Mask)
		}
	}
	return b.String()
}

// forms are the texts that a value that was filled in can stand in.
func (f *filler) forms() []string {
	var out []string
	for _, v := range f.seen {
		for _, form := range [...]string{v, inQuotes(v), inJSON(v), url.QueryEscape(v), url.PathEscape(v), plainLine(stripColour(v)), strings.TrimRight(v, " ")} {
			if form != "" && !slices.Contains(out, form) {
				out = append(out, form)
			}
		}
	}
	return out
}

func inQuotes(v string) string {
	q := strconv.Quote(v)
	return q[1 : len(q)-1]
}

func inJSON(v string) string {
	q, err := json.Marshal(v)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return string(q[1 : len(q)-1])
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
