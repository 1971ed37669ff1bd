package docker

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/policy"
	"github.com/latent-engine/latent-engine/engine/spec"
)

// TestStartCalls counts: one ping for a connection, and for a start what the comment of Start says, in that order.
func TestStartCalls(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*spec.Bound)
		stub   func(*stub)
		want   []string
	}{
		{name: "present image", want: []string{"GET /containers/json", "GET /images/worker:test/json", "POST /containers/create", "POST /containers/c1/start"}},
		{
			name: "two more networks", change: func(b *spec.Bound) {
				b.After = field.Object{"networks": field.List{
					field.Object{"network": field.String("second"), "config": field.Object{"Aliases": field.List{field.String("w")}}},
				}}
			},
			want: []string{"GET /containers/json", "GET /images/worker:test/json", "POST /containers/create", "POST /networks/second/connect", "POST /containers/c1/start"},
		},
		{
			name: "absent image", stub: func(s *stub) {
				s.answer["GET /images/worker:test/json"] = fixed(404, `{"message":"No such image: worker:test"}`)
				s.answer["POST /images/create"] = fixed(200, `{"status":"Pulling from library/worker","id":"test"}`+"\r\n"+`{"status":"Status: Downloaded newer image for worker:test"}`+"\r\n")
			},
			want: []string{"GET /containers/json", "GET /images/worker:test/json", "POST /images/create", "POST /containers/create", "POST /containers/c1/start"},
		},
		{
			name: "always pulled", change: func(b *spec.Bound) { b.Pull["policy"] = field.String("always") },
			stub: func(s *stub) { s.answer["POST /images/create"] = fixed(200, "") },
			want: []string{"GET /containers/json", "POST /images/create", "POST /containers/create", "POST /containers/c1/start"},
		},
		{
			name: "there already", stub: func(s *stub) {
				s.answer["GET /containers/json"] = fixed(200, `[{"Id":"c1","Names":["/linux-01j8z3"],"State":"running","Labels":{"`+spec.LabelInstance+`":"`+stubInstance+`"}}]`)
				s.answer["GET /containers/c1/json"] = fixed(200, `{"Id":"c1","Name":"/linux-01j8z3","State":{"Status":"running"},"Config":{"Labels":{}}}`)
			},
			want: []string{"GET /containers/json", "GET /containers/c1/json"},
		},
		{
			name: "left behind by a start that was cut off", stub: func(s *stub) {
				s.answer["GET /containers/json"] = fixed(200, `[{"Id":"c0","Names":["/linux-01j8z3"],"State":"created","Labels":{"`+spec.LabelInstance+`":"`+stubInstance+`"}}]`)
				s.answer["DELETE /containers/c0"] = fixed(204, "")
			},
			want: []string{"GET /containers/json", "DELETE /containers/c0", "GET /images/worker:test/json", "POST /containers/create", "POST /containers/c1/start"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := healthy()
			if c.stub != nil {
				c.stub(s)
			}
			b := s.connect(t)
			if diff := cmp.Diff([]string{"GET /_ping"}, s.asked()); diff != "" {
				t.Errorf("calls of a connection (-want +got):\n%s", diff)
			}
			s.reset()
			if _, err := b.Start(t.Context(), stubAdmit(t, stubBound(c.change)), stubOptions()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, s.asked()); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

// TestStartSendsWhatWasJudged: byte for byte, the capability as it was written too, which the client's own method changes.
func TestStartSendsWhatWasJudged(t *testing.T) {
	s := healthy()
	b := s.connect(t)
	bound := stubBound(nil)
	if _, err := b.Start(t.Context(), stubAdmit(t, bound), stubOptions()); err != nil {
		t.Fatal(err)
	}
	object := spec.CloneValue(bound.Create).(field.Object)
	delete(object, "name")
	want, err := spec.Encode(object, func(field.SecretRef) (string, error) { return stubPassword, nil })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), s.bodyOf("POST /containers/create")); diff != "" {
		t.Errorf("sent (-judged +sent):\n%s", diff)
	}
}

// TestStartEngineGoesAway: what an engine says while it ends is no verdict on the definition; an engine that is there means it.
func TestStartEngineGoesAway(t *testing.T) {
	built := func(b *spec.Bound) {
		tag := field.String("latent-engine.local/linux:01j8z3")
		b.Pull, b.Create["Image"] = nil, tag
		b.Build = field.Object{"tag": tag, "dockerfile": field.String("FROM worker:test\nRUN x\n")}
	}
	for _, c := range []struct {
		name, call, says string
		change           func(*spec.Bound)
		class            backends.Class
		retryable        bool
	}{
		{"step", "POST /build", "The command '/worker' returned a non-zero code: 137", built, backends.ClassImage, false},
		{"pull", "POST /images/create", "failed to copy: grpc: the client connection is closing: context canceled", nil, backends.ClassImage, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, away := range []bool{false, true} {
				s := healthy()
				s.answer["GET /images/worker:test/json"] = fixed(404, "{}")
				b := s.connect(t)
				s.answer[c.call] = func(*http.Request) *http.Response {
					if away {
						s.answer["GET /containers/json"] = func(*http.Request) *http.Response { return nil }
						s.answer["GET /_ping"] = s.answer["GET /containers/json"]
					}
					return reply200(200, `{"stream":"Step 1/2"}{"errorDetail":{"message":"`+c.says+`"}}`)
				}
				_, err := b.Start(t.Context(), stubAdmit(t, stubBound(c.change)), stubOptions())
				f := backends.AsFailure(err)
				class, retryable := c.class, c.retryable
				if away {
					class, retryable = backends.ClassInfra, true
				}
				if f.Class != class || f.Retryable != retryable || !strings.Contains(f.Message, c.says) || strings.Contains(f.Message, "docker went away") != away {
					t.Errorf("away %v: %+v", away, f)
				}
			}
		})
	}
}

