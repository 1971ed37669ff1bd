package spec

import (
	"encoding/json"
	"testing"

	"github.com/latent-engine/latent-engine/engine/field"
)

func samplePlan() Plan {
	return Plan{
		Backend: "docker", Target: "local", Endpoint: "unix:///var/run/docker.sock", Master: Master{Host: "ci.corp", Port: 9989, Protocol: "pb"},
		Pull: field.Object{"image": field.String("docker.io/library/debian:12"), "policy": field.String("missing")},
		Create: field.Object{
			"Image": field.String("debian:12"),
			"Env":   field.List{field.String("A=1"), field.Text{{Text: "B="}, {Secret: field.SecretRef{Name: "db"}}}},
			"HostConfig": field.Object{
				"Memory": field.Int(9007199254740993), "Init": field.Bool(true),
			},
		},
	}
}

// The digests are recorded: a change of one is a change of what every user's running instances are compared with.
func TestDigestRecorded(t *testing.T) {
	p := samplePlan()
	const want = "v1:e1b2d176fb295f9de2fd01475ebedb0c1364a79ab049d76ff6e0a90acd1901ff"
	canonical := string(AppendCanonical(nil, p.Object()))
	const wantJSON = `{"backend":"docker","create":{"Env":["A=1",{"$text":["B=",{"$secret":["","db"]}]}],"HostConfig":{"Init":true,"Memory":9007199254740993},"Image":"debian:12"},"endpoint":"unix:///var/run/docker.sock","master":{"host":"ci.corp","port":9989,"protocol":"pb"},"pull":{"image":"docker.io/library/debian:12","policy":"missing"},"target":"local"}`
	if canonical != wantJSON {
		t.Errorf("canonical JSON\n got %s\nwant %s", canonical, wantJSON)
	}
	if got := Digest(p); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
}

// What is absent changes nothing; what is given does, also where it is empty or zero.
func TestDigestSparse(t *testing.T) {
	base := Digest(samplePlan())
	p := samplePlan()
	p.Create["StopTimeout"] = nil
	p.Create["HostConfig"].(field.Object)["Annotations"] = nil
	p.Objects, p.Build = []field.Object{}, field.Object{}
	if got := Digest(p); got != base {
		t.Errorf("absent values changed the digest: %s", AppendCanonical(nil, p.Object()))
	}
	for name, v := range map[string]field.Value{"MaskedPaths": field.List{}, "MemorySwappiness": field.Int(0), "Init": field.Bool(false), "Tmpfs": field.Object{"/run": field.String("")}} {
		p := samplePlan()
		p.Create["HostConfig"].(field.Object)[name] = v
		if Digest(p) == base {
			t.Errorf("%s did not change the digest", name)
		}
	}
}

func TestDigestTellsApart(t *testing.T) {
	seen := map[string]string{}
	for name, v := range map[string]field.Value{
		"secret":            field.Secret("db"),
		"text of a secret":  field.String(`{"$secret":["","db"]}`),
		"map like a secret": field.Object{"$secret": field.List{field.String(""), field.String("db")}},
		"map like a text":   field.Object{"$text": field.List{field.Object{"$secret": field.List{field.String(""), field.String("db")}}}},
		"other provider":    field.Text{{Secret: field.SecretRef{Provider: "vault", Name: "db"}}},
		"number":            field.Int(1),
		"text of a number":  field.String("1"),
		"true":              field.Bool(true),
		"list":              field.List{field.Int(1)},
		"list with a null":  field.List{field.Int(1), nil},
	} {
		p := samplePlan()
		p.Create["X"] = v
		d := Digest(p)
		if other, twice := seen[d]; twice {
			t.Errorf("%q and %q have one digest", name, other)
		}
		seen[d] = name
	}
}

func TestPasswordIsNoPartOfADigest(t *testing.T) {
	a, b := samplePlan(), samplePlan()
	a.Password, b.Password = field.String("one"), field.String("two")
	if Digest(a) != Digest(b) {
		t.Error("a password's characters are in the digest")
	}
}

