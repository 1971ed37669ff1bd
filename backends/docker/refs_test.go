package docker

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/distribution/reference"

	"github.com/latent-engine/latent-engine/engine/field"
)

// TestImageRefs holds the reader to the recorded canonical forms.
func TestImageRefs(t *testing.T) {
	raw, err := os.ReadFile("../../testdata/security/image_refs.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Input     string
		Canonical *string
		Note      string
	}
	if err := json.Unmarshal(raw, &cases); err != nil || len(cases) < 20 {
		t.Fatal(len(cases), err)
	}
	for _, c := range cases {
		r, err := parseImage(c.Input)
		switch {
		case strings.HasPrefix(c.Input, "sha256:") || hexadecimal(c.Input) && len(c.Input) == 64:
			// An id, whatever the normaliser makes of it: no list of registries allows it.
			if err != nil || r.ID != "sha256:"+strings.TrimPrefix(c.Input, "sha256:") || canonicalImage(c.Input) != c.Input {
				t.Errorf("%q (%s): %+v, %v; want an id", c.Input, c.Note, r, err)
			}
		case c.Canonical == nil:
			if err == nil {
				t.Errorf("%q (%s) is read as %+v", c.Input, c.Note, r)
			}
		case err != nil || r.Canonical != *c.Canonical || canonicalImage(c.Input) != *c.Canonical:
			t.Errorf("%q (%s): %+v, %v; want %s", c.Input, c.Note, r, err, *c.Canonical)
		}
	}
}

func TestParseImage(t *testing.T) {
	const d = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	for in, want := range map[string]imageRef{
		"alpine":                   {"", "alpine:latest", "docker.io/library/alpine:latest", "docker.io", "library/alpine", "latest", ""},
		"docker.io/alpine:3":       {"", "alpine:3", "docker.io/library/alpine:3", "docker.io", "library/alpine", "3", ""},
		"docker.io/ci/w":           {"", "ci/w:latest", "docker.io/ci/w:latest", "docker.io", "ci/w", "latest", ""},
		"library/alpine":           {"", "alpine:latest", "docker.io/library/alpine:latest", "docker.io", "library/alpine", "latest", ""},
		"localhost/w":              {"", "localhost/w:latest", "localhost/w:latest", "localhost", "w", "latest", ""},
		"127.0.0.1:5000/a/b:C_1.x": {"", "127.0.0.1:5000/a/b:C_1.x", "127.0.0.1:5000/a/b:C_1.x", "127.0.0.1:5000", "a/b", "C_1.x", ""},
		"[::1]:5000/w":             {"", "[::1]:5000/w:latest", "[::1]:5000/w:latest", "[::1]:5000", "w", "latest", ""},
		"alpine@" + d:              {"", "alpine@" + d, "docker.io/library/alpine@" + d, "docker.io", "library/alpine", "", d},
		"r.corp/w:1@" + d:          {"", "r.corp/w:1@" + d, "r.corp/w:1@" + d, "r.corp", "w", "1", d},
		"Registry/x":               {"", "Registry/x:latest", "Registry/x:latest", "Registry", "x", "latest", ""},
		"registry_corp.example/x":  {"", "registry_corp.example/x:latest", "registry_corp.example/x:latest", "registry_corp.example", "x", "latest", ""},
		"a__b/c--d":                {"", "a__b/c--d:latest", "docker.io/a__b/c--d:latest", "docker.io", "a__b/c--d", "latest", ""},
		"docker.io/r.corp/x":       {"", "docker.io/r.corp/x:latest", "docker.io/r.corp/x:latest", "docker.io", "r.corp/x", "latest", ""},
		"docker.io/localhost/x:1":  {"", "docker.io/localhost/x:1", "docker.io/localhost/x:1", "docker.io", "localhost/x", "1", ""},
		d:                          {ID: d},
		d[7:]:                      {ID: d},
		"4bcff63911fc":             {ID: "4bcff63911fc"},
		"sha256:4bcff63911fc":      {ID: "sha256:4bcff63911fc"},
		"cafe":                     {"", "cafe:latest", "docker.io/library/cafe:latest", "docker.io", "library/cafe", "latest", ""},
		"4bcff63911fc:1":           {"", "4bcff63911fc:1", "docker.io/library/4bcff63911fc:1", "docker.io", "library/4bcff63911fc", "1", ""},
	} {
		got, err := parseImage(in)
		if err != nil || got != want {
			t.Errorf("%q:\n got %+v, %v\nwant %+v", in, got, err, want)
		}
		again, err := parseImage(got.String())
		if err != nil || again != got {
			t.Errorf("%q: %q is read as %+v, %v", in, got.String(), again, err)
		}
	}
	for in, want := range map[string]string{
		"":                       "the image is empty",
		"a b":                    "holds a blank",
		"A/b/C":                  "upper-case",
		"x:y:z":                  "no valid tag",
		"a@sha256:12":            "is not an image",
		"docker://x":             "has a scheme",
		"-x":                     "is not an image",
		strings.Repeat("a", 300): "more than",
	} {
		if _, err := parseImage(in); err == nil || !strings.Contains(err.Error(), want) && !strings.Contains(err.Error(), "is not an image") {
			t.Errorf("%q: %v, want …%s…", in, err, want)
		}
	}
	for _, in := range []string{"latent-engine.local/x", "latent-engine.local:443/x", "LATENT-engine.local/x"} {
		if _, err := checkImage(field.String(in)); err == nil {
			t.Errorf("%q is taken", in)
		}
	}
	if v, err := checkImage(field.String("latent-engine.localx/x")); err != nil {
		t.Error(v, err)
	}
}

// FuzzImage: no panic; the fast path says what the library says; what is read is canonical.
func FuzzImage(f *testing.F) {
	for _, s := range []string{
		"alpine", "docker.io/library/alpine:3", "registry.corp:5000/a/b_c/d-e:1.2_3", "localhost/x", "a@sha256:12", "index.docker.io/x", "1.2.3.4:5/x:y", "sha256:aaaaaaaaaaaa",
		"library/a", "aaaaaaaaaaaa", "x/:", "a..b/c", "a-.b/c", "a:5/", ".a/b", "a_b.c/d", "docker.io/r.corp/x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if fast, ok := plainImage(s); ok {
			named, err := reference.ParseNormalizedNamed(s)
			if err != nil {
				t.Fatalf("%q: the fast path takes it, the library does not: %v", s, err)
			}
			named = reference.TagNameOnly(named)
			if named.String() != fast.Canonical || reference.FamiliarString(named) != fast.Familiar || reference.Domain(named) != fast.Domain || reference.Path(named) != fast.Path {
				t.Fatalf("%q: %+v, the library says %s", s, fast, named)
			}
		}
		r, err := parseImage(s)
		if err != nil {
			return
		}
		again, err := parseImage(r.String())
		if err != nil || again != r {
			t.Errorf("%q: %+v; %q is read as %+v, %v", s, r, r.String(), again, err)
		}
		if r.ID == "" && (r.Domain == "" || r.Path == "" || r.Tag == "" && r.Digest == "" || !strings.HasPrefix(r.Canonical, r.Domain+"/"+r.Path)) {
			t.Errorf("%q: %+v", s, r)
		}
	})
}

func BenchmarkCheckImage(b *testing.B) {
	var v field.Value = field.String("registry.corp/ci/linux:main")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := checkImage(v); err != nil {
			b.Fatal(err)
		}
	}
}