func TestStartRefuses(t *testing.T) {
	for _, c := range []struct {
		name     string
		admitted func(*testing.T) policy.Admitted
		class    backends.Class
		is       error
	}{
		{"zero", func(*testing.T) policy.Admitted { return policy.Admitted{} }, backends.ClassPolicy, policy.ErrNotAdmitted},
		{"another engine's", func(t *testing.T) policy.Admitted {
			return stubAdmit(t, stubBound(func(b *spec.Bound) {
				b.Engine, b.Identity.Labels[spec.LabelEngine] = "e2", "e2"
				b.Create["Labels"].(field.Object)[spec.LabelEngine] = field.String("e2")
			}))
		}, backends.ClassConfig, nil},
		{"another backend's", func(t *testing.T) policy.Admitted {
			return stubAdmit(t, stubBound(func(b *spec.Bound) { b.Backend = "kubernetes" }))
		}, backends.ClassConfig, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := healthy()
			b := s.connect(t)
			s.reset()
			_, err := b.Start(t.Context(), c.admitted(t), stubOptions())
			var f *backends.Failure
			if !errors.As(err, &f) || f.Class != c.class || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("Start gave %#v", err)
			}
			if calls := s.asked(); len(calls) > 0 {
				t.Errorf("calls were made: %v", calls)
			}
		})
	}
}

// TestSecretsAreChecked: what cannot stand in an environment is refused before anything is sent, and is in no message.
func TestSecretsAreChecked(t *testing.T) {
	for _, bad := range []string{"two\nlines", "a\rb", "nul\x00", strings.Repeat("x", secretLimit+1)} {
		s := healthy()
		b := s.connect(t)
		o := stubOptions()
		o.Fill = func(field.SecretRef) (string, error) { return bad, nil }
		_, err := b.Start(t.Context(), stubAdmit(t, stubBound(nil)), o)
		f := backends.AsFailure(err)
		if f == nil || f.Class != backends.ClassConfig || strings.Contains(f.Message, bad) || !strings.Contains(f.Message, "password") {
			t.Errorf("%.10q: Start gave %v", bad, err)
		}
		if s.bodyOf("POST /containers/create") != "" {
			t.Error("it was sent")
		}
	}
	s := healthy()
	o := stubOptions()
	o.Fill = nil
	if _, err := s.connect(t).Start(t.Context(), stubAdmit(t, stubBound(nil)), o); backends.AsFailure(err) == nil {
		t.Error("a start without secrets did not fail")
	}
}

// TestSecretsAreNotTold: an engine that repeats what it was sent does not bring it into a failure.
func TestSecretsAreNotTold(t *testing.T) {
	for _, c := range []struct{ name, value, said string }{
		{"plain", stubPassword, "invalid environment variable: WORKERPASS=" + stubPassword},
		{"quoted", `pa"5\w`, `invalid: "WORKERPASS=pa\"5\\w"`},
		{"in a URL", "a b&c", "invalid: WORKERPASS=a+b%26c"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := healthy()
			s.answer["POST /containers/create"] = func(*http.Request) *http.Response {
				body, err := spec.Encode(field.Object{"message": field.String(c.said)}, nil)
				if err != nil {
					t.Fatal(err)
				}
				return reply200(400, string(body))
			}
			o := stubOptions()
			o.Fill = func(field.SecretRef) (string, error) { return c.value, nil }
			_, err := s.connect(t).Start(t.Context(), stubAdmit(t, stubBound(nil)), o)
			f := backends.AsFailure(err)
			if f == nil || !strings.Contains(f.Message, "WORKERPASS="+spec.Mask) || !strings.Contains(f.Reason, spec.Mask) {
				t.Errorf("Start gave %+v", f)
			}
		})
	}
}