func TestEncode(t *testing.T) {
	v := field.Object{"b": field.List{field.Int(1), nil, field.Float(2.5)}, "a": field.Text{{Text: "x\"\n"}, {Secret: field.SecretRef{Name: "s"}}}, "gone": nil, "zero": field.Int(0)}
	got, err := Encode(v, func(r field.SecretRef) (string, error) { return "<" + r.Name + ">\x01", nil })
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"a":"x\"\n<s>\u0001","b":[1,null,2.5],"zero":0}`
	if string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if red := string(AppendRedacted(nil, v)); red != `{"a":"x\"\n***","b":[1,null,2.5],"zero":0}` {
		t.Errorf("redacted %s", red)
	}
}

func FuzzString(f *testing.F) {
	for _, s := range []string{"", "a\"b\\c", "\x00\x1f\x7f", "ä€😀", "\xff\xfe", "\u2028</script>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var back string
		if err := json.Unmarshal(AppendString(nil, s), &back); err != nil {
			t.Fatalf("AppendString(%q) is not JSON: %v", s, err)
		}
		std, _ := json.Marshal(s)
		var want string
		if err := json.Unmarshal(std, &want); err != nil {
			t.Fatal(err)
		}
		if back != want {
			t.Errorf("got %q, want %q", back, want)
		}
	})
}

func TestBoundCloneIsDeep(t *testing.T) {
	b := Bound{Plan: samplePlan(), Identity: Identity{Labels: map[string]string{"a": "1"}, Env: []EnvVar{{Name: "X", Value: field.Secret("s")}}}}
	c := b.Clone()
	c.Create["HostConfig"].(field.Object)["Memory"] = field.Int(1)
	c.Create["Env"].(field.List)[0] = field.String("Z")
	c.Labels["a"] = "2"
	c.Identity.Env[0].Value.(field.Text)[0].Secret.Name = "other"
	if Digest(b.Plan) != Digest(samplePlan()) || b.Labels["a"] != "1" || b.Identity.Env[0].Value.(field.Text)[0].Secret.Name != "s" {
		t.Error("a clone shares something with its original")
	}
}

func TestParseMaster(t *testing.T) {
	for _, c := range []struct {
		in   string
		host string
		port int
		bad  bool
	}{
		{in: "ci.corp", host: "ci.corp"},
		{in: "ci.corp:9999", host: "ci.corp", port: 9999},
		{in: "[2001:db8::1]:9989", host: "2001:db8::1", port: 9989},
		{in: "[::1]", host: "::1"},
		{in: "2001:db8::1", host: "2001:db8::1"},
		{in: "fe80::1%eth0", host: "fe80::1%eth0"},
		{in: "10.0.0.1:1", host: "10.0.0.1", port: 1},
		{in: "", bad: true},
		{in: "ci.corp:", bad: true},
		{in: "ci.corp:0", bad: true},
		{in: "ci.corp:65536", bad: true},
		{in: "ci.corp:pb", bad: true},
		{in: "a b", bad: true},
		{in: "http://ci.corp", bad: true},
		{in: "x:y:z", bad: true},
		{in: ":9989", bad: true},
	} {
		host, port, err := ParseMaster(c.in)
		if c.bad != (err != nil) || host != c.host || port != c.port && !c.bad {
			t.Errorf("ParseMaster(%q) = %q, %d, %v", c.in, host, port, err)
		}
	}
}

// The digest's own way through a plan and the plan as one value are the same JSON.
func TestDigestIsOfTheObject(t *testing.T) {
	full := samplePlan()
	full.Password, full.Build, full.After = field.Secret("pw"), field.Object{"tag": field.String("x")}, field.Object{"stop_timeout": field.Int(0)}
	full.Objects = []field.Object{{"kind": field.String("Secret")}}
	plain := samplePlan()
	plain.Password, plain.Master = field.String("pw"), Master{}
	for _, p := range []Plan{full, plain, samplePlan(), {}} {
		if got, want := string(p.appendCanonical(nil)), string(AppendCanonical(nil, p.Object())); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
