// Package policy judges a whole plan and makes the only thing that a backend starts: an [Admitted].
//
// It fails closed: what cannot be decoded, an error and a panic are denials.
package policy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/spec"
)

// Native is what policy asks of a backend's kind: a strict reading of the native objects of a bound plan.
type Native interface {
	// View decodes every native object of b strictly (an unknown field is an error) and gives the normalised view.
	View(b spec.Bound) (spec.View, error)
}

// Violation is one reason for a denial. Its JSON form is a contract.
type Violation struct {
	Rule    string `json:"rule"`
	Field   string `json:"field"`
	Value   string `json:"value"`
	Message string `json:"message"`
}

// Decision is one thing judged and its outcome, for explain and `render --full`.
type Decision struct {
	Rule    string `json:"rule"`
	Outcome string `json:"outcome"` // "passed" or "denied"
	Message string `json:"message,omitempty"`
}

// DeniedError is a denial: every violation found, never an empty list.
type DeniedError struct{ Violations []Violation }

func (e *DeniedError) Error() string {
	parts := make([]string, len(e.Violations))
	for i, v := range e.Violations {
		parts[i] = v.Rule + ": " + v.Message
	}
	return "denied: " + strings.Join(parts, "; ")
}

// Admitted is a bound plan that passed, sealed: nobody outside this package can make one or change one, and the zero
// value is refused by [Admitted.Bound]. It is never stored: a restart admits again.
type Admitted struct{ sealed *spec.Bound }

// ErrNotAdmitted is what the zero Admitted gives.
var ErrNotAdmitted = errors.New("cannot start a plan that no policy admitted")

// Bound hands out a deep copy of what was judged.
func (a Admitted) Bound() (spec.Bound, error) {
	if a.sealed == nil {
		return spec.Bound{}, ErrNotAdmitted
	}
	return a.sealed.Clone(), nil
}

// Judge holds b against the profile "unrestricted": identity, reserved environment and labels are the engine's alone.
// The error is a *DeniedError, or says why b cannot be judged (which admits nothing either).
func Judge(_ context.Context, native Native, b spec.Bound) (a Admitted, decisions []Decision, err error) {
	defer func() {
		if p := recover(); p != nil {
			a, err = Admitted{}, &DeniedError{Violations: []Violation{{Rule: "internal", Message: fmt.Sprintf("internal error: %v", p)}}}
		}
	}()
	sealed := b.Clone()
	view, err := native.View(sealed.Clone())
	if err != nil {
		return Admitted{}, nil, &DeniedError{Violations: []Violation{{Rule: "decode", Message: err.Error()}}}
	}
	var violations []Violation
	for _, check := range []struct {
		rule string
		run  func(spec.Bound, spec.View) []Violation
	}{{"identity.name", checkName}, {"identity.env", checkEnv}, {"identity.labels", checkLabels}, {"secrets", checkSecrets}} {
		found := check.run(sealed, view)
		d := Decision{Rule: check.rule, Outcome: "passed"}
		for _, v := range found {
			v.Rule = check.rule
			violations = append(violations, v)
			d.Outcome, d.Message = "denied", v.Message
		}
		decisions = append(decisions, d)
	}
	if len(violations) > 0 {
		return Admitted{}, decisions, &DeniedError{Violations: violations}
	}
	return Admitted{sealed: &sealed}, decisions, nil
}

func checkName(b spec.Bound, v spec.View) []Violation {
	switch {
	case b.Instance == "" || b.Engine == "" || b.ObjectName == "":
		return []Violation{{Field: "name", Message: "the plan has no identity"}}
	case v.Name != b.ObjectName:
		return []Violation{{Field: "name", Value: v.Name, Message: fmt.Sprintf("the object's name must be the engine's, %q", b.ObjectName)}}
	}
	return nil
}

// checkEnv wants every reserved variable exactly once, as the engine set it, and none in another spelling that a
// container's tools would read as the same name.
func checkEnv(b spec.Bound, v spec.View) []Violation {
	var out []Violation
	seen := map[string]int{}
	for _, e := range v.Env {
		i := slices.IndexFunc(b.Identity.Env, func(r spec.EnvVar) bool { return strings.EqualFold(r.Name, strings.TrimSpace(e.Name)) })
		if i < 0 {
			continue
		}
		want := b.Identity.Env[i]
		seen[want.Name]++
		if e.Name != want.Name || !field.Equal(e.Value, want.Value) {
			value := Redacted(e.Value)
			if want.Name == spec.EnvPassword {
				value = spec.Mask // a password, even where it is plain text
			}
			out = append(out, Violation{Field: field.JoinPath("env", e.Name), Value: value, Message: fmt.Sprintf("%s is the engine's: a definition cannot set it", want.Name)})
		}
	}
	for _, want := range b.Identity.Env {
		if seen[want.Name] != 1 && len(out) == 0 {
			out = append(out, Violation{Field: field.JoinPath("env", want.Name), Message: fmt.Sprintf("%s must be set exactly once, it is set %d times", want.Name, seen[want.Name])})
		}
	}
	return out
}

func checkLabels(b spec.Bound, v spec.View) []Violation {
	var out []Violation
	for _, k := range slices.Sorted(maps.Keys(v.Labels)) {
		if want, ours := b.Identity.Labels[k]; strings.HasPrefix(strings.ToLower(k), spec.LabelPrefix) && (!ours || want != v.Labels[k]) {
			out = append(out, Violation{Field: field.JoinPath("labels", k), Value: v.Labels[k], Message: "labels under " + spec.LabelPrefix + " are the engine's: a definition cannot set them"})
		}
	}
	for _, k := range slices.Sorted(maps.Keys(b.Identity.Labels)) {
		if _, ok := v.Labels[k]; !ok {
			out = append(out, Violation{Field: field.JoinPath("labels", k), Message: "the engine's label is missing"})
		}
	}
	return out
}

// checkSecrets admits a reference to the instance's own secret only as the reserved WORKERPASS.
func checkSecrets(b spec.Bound, v spec.View) []Violation {
	var out []Violation
	for _, e := range v.Env {
		t, ok := e.Value.(field.Text)
		if !ok || e.Name == spec.EnvPassword {
			continue
		}
		for _, s := range t {
			if s.Secret.Provider == spec.InstanceProvider {
				out = append(out, Violation{Field: field.JoinPath("env", e.Name), Message: "the worker's password stands in " + spec.EnvPassword + " alone"})
			}
		}
	}
	return out
}

// Redacted is v for a message, secrets as ***.
func Redacted(v field.Value) string {
	switch v := v.(type) {
	case field.String:
		return string(v)
	case nil:
		return ""
	}
	return string(spec.AppendRedacted(nil, v))
}