// TestStartCleansUp: after each call that fails, what was made is looked for by label and removed.
func TestStartCleansUp(t *testing.T) {
	for _, failing := range []string{"POST /containers/create", "POST /networks/second/connect", "POST /containers/c1/start"} {
		t.Run(failing, func(t *testing.T) {
			s := healthy()
			s.answer[failing] = func(*http.Request) *http.Response {
				s.answer["GET /containers/json"] = fixed(200, `[{"Id":"c1","Names":["/linux-01j8z3"],"State":"created","Labels":{"`+spec.LabelInstance+`":"`+stubInstance+`"}}]`)
				return reply200(500, `{"message":"no space left on device"}`)
			}
			s.answer["DELETE /containers/c1"] = fixed(204, "")
			_, err := s.connect(t).Start(t.Context(), stubAdmit(t, stubBound(func(b *spec.Bound) {
				b.After = field.Object{"networks": field.List{field.Object{"network": field.String("second")}}}
			})), stubOptions())
			f := backends.AsFailure(err)
			if f == nil || f.Class != backends.ClassCapacity || !f.Retryable {
				t.Errorf("Start gave %+v", f)
			}
			if !slices.Contains(s.asked(), "DELETE /containers/c1") {
				t.Errorf("the container was not removed: %v", s.asked())
			}
		})
	}
}

// TestCreateConflict: a name that another process's start of the same instance has is that instance; anybody else's is not.
func TestCreateConflict(t *testing.T) {
	conflict := fixed(409, `{"message":"Conflict. The container name \"/linux-01j8z3\" is already in use by container \"c1\". You have to remove (or rename) that container to be able to reuse that name."}`)
	inspect := func(engine string) func(*http.Request) *http.Response {
		return fixed(200, `{"Id":"c1","Name":"/linux-01j8z3","State":{"Status":"created"},"Config":{"Labels":{"`+spec.LabelEngine+`":"`+engine+`","`+spec.LabelInstance+`":"`+stubInstance+`"}}}`)
	}
	s := healthy()
	s.answer["POST /containers/create"], s.answer["GET /containers/linux-01j8z3/json"] = conflict, inspect("e1")
	status, err := s.connect(t).Start(t.Context(), stubAdmit(t, stubBound(nil)), stubOptions())
	if err != nil || status.NativeID != "c1" || !slices.Contains(s.asked(), "POST /containers/c1/start") {
		t.Errorf("Start gave %+v, %v", status, err)
	}

	s = healthy()
	s.answer["POST /containers/create"], s.answer["GET /containers/linux-01j8z3/json"] = conflict, inspect("e2")
	_, err = s.connect(t).Start(t.Context(), stubAdmit(t, stubBound(nil)), stubOptions())
	f := backends.AsFailure(err)
	if f == nil || f.Class != backends.ClassInfra || f.Hint == "" {
		t.Errorf("Start gave %+v", f)
	}
	for _, c := range s.asked() {
		if strings.HasPrefix(c, "DELETE") || strings.HasSuffix(c, "/start") {
			t.Errorf("another engine's container was touched: %s", c)
		}
	}
}

// TestNetworkNames: a name of a definition's does not reach another call.
func TestNetworkNames(t *testing.T) {
	for _, name := range []string{"../containers/x", "a/../../b", "x/connect?y=", ".."} {
		s := healthy()
		_, err := s.connect(t).Start(t.Context(), stubAdmit(t, stubBound(func(b *spec.Bound) {
			b.After = field.Object{"networks": field.List{field.Object{"network": field.String(name)}}}
		})), stubOptions())
		if err == nil {
			t.Errorf("%q: no failure", name)
		}
		for _, c := range s.asked() {
			if strings.HasPrefix(c, "POST") && !strings.HasPrefix(c, "POST /networks/") && c != "POST /containers/create" {
				t.Errorf("%q made the call %s", name, c)
			}
		}
	}
}

// TestCancelledBefore: a start that nobody waits for any more makes nothing.
func TestCancelledBefore(t *testing.T) {
	s := healthy()
	b := s.connect(t)
	s.reset()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Start(ctx, stubAdmit(t, stubBound(nil)), stubOptions())
	if f := backends.AsFailure(err); f == nil || f.Class != backends.ClassCancelled || !errors.Is(err, context.Canceled) {
		t.Errorf("Start gave %v", err)
	}
	for _, c := range s.asked() {
		if !strings.HasPrefix(c, "GET") {
			t.Errorf("it made the call %s", c)
		}
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	_, err = b.Start(ctx, stubAdmit(t, stubBound(nil)), stubOptions())
	if f := backends.AsFailure(err); f == nil || f.Class != backends.ClassTimeout {
		t.Errorf("Start past its time gave %v", err)
	}
}

// BenchmarkStart is a start's own time: everything but the engine.
func BenchmarkStart(b *testing.B) {
	s := healthy()
	backend := s.connect(b)
	a := stubAdmit(b, stubBound(nil))
	o := stubOptions()
	b.ReportAllocs()
	for b.Loop() {
		s.reset()
		if _, err := backend.Start(context.Background(), a, o); err != nil {
			b.Fatal(err)
		}
	}
}
