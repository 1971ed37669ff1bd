package policy

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/spec"
)

// native reads a create object of {name, env: list of "K=V", labels}.
type native struct {
	err   error
	panic bool
}

func (n native) View(b spec.Bound) (spec.View, error) {
	if n.panic {
		panic("broken")
	}
	v := spec.View{Labels: map[string]string{}}
	if s, ok := b.Create["name"].(field.String); ok {
		v.Name = string(s)
	}
	env, _ := b.Create["env"].(field.List)
	for _, e := range env {
		o := e.(field.Object)
		v.Env = append(v.Env, spec.EnvVar{Name: string(o["name"].(field.String)), Value: o["value"]})
	}
	labels, _ := b.Create["labels"].(field.Object)
	for k, l := range labels {
		v.Labels[k] = string(l.(field.String))
	}
	// What a view does to its input must not reach what was judged.
	b.Create["name"] = field.String("changed")
	return v, n.err
}

func envVar(name string, v field.Value) field.Object {
	return field.Object{"name": field.String(name), "value": v}
}

var password = field.Text{{Secret: field.SecretRef{Provider: spec.InstanceProvider, Name: "password"}}}

func bound() spec.Bound {
	return spec.Bound{
		Plan: spec.Plan{Create: field.Object{
			"name":   field.String("w-1"),
			"env":    field.List{envVar("A", field.String("a")), envVar("BUILDMASTER", field.String("ci")), envVar("WORKERNAME", field.String("w")), envVar("WORKERPASS", password)},
			"labels": field.Object{"mine": field.String("x"), spec.LabelEngine: field.String("e"), spec.LabelInstance: field.String("1")},
		}},
		Identity: spec.Identity{
			Engine: "e", Instance: "1", ObjectName: "w-1",
			Env:    []spec.EnvVar{{Name: "BUILDMASTER", Value: field.String("ci")}, {Name: "WORKERNAME", Value: field.String("w")}, {Name: "WORKERPASS", Value: password}},
			Labels: map[string]string{spec.LabelEngine: "e", spec.LabelInstance: "1"},
		},
	}
}

func TestJudge(t *testing.T) {
	addEnv := func(b *spec.Bound, e field.Object) { b.Create["env"] = append(b.Create["env"].(field.List), e) }
	for _, c := range []struct {
		name   string
		change func(*spec.Bound)
		native native
		rule   string // "" = admitted
	}{
		{name: "as the engine made it", change: func(*spec.Bound) {}},
		{name: "a variable more", change: func(b *spec.Bound) { addEnv(b, envVar("B", field.Secret("db"))) }},
		{name: "another name", change: func(b *spec.Bound) { b.Create["name"] = field.String("x") }, rule: "identity.name"},
		{name: "no identity", change: func(b *spec.Bound) { b.Identity = spec.Identity{} }, rule: "identity.name"},
		{name: "reserved variable twice, alike", change: func(b *spec.Bound) { addEnv(b, envVar("WORKERNAME", field.String("w"))) }, rule: "identity.env"},
		{name: "reserved variable twice, other value", change: func(b *spec.Bound) { addEnv(b, envVar("WORKERNAME", field.String("root"))) }, rule: "identity.env"},
		{name: "reserved variable in another case", change: func(b *spec.Bound) { addEnv(b, envVar("workername", field.String("root"))) }, rule: "identity.env"},
		{name: "reserved variable with blanks", change: func(b *spec.Bound) { addEnv(b, envVar("WORKERNAME ", field.String("w"))) }, rule: "identity.env"},
		{name: "reserved variable missing", change: func(b *spec.Bound) { b.Create["env"] = b.Create["env"].(field.List)[:2] }, rule: "identity.env"},
		{name: "password as text", change: func(b *spec.Bound) { b.Create["env"].(field.List)[3] = envVar("WORKERPASS", field.String("x")) }, rule: "identity.env"},
		{name: "password elsewhere", change: func(b *spec.Bound) { addEnv(b, envVar("COPY", password)) }, rule: "secrets"},
		{name: "our label changed", change: func(b *spec.Bound) {
			b.Create["labels"].(field.Object)[spec.LabelInstance] = field.String("2")
		}, rule: "identity.labels"},
		{name: "our label missing", change: func(b *spec.Bound) { delete(b.Create["labels"].(field.Object), spec.LabelEngine) }, rule: "identity.labels"},
		{name: "a label under our prefix", change: func(b *spec.Bound) {
			b.Create["labels"].(field.Object)[spec.LabelPrefix+"extra"] = field.String("2")
		}, rule: "identity.labels"},
		{name: "a label under our prefix in capitals", change: func(b *spec.Bound) {
			b.Create["labels"].(field.Object)["Latent-Engine.IO/extra"] = field.String("2")
		}, rule: "identity.labels"},
		{name: "what cannot be read", change: func(*spec.Bound) {}, native: native{err: errors.New("unknown field")}, rule: "decode"},
		{name: "a check that breaks", change: func(*spec.Bound) {}, native: native{panic: true}, rule: "internal"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := bound()
			c.change(&b)
			a, _, err := Judge(context.Background(), c.native, b)
			got, boundErr := a.Bound()
			if c.rule == "" {
				if err != nil || boundErr != nil || got.Create["name"] != field.String("w-1") {
					t.Fatalf("not admitted as it was: %v, %v, %v", err, boundErr, got.Create)
				}
				return
			}
			var denied *DeniedError
			if !errors.As(err, &denied) || denied.Violations[0].Rule != c.rule {
				t.Errorf("error %v, want rule %s", err, c.rule)
			}
			if !errors.Is(boundErr, ErrNotAdmitted) {
				t.Error("what was denied was admitted")
			}
		})
	}
}

