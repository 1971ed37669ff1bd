package docker

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/spec"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// value reads JSON as a definition's value; {"$secret": "name"} is a secret, "a${name}b" under {"$text": …} a text with one.
func value(t testing.TB, text string) field.Value {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Fatalf("%s: more than one value", text)
	}
	return plainValue(t, v)
}

func plainValue(t testing.TB, v any) field.Value {
	switch v := v.(type) {
	case nil:
		return nil
	case bool:
		return field.Bool(v)
	case string:
		return field.String(v)
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return field.Int(n)
		}
		f, err := v.Float64()
		if err != nil {
			t.Fatal(err)
		}
		return field.Float(f)
	case []any:
		l := make(field.List, len(v))
		for i, e := range v {
			l[i] = plainValue(t, e)
		}
		return l
	case map[string]any:
		if name, ok := v["$secret"].(string); ok {
			return field.Secret(name)
		}
		if l, ok := v["$text"].([]any); ok {
			return field.Text{{Text: l[0].(string)}, {Secret: field.SecretRef{Name: l[1].(string)}}, {Text: l[2].(string)}}
		}
		o := make(field.Object, len(v))
		for k, e := range v {
			o[k] = plainValue(t, e)
		}
		return o
	}
	t.Fatalf("%T", v)
	return nil
}

// checkedFields holds a worker against the table, as a render does. It does so twice, because checked values must pass again.
func checkedFields(t testing.TB, text string) (field.Object, []field.Problem) {
	t.Helper()
	worker := &field.Type{Kind: field.ObjectKind, Fields: workerTable}
	raw := value(t, text)
	once, problems := worker.Coerce(raw)
	if len(problems) > 0 {
		return nil, problems
	}
	twice, problems := worker.Coerce(once)
	if len(problems) > 0 || !field.Equal(once, twice) {
		t.Errorf("a checked value is not taken again as it is:\n%s\n%s\n%v", pretty(once), pretty(twice), problems)
	}
	return once.(field.Object), nil
}

func convert(t testing.TB, text string) (spec.Plan, []field.Problem) {
	t.Helper()
	return convertFor(t, "", text)
}

func convertFor(t testing.TB, tenant, text string) (spec.Plan, []field.Problem) {
	t.Helper()
	fields, problems := checkedFields(t, text)
	if len(problems) > 0 {
		return spec.Plan{}, problems
	}
	before := spec.CloneValue(fields)
	p, problems := Kind{}.Convert(backends.ConvertInput{Tenant: tenant, Worker: "linux", Target: "local", Fields: fields})
	if !field.Equal(before, fields) {
		t.Errorf("Convert changed its input:\n%s", cmp.Diff(pretty(before), pretty(fields)))
	}
	return p, problems
}

func pretty(v field.Value) string {
	var b bytes.Buffer
	if err := json.Indent(&b, spec.AppendRedacted(nil, v), "", "  "); err != nil {
		return err.Error()
	}
	return b.String()
}

// planValue is a plan as one value, without what every plan has.
func planValue(p spec.Plan) field.Object {
	o := field.Object{"create": p.Create}
	if p.Pull != nil {
		o["pull"] = p.Pull
	}
	if p.Build != nil {
		o["build"] = p.Build
	}
	if p.After != nil {
		o["after"] = p.After
	}
	if p.Password != nil {
		o["password"] = p.Password
	}
	if p.Master != (spec.Master{Protocol: "pb"}) {
		o["master"] = field.String(fmt.Sprintf("%s|%d|%s", p.Master.Host, p.Master.Port, p.Master.Protocol))
	}
	return o
}

