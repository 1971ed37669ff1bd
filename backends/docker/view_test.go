package docker

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/spec"
)

func viewOf(t testing.TB, create string) (spec.View, error) {
	t.Helper()
	return Kind{}.View(spec.Bound{Plan: spec.Plan{Create: value(t, create).(field.Object)}})
}

func TestView(t *testing.T) {
	v, err := viewOf(t, `{
	  "name": "x", "platform": "linux/amd64", "Image": "alpine", "Labels": {"a": "b"},
	  "Env": ["A=1", "B", "A=2=3", "=x", {"$text": ["S=u:", "tok", "@"]}],
	  "HostConfig": {
	    "Privileged": true, "Binds": ["/srv/../etc:/x", "vol:/y", "/anon", "C:\\s:D:\\t"],
	    "Mounts": [{"Type": "bind", "Source": "/run/", "Target": "/r"}, {"Type": "image", "Source": "evil/x", "Target": "/i"}, {"Type": "volume", "Source": "v", "Target": "/v", "VolumeOptions": {"DriverConfig": {"Options": {"o": "bind", "device": "/root"}}}}],
	    "NetworkMode": "host", "PidMode": "host", "IpcMode": "container:x", "UTSMode": "host", "UsernsMode": "host", "CgroupnsMode": "host",
	    "CapAdd": ["net_admin", "CAP_NET_ADMIN", "ALL"], "Devices": [{"PathOnHost": "/dev/kvm"}], "DeviceRequests": [{"Driver": "nvidia"}], "DeviceCgroupRules": ["a *:* rwm"],
	    "PortBindings": {"1/tcp": [{"HostIp": "127.0.0.1", "HostPort": "99"}], "2/udp": []}, "PublishAllPorts": true,
	    "Memory": 5, "CpuQuota": 150000, "PidsLimit": -1, "MaskedPaths": []
	  },
	  "NetworkingConfig": {"EndpointsConfig": {"n": {"IPAMConfig": {"IPv4Address": "1.2.3.4"}}}}
	}`)
	if err != nil {
		t.Fatal(err)
	}
	want := spec.View{
		Name: "x", Images: []string{"docker.io/library/alpine:latest", "docker.io/evil/x:latest"}, Privileged: true, Labels: map[string]string{"a": "b"},
		Env: []spec.EnvVar{
			{Name: "A", Value: field.String("1")},
			{Name: "B"},
			{Name: "A", Value: field.String("2=3")},
			{Name: "", Value: field.String("x")},
			{Name: "S", Value: field.Text{{Text: "u:"}, {Secret: field.SecretRef{Name: "tok"}}, {Text: "@"}}},
		},
		HostMounts: []string{"/etc", `C:\s`, "/run", "/root"}, HostNamespaces: []string{"network", "pid", "ipc", "uts", "user", "cgroup"},
		Capabilities: []string{"CAP_NET_ADMIN", "ALL"}, Devices: []string{"/dev/kvm", "rule:a *:* rwm", "request:nvidia"},
		Ports: []string{"*", "127.0.0.1:99:1/tcp", "::2/udp"}, Resources: spec.Resources{Memory: 5, NanoCPUs: 1_500_000_000},
	}
	if diff := cmp.Diff(want, v); diff != "" {
		t.Error(diff)
	}
}

