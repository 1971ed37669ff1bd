package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

const events = `{"Action":"start","Package":"github.com/latent-engine/latent-engine/engine"}
{"Action":"output","Package":"github.com/latent-engine/latent-engine/engine","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"github.com/latent-engine/latent-engine/engine","Test":"TestA","Output":"    a_test.go:9: chatter\n"}
{"Action":"output","Package":"github.com/latent-engine/latent-engine/engine","Test":"TestA","Output":"--- PASS: TestA (0.00s)\n"}
{"Action":"pass","Package":"github.com/latent-engine/latent-engine/engine","Test":"TestA"}
{"Action":"output","Package":"github.com/latent-engine/latent-engine/engine","Test":"TestB","Output":"    b_test.go:7: registry is missing: no such file\n"}
{"Action":"output","Package":"github.com/latent-engine/latent-engine/engine","Test":"TestB","Output":"--- SKIP: TestB (0.00s)\n"}
{"Action":"skip","Package":"github.com/latent-engine/latent-engine/engine","Test":"TestB"}
{"Action":"output","Package":"github.com/latent-engine/latent-engine/engine","Output":"PASS\n"}
{"Action":"output","Package":"github.com/latent-engine/latent-engine/engine","Output":"ok  \tgithub.com/latent-engine/latent-engine/engine\t0.1s\n"}
{"Action":"pass","Package":"github.com/latent-engine/latent-engine/engine"}
`

const failure = `{"Action":"output","Package":"p","Test":"TestC","Output":"    c_test.go:3: got 1, want 2\n"}
{"Action":"fail","Package":"p","Test":"TestC"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.2s\n"}
{"Action":"fail","Package":"p"}
`

func TestReport(t *testing.T) {
	tests := []struct {
		name    string
		events  string
		allowed string
		strict  bool
		refused int
		want    []string
		not     []string
	}{
		{
			name: "skips are shown", events: events,
			want: []string{"ok  \tgithub.com/latent-engine/latent-engine/engine\t0.1s", "skipped:\n  registry is missing: no such file\n    engine.TestB\n", "2 tests: 1 passed, 0 failed, 1 skipped; 1 packages, 0 of them failed; 3s"},
			not:  []string{"chatter", "NOT ALLOWED"},
		},
		{name: "skips fail", events: events, strict: true, refused: 1, want: []string{"(NOT ALLOWED)", "FAIL: 1 skipped tests"}},
		{
			name: "a skip is allowed", events: events, strict: true, allowed: "# why\nengine TestB registry is missing\n",
			want: []string{"(allowed)"}, not: []string{"FAIL"},
		},
		{name: "for another reason", events: events, strict: true, allowed: "engine TestB no kernel\n", refused: 1},
		{name: "in another package", events: events, strict: true, allowed: "engine/render TestB registry\n", refused: 1},
		{name: "another test whose name begins alike", events: events, strict: true, allowed: "engine Test registry\n", refused: 1},
		{name: "a failure", events: events + failure, want: []string{"c_test.go:3: got 1, want 2", "failed:\n  p.TestC", "3 tests: 1 passed, 1 failed, 1 skipped; 2 packages, 1 of them failed"}},
		{name: "what is no event is passed on", events: "go: cannot find module\n" + events, want: []string{"go: cannot find module\n"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			allowed, err := parseAllowed(tt.allowed)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			r := newReport(&out, false)
			r.read(strings.NewReader(tt.events))
			if got := r.end(3*time.Second, allowed, tt.strict); got != tt.refused {
				t.Errorf("%d skips refused, want %d", got, tt.refused)
			}
			for _, w := range tt.want {
				if !strings.Contains(out.String(), w) {
					t.Errorf("no %q in:\n%s", w, &out)
				}
			}
			for _, n := range tt.not {
				if strings.Contains(out.String(), n) {
					t.Errorf("%q in:\n%s", n, &out)
				}
			}
		})
	}
}

func TestParseAllowedRefuses(t *testing.T) {
	for _, bad := range []string{"engine TestB", "engine [ x", "engine TestB ["} {
		if _, err := parseAllowed(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