// TestOptions gives each option and looks at what becomes of the plan, without what image alone gives.
func TestOptions(t *testing.T) {
	for _, c := range []struct{ name, fields, want string }{
		{"command as a list", `"command": ["sh", "-c", "a b"]`, `{"create": {"Cmd": ["sh", "-c", "a b"]}}`},
		{"command as a text", `"command": "sh -c 'a  b' \"c\\\"d\" # e\\ f"`, `{"create": {"Cmd": ["sh", "-c", "a  b", "c\"d", "#", "e f"]}}`},
		{"an empty command is the image's", `"command": []`, `{}`},
		{"numbers in a command", `"command": ["sleep", 5]`, `{"create": {"Cmd": ["sleep", "5"]}}`},
		{"entrypoint", `"entrypoint": "/init --fast"`, `{"create": {"Entrypoint": ["/init", "--fast"]}}`},
		{"hostname", `"hostname": "w1.ci"`, `{"create": {"Hostname": "w1.ci"}}`},
		{"domainname", `"domainname": "ci"`, `{"create": {"Domainname": "ci"}}`},
		{"user as a number", `"user": 1000`, `{"create": {"User": "1000"}}`},
		{"user and group", `"user": "ci:ci"`, `{"create": {"User": "ci:ci"}}`},
		{"working_dir is cleaned", `"working_dir": "/srv/../build/"`, `{"create": {"WorkingDir": "/build"}}`},
		{"working_dir on Windows", `"working_dir": "C:\\build"`, `{"create": {"WorkingDir": "C:\\build"}}`},
		{"labels as a map", `"labels": {"a": 1, "b": true}`, `{"create": {"Labels": {"a": "1", "b": "true"}}}`},
		{"labels as a list", `"labels": ["a=1", "b="]`, `{"create": {"Labels": {"a": "1", "b": ""}}}`},
		{"env as a map", `"env": {"B": 2, "A": "x=y", "C": true}`, `{"create": {"Env": ["A=x=y", "B=2", "C=true"]}}`},
		{"env as a list", `"env": ["B=2", "A="]`, `{"create": {"Env": ["A=", "B=2"]}}`},
		{"environment is env", `"environment": {"A": "1"}`, `{"create": {"Env": ["A=1"]}}`},
		{"env with secrets", `"env": {"T": {"$secret": "tok"}, "U": {"$text": ["u:", "tok", "@h"]}}`, `{"create": {"Env": ["T=***", "U=u:***@h"]}}`},
		{"stop_signal", `"stop_signal": "SIGINT"`, `{"create": {"StopSignal": "SIGINT"}}`},
		{"stop_timeout in seconds", `"stop_timeout": 30`, `{"create": {"StopTimeout": 30}, "after": {"stop_timeout": 30}}`},
		{"stop_timeout as a duration", `"stop_timeout": "1m30s"`, `{"create": {"StopTimeout": 90}, "after": {"stop_timeout": 90}}`},
		{"network_disabled", `"network_disabled": true`, `{"create": {"NetworkDisabled": true}}`},
		{"ports", `"ports": [2222, "53/UDP"]`, `{"create": {"ExposedPorts": {"2222/tcp": {}, "53/udp": {}}}}`},
		{"healthcheck", `"healthcheck": {"test": "true", "interval": 1000000000, "Timeout": "3s", "retries": 2}`, `{"create": {"Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 1000000000, "Timeout": 3000000000, "Retries": 2}}}`},
		{"followStartupLogs", `"followStartupLogs": true`, `{"after": {"follow_startup_logs": true}}`},
		{"followStartupLogs off", `"followStartupLogs": false`, `{}`},
		{"platform", `"platform": "Linux/ARM64"`, `{"create": {"platform": "linux/arm64"}, "pull": {"platform": "linux/arm64"}}`},
		{"password", `"password": "s3"`, `{"password": "s3"}`},
		{"password from a secret", `"password": {"$secret": "pw"}`, `{"password": "***"}`},
		{"masterFQDN", `"masterFQDN": "ci.corp"`, `{"master": "ci.corp|0|pb"}`},
		{"masterFQDN with a port", `"masterFQDN": "ci.corp:9990"`, `{"master": "ci.corp|9990|pb"}`},
		{"masterFQDN, IPv6", `"masterFQDN": "fd00::1"`, `{"master": "fd00::1|0|pb"}`},
		{"masterFQDN, IPv6 with a port", `"masterFQDN": "[fd00::1]:9990"`, `{"master": "fd00::1|9990|pb"}`},
		{"master_protocol", `"master_protocol": "msgpack_experimental_v7"`, `{"master": "|0|msgpack_experimental_v7"}`},
		{"autopull off", `"autopull": false`, `{"pull": {"policy": "never"}}`},
		{"alwaysPull", `"alwaysPull": true`, `{"pull": {"policy": "always"}}`},
		{"alwaysPull without autopull", `"alwaysPull": true, "autopull": false`, `{"pull": {"policy": "never"}}`},
		{"one volume", `"volumes": "cache:/cache"`, `{"create": {"HostConfig": {"Binds": ["cache:/cache"]}}}`},
		{"volumes before binds", `"volumes": ["/a:/b:ro,z"], "hostconfig": {"binds": ["c1:/d"]}`, `{"create": {"HostConfig": {"Binds": ["/a:/b:ro,z", "c1:/d"]}}}`},
		{"volumes on Windows", `"volumes": ["C:\\src:D:\\dst:ro"]`, `{"create": {"HostConfig": {"Binds": ["C:\\src:D:\\dst:ro"]}}}`},
		{"networks", `"networks": ["front", "back"]`, `{"create": {"HostConfig": {"NetworkMode": "front"}, "NetworkingConfig": {"EndpointsConfig": {"front": {}}}}, "after": {"networks": [{"network": "back", "config": {}}]}}`},
		{
			"networks with settings", `"networks": {"b": {"ipv4_address": "10.0.0.5", "aliases": ["x"]}, "a": null, "c": {"driver_opts": {"k": 1}, "links": {"db": "db1"}, "mac_address": "02-42-AC-11-00-02", "gw_priority": 3, "ipv6_address": "FD00::5", "link_local_ips": ["169.254.1.1"]}}`,
			`{"create": {"HostConfig": {"NetworkMode": "a"}, "NetworkingConfig": {"EndpointsConfig": {"a": {}}}}, "after": {"networks": [
			  {"network": "b", "config": {"Aliases": ["x"], "IPAMConfig": {"IPv4Address": "10.0.0.5"}}},
			  {"network": "c", "config": {"DriverOpts": {"k": "1"}, "Links": ["db:db1"], "MacAddress": "02:42:ac:11:00:02", "GwPriority": 3, "IPAMConfig": {"IPv6Address": "fd00::5", "LinkLocalIPs": ["169.254.1.1"]}}}]}}`,
		},
		{"the network_mode comes first", `"networks": ["a", "b"], "hostconfig": {"network_mode": "b"}`, `{"create": {"HostConfig": {"NetworkMode": "b"}, "NetworkingConfig": {"EndpointsConfig": {"b": {}}}}, "after": {"networks": [{"network": "a", "config": {}}]}}`},
		{"another network_mode comes first too", `"networks": ["a"], "hostconfig": {"network_mode": "bridge"}`, `{"create": {"HostConfig": {"NetworkMode": "bridge"}, "NetworkingConfig": {"EndpointsConfig": {"bridge": {}}}}, "after": {"networks": [{"network": "a", "config": {}}]}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, problems := convert(t, `{"image": "alpine:3", `+c.fields+`}`)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			base := value(t, `{"create": {"Image": "alpine:3", "HostConfig": {"Init": true}}, "pull": {"image": "alpine:3", "policy": "missing"}}`)
			want := field.Merge(base, value(t, c.want))
			if diff := cmp.Diff(pretty(want), pretty(planValue(p))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestHostConfig gives each key of hostconfig in docker-py's spelling and form, and in the API's.
func TestHostConfig(t *testing.T) {
	cases := []struct{ name, given, native string }{
		{"mem_limit", `"16g"`, `17179869184`},
		{"mem_limit", `"1.5G"`, `1610612736`},
		{"mem_limit", `512`, `512`},
		{"memswap_limit", `-1`, `-1`},
		{"memswap_limit", `"2gb"`, `2147483648`},
		{"mem_reservation", `"64m"`, `67108864`},
		{"mem_swappiness", `0`, `0`},
		{"kernel_memory", `"64m"`, `67108864`},
		{"oom_kill_disable", `true`, `true`},
		{"oom_score_adj", `-500`, `-500`},
		{"shm_size", `"1g"`, `1073741824`},
		{"cpu_shares", `512`, `512`},
		{"cpu_period", `50000`, `50000`},
		{"cpu_period", `"100ms"`, `100000`},
		{"cpu_quota", `25000`, `25000`},
		{"cpu_quota", `-1`, `-1`},
		{"nano_cpus", `1500000000`, `1500000000`},
		{"cpuset_cpus", `"0-2,4"`, `"0-2,4"`},
		{"cpuset_mems", `"0"`, `"0"`},
		{"cpu_rt_period", `1000000`, `1000000`},
		{"cpu_rt_runtime", `"950ms"`, `950000`},
		{"cpu_count", `2`, `2`},
		{"cpu_percent", `50`, `50`},
		{"pids_limit", `1024`, `1024`},
		{"pids_limit", `-1`, `-1`},
		{"ulimits", `[{"name": "nofile", "soft": 1024, "hard": 4096}, {"Name": "core", "Soft": 0, "Hard": -1}]`, `[{"Name": "nofile", "Soft": 1024, "Hard": 4096}, {"Name": "core", "Soft": 0, "Hard": -1}]`},
		{"init", `false`, `false`},
		{"blkio_weight", `300`, `300`},
		{"blkio_weight_device", `[{"Path": "/dev/sda", "Weight": 200}]`, `[{"Path": "/dev/sda", "Weight": 200}]`},
		{"device_read_bps", `[{"Path": "/dev/sda", "Rate": "10m"}]`, `[{"Path": "/dev/sda", "Rate": 10485760}]`},
		{"device_write_bps", `[{"Path": "/dev/sda", "Rate": 1000}]`, `[{"Path": "/dev/sda", "Rate": 1000}]`},
		{"device_read_iops", `[{"Path": "/dev/sda", "Rate": 10}]`, `[{"Path": "/dev/sda", "Rate": 10}]`},
		{"device_write_iops", `[{"path": "/dev/sda", "rate": 10}]`, `[{"Path": "/dev/sda", "Rate": 10}]`},
		{"io_maximum_iops", `10`, `10`},
		{"io_maximum_bandwidth", `"1m"`, `1048576`},
		{"binds", `["/a:/b", "v1:/c:rw", "/anon"]`, `["/a:/b", "v1:/c:rw", "/anon"]`},
		{"binds", `{"/a": {"bind": "/b", "mode": "ro"}, "/c": {"bind": "/d", "ro": true}, "/e": {"bind": "/f"}, "v1": "/g"}`, `["/a:/b:ro", "/c:/d:ro", "/e:/f", "v1:/g"]`},
		{
			"mounts", `[{"type": "bind", "source": "/a/../b", "target": "/c/", "read_only": true, "bind_options": {"propagation": "rslave"}}, {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"size": "1m", "mode": 511}}, {"type": "volume", "target": "/v", "volume_options": {"no_copy": true, "driver_config": {"name": "local", "options": {"o": "bind"}}, "labels": {"a": "b"}, "subpath": "x/y"}}, {"type": "image", "source": "alpine", "target": "/i"}]`,
			`[{"Type": "bind", "Source": "/b", "Target": "/c", "ReadOnly": true, "BindOptions": {"Propagation": "rslave"}}, {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1048576, "Mode": 511}}, {"Type": "volume", "Target": "/v", "VolumeOptions": {"NoCopy": true, "DriverConfig": {"Name": "local", "Options": {"o": "bind"}}, "Labels": {"a": "b"}, "Subpath": "x/y"}}, {"Type": "image", "Source": "alpine", "Target": "/i"}]`,
		},
		{"tmpfs", `{"/tmp": "size=1m", "/run/": null}`, `{"/tmp": "size=1m", "/run": ""}`},
		{"tmpfs", `["/tmp:size=1m,mode=1777", "/run"]`, `{"/tmp": "size=1m,mode=1777", "/run": ""}`},
		{"volumes_from", `"a, b:ro"`, `["a", "b:ro"]`},
		{"volumes_from", `["a"]`, `["a"]`},
		{"volume_driver", `"local"`, `"local"`},
		{"storage_opt", `{"size": "20G"}`, `{"size": "20G"}`},
		{"read_only", `true`, `true`},
		{"network_mode", `"container:db"`, `"container:db"`},
		{"publish_all_ports", `true`, `true`},
		{"links", `{"b": "y", "a": "x"}`, `["a:x", "b:y"]`},
		{"links", `["a:x"]`, `["a:x"]`},
		{"dns", `["10.0.0.1", "FD00::1"]`, `["10.0.0.1", "fd00::1"]`},
		{"dns_search", `["corp"]`, `["corp"]`},
		{"dns_opt", `["ndots:2"]`, `["ndots:2"]`},
		{"extra_hosts", `{"db": "10.0.0.5", "gw": "host-gateway", "six": "fd00::1"}`, `["db:10.0.0.5", "gw:host-gateway", "six:fd00::1"]`},
		{"extra_hosts", `["six:[FD00::1]"]`, `["six:fd00::1"]`},
		{"privileged", `true`, `true`},
		{"cap_add", `["net_admin", "CAP_NET_ADMIN", "CHOWN"]`, `["CAP_CHOWN", "CAP_NET_ADMIN"]`},
		{"cap_drop", `["all"]`, `["ALL"]`},
		{"security_opt", `["no-new-privileges"]`, `["no-new-privileges"]`},
		{"devices", `["/dev/fuse", "/dev/a:/dev/b:r", {"PathOnHost": "/dev/kvm"}]`, `[{"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rwm"}, {"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"}, {"PathOnHost": "/dev/kvm", "PathInContainer": "/dev/kvm", "CgroupPermissions": "rwm"}]`},
		{"device_cgroup_rules", `["c 13:* rwm"]`, `["c 13:* rwm"]`},
		{"device_requests", `[{"driver": "nvidia", "count": -1, "capabilities": [["gpu"]], "device_ids": [0], "options": {"a": "b"}}]`, `[{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]], "DeviceIDs": ["0"], "Options": {"a": "b"}}]`},
		{"group_add", `["docker", 999]`, `["docker", "999"]`},
		{"pid_mode", `"host"`, `"host"`},
		{"ipc_mode", `"shareable"`, `"shareable"`},
		{"uts_mode", `"host"`, `"host"`},
		{"userns_mode", `"host"`, `"host"`},
		{"cgroupns", `"private"`, `"private"`},
		{"cgroup", `"container:x"`, `"container:x"`},
		{"cgroup_parent", `"/ci"`, `"/ci"`},
		{"sysctls", `{"net.core.somaxconn": 1024}`, `{"net.core.somaxconn": "1024"}`},
		{"masked_paths", `[]`, `[]`},
		{"readonly_paths", `["/proc/sys"]`, `["/proc/sys"]`},
		{"runtime", `"runc"`, `"runc"`},
		{"isolation", `"process"`, `"process"`},
		{"log_config", `{"type": "json-file", "config": {"max-size": "10m", "max-file": 3}}`, `{"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}`},
		{"restart_policy", `{"Name": "on-failure", "MaximumRetryCount": 3}`, `{"Name": "on-failure", "MaximumRetryCount": 3}`},
		{"auto_remove", `true`, `true`},
		{"annotations", `{"a": "b"}`, `{"a": "b"}`},
	}
	covered := map[string]bool{}
	for _, c := range cases {
		f, ok := hostConfigTable.Lookup(c.name)
		if !ok {
			t.Fatalf("no row %s", c.name)
		}
		covered[c.name] = true
		for _, spelling := range append([]string{f.Name}, f.Aliases...) {
			t.Run(spelling+"="+c.given, func(t *testing.T) {
				p, problems := convert(t, `{"image": "alpine:3", "hostconfig": {"`+spelling+`": `+c.given+`}}`)
				if len(problems) > 0 {
					t.Fatal(problems)
				}
				got := p.Create["HostConfig"].(field.Object)
				key := hostNative[f.Name]
				if diff := cmp.Diff(pretty(value(t, c.native)), pretty(got[key])); diff != "" {
					t.Errorf("HostConfig.%s: %s", key, diff)
				}
				if want := 2 - map[bool]int{true: 1}[key == "Init"]; len(got) != want {
					t.Errorf("HostConfig has more than was given: %s", pretty(got))
				}
				// What is sent is what the engine's own types read.
				p.Create["name"] = field.String("x")
				var c createBody
				if err := decodeStrict(p.Create, &c, nil); err != nil {
					t.Error(err)
				}
			})
		}
	}
	for _, f := range hostConfigTable.Fields {
		if f.Retired == "" && !covered[f.Name] && f.Name != "port_bindings" {
			t.Errorf("no case for %s", f.Name)
		}
	}
}