// TestOddNames: a path in a violation is one that [field.SplitPath] reads back, whatever the variable is called.
func TestOddNames(t *testing.T) {
	for _, name := range []string{"WORKERNAME ", "a.b", "x[0]", `q"`, "A B"} {
		b := bound()
		e := envVar(name, password)
		if strings.TrimSpace(name) == "WORKERNAME" {
			e = envVar(name, field.String("w"))
		}
		b.Create["env"] = append(b.Create["env"].(field.List), e)
		_, _, err := Judge(context.Background(), native{}, b)
		var denied *DeniedError
		if !errors.As(err, &denied) {
			t.Fatalf("%q: %v", name, err)
		}
		if keys, err := field.SplitPath(denied.Violations[0].Field); err != nil || len(keys) != 2 || keys[0] != "env" || keys[1] != name {
			t.Errorf("%q: the path is %s: %q, %v", name, denied.Violations[0].Field, keys, err)
		}
	}
}

func TestAdmittedIsSealed(t *testing.T) {
	if _, err := (Admitted{}).Bound(); !errors.Is(err, ErrNotAdmitted) {
		t.Errorf("the zero Admitted: %v", err)
	}
	b := bound()
	a, _, err := Judge(context.Background(), native{}, b)
	if err != nil {
		t.Fatal(err)
	}
	b.Create["name"] = field.String("evil")
	b.Labels[spec.LabelEngine] = "evil"
	first, _ := a.Bound()
	first.Create["labels"].(field.Object)["evil"] = field.String("x")
	first.Identity.Env[0].Name = "EVIL"
	second, _ := a.Bound()
	if second.Create["name"] != field.String("w-1") || second.Create["labels"].(field.Object)["evil"] != nil || second.Identity.Env[0].Name != "BUILDMASTER" || second.Labels[spec.LabelEngine] != "e" {
		t.Errorf("what was judged changed afterwards: %v", second)
	}
}

func TestDeniedNamesNoSecret(t *testing.T) {
	text := field.Text{{Text: "user:"}, {Secret: field.SecretRef{Name: "db"}}, {Text: "@host"}}
	for _, c := range []struct {
		name, variable string
		value          field.Value
		want           string
	}{
		{"a secret inside a text", "workername", text, `"user:***@host"`},
		{"a secret alone", "BUILDMASTER", field.Secret("db"), `"***"`},
		{"plain text", "workername", field.String("root"), "root"},
		{"a password with a secret", "workerpass", text, "***"},
		{"a password in plain text", "WORKERPASS ", field.String("hunter2"), "***"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := bound()
			b.Create["env"] = append(b.Create["env"].(field.List), envVar(c.variable, c.value))
			_, _, err := Judge(context.Background(), native{}, b)
			var denied *DeniedError
			if !errors.As(err, &denied) || denied.Violations[0].Value != c.want {
				t.Errorf("violation %+v, want the value %s", denied, c.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows the password: %v", err)
			}
		})
	}
}