// TestViewIsStrict: what an engine would read, and we would not see, is refused.
func TestViewIsStrict(t *testing.T) {
	for _, c := range []struct{ create, want string }{
		{`{"image": "a"}`, `image: unknown field (the API's spelling is "Image")`},
		{`{"hostconfig": {"Privileged": true}}`, `hostconfig: unknown field (the API's spelling is "HostConfig")`},
		{`{"HoſtConfig": {"Privileged": true}}`, `unknown field`},
		{`{"HostConfig": {"privileged": true}}`, `HostConfig.privileged: unknown field`},
		{`{"HostConfig": {"CPUShares": 1}}`, `HostConfig.CPUShares: unknown field`},
		{`{"Privileged": true}`, `Privileged: unknown field`},
		{`{"Memory": 5}`, `Memory: unknown field`},
		{`{"HostConfig": {"Resources": {"Memory": 5}}}`, `HostConfig.Resources: unknown field`},
		{`{"Config": {"Image": "a"}}`, `Config: unknown field`},
		{`{"HostConfig": {"Memory": "5"}}`, `HostConfig.Memory: a string cannot stand here`},
		{`{"HostConfig": {"Memory": 5.0}}`, `HostConfig.Memory: a number cannot stand here`},
		{`{"HostConfig": {"BlkioWeight": 70000}}`, `HostConfig.BlkioWeight: 70000 does not fit`},
		{`{"HostConfig": {"ConsoleSize": [1, 2, 3]}}`, `HostConfig.ConsoleSize: 3 elements; 2 are wanted`},
		{`{"HostConfig": {"Binds": "x"}}`, `HostConfig.Binds: a string cannot stand here`},
		{`{"HostConfig": {"Binds": ["~/x:/x"]}}`, `HostConfig.Binds[0]`},
		{`{"HostConfig": {"Binds": [null]}}`, `HostConfig.Binds[0]: null cannot stand here`},
		{`{"HostConfig": {"Mounts": [{"type": "bind"}]}}`, `HostConfig.Mounts[0].type: unknown field`},
		{`{"HostConfig": {"Mounts": [{"VolumeOptions": {"DriverConfig": {"options": {}}}}]}}`, `DriverConfig.options: unknown field`},
		{`{"NetworkingConfig": {"EndpointsConfig": {"n": {"aliases": []}}}}`, `EndpointsConfig.n.aliases: unknown field`},
		{`{"Env": {"A": "1"}}`, `Env: a map cannot stand here`},
		{`{"Labels": ["a=b"]}`, `Labels: a list cannot stand here`},
		{`{"Image": {"$secret": "x"}}`, `Image: a secret cannot stand here`},
		{`{"Labels": {"a": {"$secret": "x"}}}`, `Labels.a: a secret cannot stand here`},
		{`{"Cmd": [{"$secret": "x"}]}`, `Cmd[0]: a secret cannot stand here`},
		{`{"Env": [{"$secret": "x"}]}`, `Env[0]: a secret cannot stand in the name`},
		{`{"Env": [{"$text": ["NAME", "x", "=v"]}]}`, `Env[0]: a secret cannot stand in the name`},
	} {
		if _, err := viewOf(t, c.create); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want …%s…", c.create, err, c.want)
		}
	}
	object := field.Object{"Image": field.String("a")}
	for name, p := range map[string]spec.Plan{
		"it pulls":         {Create: object, Pull: field.Object{"image": field.String("b")}},
		"it builds":        {Create: object, Build: field.Object{"tag": field.String("b")}},
		"auxiliary":        {Create: object, Objects: []field.Object{{}}},
		"the pull: x":      {Create: object, Pull: field.Object{"x": field.String("b")}},
		"the build: tag":   {Create: object, Build: field.Object{"tag": field.Secret("b")}},
		"networks[0].name": {Create: object, After: field.Object{"networks": field.List{field.Object{"name": field.String("x")}}}},
	} {
		if _, err := (Kind{}).View(spec.Bound{Plan: p}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want …%s…", err, name)
		}
	}
	build := spec.Plan{Create: object, Build: field.Object{"tag": field.String("a"), "dockerfile": field.String("FROM x"), "buildargs": field.Object{"K": field.Secret("k")}}}
	if v, err := (Kind{}).View(spec.Bound{Plan: build}); err != nil || !v.Builds {
		t.Errorf("%+v, %v", v, err)
	}
	after := spec.Plan{Create: object, After: value(t, `{"networks": [{"network": "host", "config": {}}], "stop_timeout": 5, "follow_startup_logs": true}`).(field.Object)}
	if v, err := (Kind{}).View(spec.Bound{Plan: after}); err != nil || len(v.HostNamespaces) != 1 {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestViewOfRecordedSpecs reads every recorded create body: none is misread or panics, and what is refused as unreadable is
// among those that must be refused.
func TestViewOfRecordedSpecs(t *testing.T) {
	raw, err := os.ReadFile("../../testdata/security/docker.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Reject, Benign []struct {
			ID   string
			Spec json.RawMessage
		}
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	for _, c := range file.Benign {
		if _, err := viewOf(t, string(c.Spec)); err != nil {
			t.Errorf("%s is benign and cannot be read: %v", c.ID, err)
		}
	}
	unreadable := 0
	for _, c := range file.Reject {
		if _, err := viewOf(t, string(c.Spec)); err != nil {
			unreadable++
			t.Logf("%s: %v", c.ID, err)
		}
	}
	if len(file.Benign) < 10 || len(file.Reject) < 50 || unreadable == len(file.Reject) {
		t.Errorf("%d benign, %d to reject, %d of them unreadable", len(file.Benign), len(file.Reject), unreadable)
	}
}

func TestDockerfileImages(t *testing.T) {
	for _, c := range []struct {
		name, text string
		args       field.Object
		want       []string
	}{
		{"one", "FROM alpine:3", nil, []string{"alpine:3"}},
		{"case, comments, blank lines", "# c\n\n  from  Alpine\n", nil, []string{"Alpine"}},
		{"stages", "FROM a AS one\nFROM b as Two\nCOPY --from=one / /\nCOPY --from=TWO / /\nCOPY --from=0 / /\nFROM two\n", nil, []string{"a", "b"}},
		{"scratch", "FROM scratch\nADD x /", nil, nil},
		{"copied from an image", "FROM scratch\nCOPY --chown=1 --from=evil/x / /", nil, []string{"evil/x"}},
		{"mounted from an image", "FROM scratch\nRUN --mount=type=bind,from=evil/x,target=/x true", nil, []string{"evil/x"}},
		{"platform", "FROM --platform=linux/arm64 a", nil, []string{"a"}},
		{"continued", "FROM \\\n# c\n  a:\\\n1 \\\n as x", nil, []string{"a:1"}},
		{"escape", "# escape=`\nFROM `\n a", nil, []string{"a"}},
		{"default argument", "ARG V=3\nFROM a:$V", nil, []string{"a:3"}},
		{"given argument", "ARG V=3\nFROM a:${V}", field.Object{"V": field.String("4")}, []string{"a:4"}},
		{"argument of arguments", "ARG A=x\nARG B=${A}y\nFROM r/${B:-z}:${C:-1}${A:+2}", nil, []string{"r/xy:12"}},
		{"argument after FROM", "FROM a\nARG V=3\nFROM b:$V", nil, []string{"a", "b:$V"}},
		{"secret argument", "ARG V=3\nFROM a:$V", field.Object{"V": field.Secret("v")}, []string{"a:$V"}},
		{"unknown argument", "FROM ${X}", nil, []string{"${X}"}},
		{"quotes", `FROM "a"`, nil, []string{"a"}},
		{"trigger", "FROM a\nONBUILD COPY --from=b / /", nil, []string{"a", "b"}},
		{"an argument within another's quotes", "ARG A=evil\nARG B=\"x A=good\"\nFROM $A", nil, []string{"evil"}},
		{"an escaped quote", "ARG A=evil\nARG B=\"x\\\" A=good\"\nFROM $A", nil, []string{"evil"}},
		{"an escaped space", "ARG A=evil\nARG B=x\\ A=good\nFROM $A", nil, []string{"evil"}},
		{"two arguments", "ARG A=a B='b'\nFROM $A$B", nil, []string{"ab"}},
		{"no directive", "# a b = c\n# escape=`\nFROM a\nRUN x `\nFROM evil", nil, []string{"a", "evil"}},
		{"two escape characters", "FROM a\nRUN x \\\\\nFROM evil", nil, []string{"a", "evil"}},
		{"byte order mark", "\ufeffFROM a", nil, []string{"a"}},
		{"nothing", "", nil, nil},
		{"broken", "FROM\nFROM ${\nARG\n\\", nil, []string{"${"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, dockerfileImages(c.text, c.args)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// FuzzDockerfile: no panic, and no more images than words.
func FuzzDockerfile(f *testing.F) {
	f.Add("ARG A=1\nFROM ${A:-x} AS y\nCOPY --from=z a b\n# escape=`\nRUN --mount=from=q,x true \\\n y")
	f.Fuzz(func(t *testing.T, s string) {
		if n := len(dockerfileImages(s, nil)); n > len(strings.Fields(s))+strings.Count(s, ",") {
			t.Errorf("%q: %d images", s, n)
		}
	})
}

func BenchmarkView(b *testing.B) {
	fields, problems := checkedFields(b, benchmarkWorker)
	if len(problems) > 0 {
		b.Fatal(problems)
	}
	p, _ := convert(b, benchmarkWorker)
	_ = fields
	bound, err := Kind{}.Bind(p, sampleIdentity(""))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (Kind{}).View(bound); err != nil {
			b.Fatal(err)
		}
	}
}