func TestPortBindings(t *testing.T) {
	for _, c := range []struct{ given, want string }{
		{`{"2222/tcp": 1234}`, `{"2222/tcp": [{"HostPort": "1234"}]}`},
		{`{"2222": null}`, `{"2222/tcp": [{"HostPort": ""}]}`},
		{`{"53/UDP": "53"}`, `{"53/udp": [{"HostPort": "53"}]}`},
		{`{"1": "127.0.0.1:1234"}`, `{"1/tcp": [{"HostIp": "127.0.0.1", "HostPort": "1234"}]}`},
		{`{"1": "[::1]:1234"}`, `{"1/tcp": [{"HostIp": "::1", "HostPort": "1234"}]}`},
		{`{"1": "127.0.0.1:"}`, `{"1/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}`},
		{`{"1": ["127.0.0.1", 1234]}`, `{"1/tcp": [{"HostIp": "127.0.0.1", "HostPort": "1234"}]}`},
		{`{"1": ["127.0.0.1"]}`, `{"1/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}`},
		{`{"1": [1234, "127.0.0.1:99", ["::1", 7], {"HostPort": 8, "HostIp": "0.0.0.0"}]}`, `{"1/tcp": [{"HostPort": "1234"}, {"HostIp": "127.0.0.1", "HostPort": "99"}, {"HostIp": "::1", "HostPort": "7"}, {"HostIp": "0.0.0.0", "HostPort": "8"}]}`},
		{`{"1": "8000-8010"}`, `{"1/tcp": [{"HostPort": "8000-8010"}]}`},
	} {
		t.Run(c.given, func(t *testing.T) {
			p, problems := convert(t, `{"image": "alpine:3", "hostconfig": {"port_bindings": `+c.given+`}}`)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			host := p.Create["HostConfig"].(field.Object)
			if diff := cmp.Diff(pretty(value(t, c.want)), pretty(host["PortBindings"])); diff != "" {
				t.Error(diff)
			}
			exposed := p.Create["ExposedPorts"].(field.Object)
			for port := range host["PortBindings"].(field.Object) {
				if exposed[port] == nil {
					t.Errorf("%s is published and not exposed", port)
				}
			}
		})
	}
}

// TestMistakes holds each mistake to its message.
func TestMistakes(t *testing.T) {
	for _, c := range []struct{ fields, path, want string }{
		{`{}`, "", `one of image, dockerfile and custom_context is required`},
		{`{"custom_context": true}`, "custom_context", `dockerfile is the path of a context tarball; it is missing`},
		{`{"custom_context": "../up"}`, "custom_context", `"../up" is not below the definition's folder`},
		{`{"custom_context": true, "dockerfile": "/etc/x.tar"}`, "dockerfile", `"/etc/x.tar" is not below the definition's folder`},
		{`{"image": "a@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "dockerfile": "FROM x"}`, "image", `has a digest`},
		{`{"image": "registry.corp/CI/w"}`, "image", `"registry.corp/CI/w" has upper-case letters in its name`},
		{`{"image": "https://registry.corp/w"}`, "image", `has a scheme`},
		{`{"image": "alpine "}`, "image", `"alpine " holds a blank`},
		{`{"image": ""}`, "image", `the image is empty`},
		{`{"image": "latent-engine.local/web/x:1"}`, "image", `images under latent-engine.local are those that the engine builds itself`},
		{`{"image": "a", "command": "sh -c 'x"}`, "command", `a quotation is not closed`},
		{`{"image": "a", "env": {"A=B": "x"}}`, "env[\"A=B\"]", `"A=B" is not a name for an environment variable`},
		{`{"image": "a", "env": {"": "x"}}`, "env[\"\"]", `"" is not a name for an environment variable`},
		{`{"image": "a", "env": {"A": "x\u0000"}}`, "env.A", `a NUL byte cannot stand here`},
		{`{"image": "a", "hostname": "a b"}`, "hostname", `"a b" is not a host name`},
		{`{"image": "a", "hostname": {"$secret": "s"}}`, "hostname", `a secret cannot stand here`},
		{`{"image": "a", "user": ":1000"}`, "user", `":1000" is not a user or user:group`},
		{`{"image": "a", "working_dir": "build"}`, "working_dir", `"build" is not an absolute path`},
		{`{"image": "a", "ports": ["x"]}`, "ports[0]", `"x" is not a port`},
		{`{"image": "a", "platform": "linux/a/b/c"}`, "platform", `is not a platform`},
		{`{"image": "a", "master_protocol": "msgpack"}`, "master_protocol", `"msgpack" is not one of pb, msgpack_experimental_v7`},
		{`{"image": "a", "masterFQDN": "ci:port"}`, "masterFQDN", `no port between 1 and 65535`},
		{`{"image": "a", "password": "a\nb"}`, "password", `neither a line break nor a NUL byte`},
		{`{"image": "a", "encoding": "zip"}`, "encoding", `"zip" is not one of gzip, bzip2, bzip`},
		{`{"image": "a", "docker_host": "x"}`, "docker_host", `the worker chooses one with backend:`},
		{`{"image": "a", "version": "1.41"}`, "version", `backends.NAME.docker.version`},
		{`{"image": "a", "tls": true}`, "tls", `backends.NAME.docker.tls`},
		{`{"image": "a", "networks": ["host"]}`, "networks[0]", `not a network to join but a mode`},
		{`{"image": "a", "networks": ["x", "x"]}`, "networks[1]", `"x" is given twice`},
		{`{"image": "a", "networks": ["x"], "hostconfig": {"network_mode": "host"}}`, "networks", `joins no networks`},
		{`{"image": "a", "networks": {"x": {"ipv4_address": "fd00::1"}}}`, "networks.x.ipv4_address", `is not an IPv4 address`},
		{`{"image": "a", "volumes": ["/x:/c"], "hostconfig": {"binds": ["/y:/c/:ro"]}}`, "hostconfig.binds[0]", `"/c" is mounted twice: also by volumes[0]`},
		{`{"image": "a", "volumes": ["/x:/c"], "hostconfig": {"tmpfs": ["/c"]}}`, "hostconfig.tmpfs[\"/c\"]", `"/c" is mounted twice`},
		{`{"image": "a", "volumes": ["/x:/c"], "hostconfig": {"mounts": [{"Type": "volume", "Target": "/c"}]}}`, "hostconfig.mounts[0]", `"/c" is mounted twice`},
		{`{"image": "a", "volumes": ["/data"]}`, "volumes[0]", `has no source`},
		{`{"image": "a", "volumes": ["~/x:/x"]}`, "volumes[0]", `(~ and $ are not expanded)`},
		{`{"image": "a", "volumes": ["/a:/b:ro,rw"]}`, "volumes[0]", `"ro" and "rw" cannot stand together`},
		{`{"image": "a", "volumes": ["/a:/b:x"]}`, "volumes[0]", `"x" is not an option of a bind`},
		{`{"image": "a", "volumes": ["/a:/"]}`, "volumes[0]", `cannot be the root`},
		{`{"image": "a", "hostconfig": {"mem_limit": [1]}}`, "hostconfig.mem_limit", `a list cannot fill a size`},
		{`{"image": "a", "hostconfig": {"mem_limit": "1g", "Memory": 5}}`, "hostconfig.mem_limit", `two spellings of one field`},
		{`{"image": "a", "hostconfig": {"mem_limt": 1}}`, "hostconfig.mem_limt", `unknown field "mem_limt"`},
		{`{"image": "a", "hostconfig": {"lxc_conf": {}}}`, "hostconfig.lxc_conf", `today's Engine API has no such field`},
		{`{"image": "a", "hostconfig": {"InitPath": "x"}}`, "hostconfig.InitPath", `today's Engine API has no such field`},
		{`{"image": "a", "hostconfig": {"cap_add": ["NET ADMIN"]}}`, "hostconfig.cap_add[0]", `"NET ADMIN" is not a capability`},
		{`{"image": "a", "hostconfig": {"devices": ["fuse"]}}`, "hostconfig.devices[0]", `"fuse" is not the path of a device`},
		{`{"image": "a", "hostconfig": {"port_bindings": {"x": 1}}}`, "hostconfig.port_bindings.x", `"x" is not a port`},
		{`{"image": "a", "hostconfig": {"port_bindings": {"1": "a:b"}}}`, "hostconfig.port_bindings.1", `"b" is not a port`},
		{`{"image": "a", "hostconfig": {"port_bindings": {"1": 1, "1/tcp": 2}}}`, "hostconfig.port_bindings[\"1/tcp\"]", `port 1/tcp is given twice`},
		{`{"image": "a", "hostconfig": {"pid_mode": "private"}}`, "hostconfig.pid_mode", `"private" is not host or container:NAME`},
		{`{"image": "a", "hostconfig": {"restart_policy": {"Name": "always", "MaximumRetryCount": 1}}}`, "hostconfig.restart_policy", `goes with on-failure alone`},
		{`{"image": "a", "hostconfig": {"ulimits": [{"name": "nofile", "soft": 2, "hard": 1}]}}`, "hostconfig.ulimits[0]", `the soft limit 2 is above the hard limit 1`},
		{`{"image": "a", "hostconfig": {"ulimits": [{"name": "files", "soft": 1, "hard": 1}]}}`, "hostconfig.ulimits[0].name", `"files" is not one of core`},
		{`{"image": "a", "hostconfig": {"dns": ["ns1"]}}`, "hostconfig.dns[0]", `"ns1" is not an IP address`},
		{`{"image": "a", "hostconfig": {"extra_hosts": ["db=1.2.3.4"]}}`, "hostconfig.extra_hosts[0]", `is not a host and its address`},
		{`{"image": "a", "hostconfig": {"mounts": [{"Type": "tmpfs", "Target": "/x", "Source": "/y"}]}}`, "hostconfig.mounts[0]", `a tmpfs has no source`},
		{`{"image": "a", "hostconfig": {"mounts": [{"Type": "bind", "Target": "/x", "Source": "y"}]}}`, "hostconfig.mounts[0]", `a bind's source is an absolute path`},
		{`{"image": "a", "hostconfig": {"mounts": [{"Type": "bind", "Target": "/x", "Source": "/y", "TmpfsOptions": {}}]}}`, "hostconfig.mounts[0]", `TmpfsOptions goes with a mount of type tmpfs, not bind`},
		{`{"image": "a", "hostconfig": {"blkio_weight": 5}}`, "hostconfig.blkio_weight", `5 is not 0 (unset) or a weight`},
		{`{"image": "a", "hostconfig": {"device_cgroup_rules": ["c 1 rwm"]}}`, "hostconfig.device_cgroup_rules[0]", `is not a rule`},
		{`{"image": "a", "hostconfig": {"cpuset_cpus": "a"}}`, "hostconfig.cpuset_cpus", `is not a set`},
		{`{"image": "a", "stop_timeout": "500ms"}`, "stop_timeout", `not a multiple of 1s`},
		{`{"image": "a", "stop_timeout": 0}`, "stop_timeout", `less than the minimum 1`},
		{`{"image": "a", "healthcheck": {"test": ["echo"]}}`, "healthcheck.test", `a check is [CMD, program`},
	} {
		t.Run(c.fields, func(t *testing.T) {
			_, problems := convert(t, c.fields)
			for _, p := range problems {
				if p.Path == c.path && strings.Contains(p.Message, c.want) {
					return
				}
			}
			t.Errorf("want %s: …%s…; got %v", c.path, c.want, problems)
		})
	}
}

// TestImageAndBuild holds the rules of which image is pulled, built or kept.
func TestImageAndBuild(t *testing.T) {
	for _, c := range []struct{ name, tenant, fields, want string }{
		{"an image id is not pulled", "", `{"image": "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}`, `{"pull": {"image": "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "policy": "never"}, "image": "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}`},
		{"one image, one form", "", `{"image": "docker.io/library/alpine"}`, `{"pull": {"image": "alpine:latest", "policy": "missing"}, "image": "alpine:latest"}`},
		{"a Dockerfile alone", "", `{"dockerfile": "FROM x"}`, `{"build": {"dockerfile": "FROM x", "temporary": true, "when": "always"}}`},
		{"a Dockerfile and an image", "", `{"dockerfile": "FROM x", "image": "ci/w"}`, `{"build": {"dockerfile": "FROM x", "tag": "ci/w:latest", "when": "absent"}, "image": "ci/w:latest"}`},
		{"a tenant's", "web", `{"dockerfile": "FROM x", "image": "ci/w"}`, `{"build": {"dockerfile": "FROM x", "tag": "latent-engine.local/web/ci/w:latest", "when": "absent"}, "image": "latent-engine.local/web/ci/w:latest"}`},
		{"a tenant's with a port", "web", `{"dockerfile": "FROM x", "image": "r:5000/w:2"}`, `{"build": {"dockerfile": "FROM x", "tag": "latent-engine.local/web/r-5000--1770c6ef5b726e0f/w:2", "when": "absent"}, "image": "latent-engine.local/web/r-5000--1770c6ef5b726e0f/w:2"}`},
		{
			"Buildbot's custom_context", "", `{"dockerfile": "ctx.tar.gz", "custom_context": true, "encoding": "bzip", "buildargs": {"A": 1, "B": {"$secret": "b"}}, "target": "t", "alwaysPull": true, "platform": "linux/arm64"}`,
			`{"build": {"context": "ctx.tar.gz", "encoding": "bzip2", "buildargs": {"A": "1", "B": "***"}, "target": "t", "pull": true, "platform": "linux/arm64", "temporary": true, "when": "always"}}`,
		},
		{"a folder", "", `{"custom_context": "./docker/"}`, `{"build": {"context": "docker", "encoding": "gzip", "temporary": true, "when": "always"}}`},
		{"a folder and a Dockerfile", "", `{"custom_context": "d", "dockerfile": "FROM x"}`, `{"build": {"context": "d", "dockerfile": "FROM x", "encoding": "gzip", "temporary": true, "when": "always"}}`},
		{"custom_context: false", "", `{"custom_context": false, "image": "a"}`, `{"pull": {"image": "a:latest", "policy": "missing"}, "image": "a:latest"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, problems := convertFor(t, c.tenant, c.fields)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			got := planValue(p)
			delete(got, "create")
			if i := p.Create["Image"]; i != nil {
				got["image"] = i
			}
			if diff := cmp.Diff(pretty(value(t, c.want)), pretty(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestConnectionInPlan(t *testing.T) {
	connection := &field.Type{Kind: field.ObjectKind, Fields: connectionTable}
	settings, problems := connection.Coerce(value(t, `{"docker_host": "unix://run/d.sock", "advertise": "ci:9990", "tls": {"client_cert": ["c", "k"], "verify": "ca.pem", "assert_hostname": false}, "image_pull_grace": "2m", "version": "1.41"}`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := value(t, `{"docker_host": "unix:///run/d.sock", "advertise": "ci:9990", "tls": {"client_cert": {"cert": "c", "key": "k"}, "verify": "ca.pem", "assert_hostname": false}, "image_pull_grace": 120, "version": "1.41"}`)
	if !field.Equal(want, settings) {
		t.Error(cmp.Diff(pretty(want), pretty(settings)))
	}
	in := backends.ConvertInput{Target: "prod", Connection: settings.(field.Object), Fields: field.Object{"image": field.String("a:1")}}
	p, problems := Kind{}.Convert(in)
	if len(problems) > 0 || p.Endpoint != "unix:///run/d.sock" || p.Target != "prod" || p.Master != (spec.Master{Protocol: "pb"}) {
		t.Errorf("%+v %v", p, problems)
	}
	in.Fields = field.Object{"image": field.String("a:1"), "masterFQDN": field.String("own")}
	if p, _ = (Kind{}).Convert(in); p.Master.Host != "own" {
		t.Errorf("masterFQDN: %+v", p.Master)
	}
	if p, _ = (Kind{}).Convert(backends.ConvertInput{}); p.Endpoint != DefaultHost {
		t.Errorf("endpoint %q", p.Endpoint)
	}
	for given, want := range map[string]string{
		`{"docker_host": "tcp://h"}`:             `has no port`,
		`{"docker_host": "tcp://u:p@h:1"}`:       `cannot hold a credential`,
		`{"docker_host": "tcp://h:99999"}`:       `no port between`,
		`{"docker_host": "fd://x"}`:              `unknown scheme`,
		`{"docker_host": "docker"}`:              `is not an address`,
		`{"docker_host": "unix://"}`:             `has no path`,
		`{"version": "latest"}`:                  `is not an API version`,
		`{"tls": false}`:                         `leave it out`,
		`{"tls": {"client_cert": ["a"]}}`:        `at least 2`,
		`{"advertise": "a b"}`:                   `is not a host name`,
		`{"image_pull_grace": -1}`:               `less than the minimum`,
		`{"docker_config": ""}`:                  `at least 1`,
		`{"docker_hots": "unix:///x"}`:           `unknown field`,
		`{"tls": {"client_cert": {"cert":"c"}}}`: `"key" is missing`,
	} {
		_, problems := connection.Coerce(value(t, given))
		if len(problems) == 0 || !strings.Contains(problems[0].Message, want) {
			t.Errorf("%s: %v, want …%s…", given, problems, want)
		}
	}
	for given, want := range map[string]string{
		"ssh://ci@h:22": "ssh://ci@h:22", "h:2375": "tcp://h:2375", "http+unix:///x": "unix:///x", "npipe:////./pipe/docker_engine": "npipe:////./pipe/docker_engine",
		"tcp://[fd00::1]:2376": "tcp://[fd00::1]:2376", "https://h:1/x": "https://h:1/x",
	} {
		got, err := checkDockerHost(field.String(given))
		if err != nil || got != field.String(want) {
			t.Errorf("%s: %v, %v", given, got, err)
		}
	}
}

// TestPlans holds whole plans to golden files, bound as they would be sent, and reads them back.
func TestPlans(t *testing.T) {
	files, err := filepath.Glob("testdata/plans/*.json")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d golden files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var golden struct {
				Doc    string          `json:"doc"`
				Tenant string          `json:"tenant,omitempty"`
				Worker json.RawMessage `json:"worker"`
				Digest string          `json:"digest"`
				Bound  json.RawMessage `json:"bound"`
			}
			if err := json.Unmarshal(raw, &golden); err != nil {
				t.Fatal(err)
			}
			p, problems := convertFor(t, golden.Tenant, string(golden.Worker))
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			b, err := Kind{}.Bind(p, sampleIdentity(golden.Tenant))
			if err != nil {
				t.Fatal(err)
			}
			read := b
			if b.Build != nil && builtText(b.Build) == "" {
				// What SealBuild would put in.
				read.Build = maps.Clone(b.Build)
				read.Build["context_dockerfile"] = field.String("FROM a")
			}
			if _, err := (Kind{}).View(read); err != nil {
				t.Error(err)
			}
			got := pretty(planValue(b.Plan))
			var want bytes.Buffer
			if err := json.Indent(&want, golden.Bound, "", "  "); err != nil {
				want.WriteString("(nothing)")
			}
			if *update {
				golden.Bound, golden.Digest = json.RawMessage(got), b.Digest
				out, err := json.MarshalIndent(golden, "", "  ")
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, append(out, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want.String(), got); diff != "" {
				t.Error(diff)
			}
			if golden.Digest != b.Digest {
				t.Errorf("digest %s, want %s", b.Digest, golden.Digest)
			}
		})
	}
}

// benchmarkWorker is a worker with eight fields that a definition would render.
const benchmarkWorker = `{
  "image": "registry.corp/ci/linux:main", "command": ["buildbot-worker", "start", "--nodaemon"], "hostname": "linux-8",
  "env": {"JOBS": "8", "BRANCH": "main", "REV": "0123abcd", "TOKEN": {"$secret": "tok"}},
  "labels": {"build.example/branch": "main"}, "user": "1000:1000", "volumes": ["cache-main:/cache"],
  "hostconfig": {"mem_limit": "16g", "pids_limit": 1024, "cap_drop": ["ALL"], "nano_cpus": 8000000000}}`

func BenchmarkConvert(b *testing.B) {
	fields, problems := checkedFields(b, benchmarkWorker)
	if len(problems) > 0 {
		b.Fatal(problems)
	}
	in := backends.ConvertInput{Worker: "linux", Target: "local", Connection: field.Object{"docker_host": field.String(DefaultHost)}, Fields: fields}
	b.ReportAllocs()
	for b.Loop() {
		if _, problems := (Kind{}).Convert(in); len(problems) > 0 {
			b.Fatal(problems)
		}
	}
}

func BenchmarkConvertDigest(b *testing.B) {
	fields, problems := checkedFields(b, benchmarkWorker)
	if len(problems) > 0 {
		b.Fatal(problems)
	}
	in := backends.ConvertInput{Worker: "linux", Target: "local", Fields: fields}
	b.ReportAllocs()
	for b.Loop() {
		p, _ := Kind{}.Convert(in)
		spec.Digest(p)
	}
}

func BenchmarkCoerce(b *testing.B) {
	raw := value(b, benchmarkWorker)
	worker := &field.Type{Kind: field.ObjectKind, Fields: workerTable}
	b.ReportAllocs()
	for b.Loop() {
		if _, problems := worker.Coerce(raw); len(problems) > 0 {
			b.Fatal(problems)
		}
	}
}
