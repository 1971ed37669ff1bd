package docker

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/field"
)

// unmapped are the SDK's fields that no row leads to, with the reason.
var unmapped = map[string]string{
	"Config.AttachStdin":  "a worker has no terminal and no input",
	"Config.AttachStdout": "the log is read from the engine, not from an attached stream",
	"Config.AttachStderr": "the log is read from the engine, not from an attached stream",
	"Config.Tty":          "a worker has no terminal and no input",
	"Config.OpenStdin":    "a worker has no terminal and no input",
	"Config.StdinOnce":    "a worker has no terminal and no input",
	"Config.ArgsEscaped":  "set by images for Windows, not by who starts them",
	"Config.Volumes":      "volumes without a name are hostconfig.binds with a destination alone",
	"Config.MacAddress":   "deprecated since API 1.44: networks.NAME.mac_address",
	"Config.OnBuild":      "part of an image, no engine takes it at creation",
	"Config.Shell":        "read by builds alone",

	"HostConfig.ContainerIDFile": "a file of the client's machine",
	"HostConfig.ConsoleSize":     "a worker has no terminal",
	"HostConfig.KernelMemoryTCP": "retired: kernels no longer count it",

	"EndpointSettings.NetworkID":           "what an engine reports, not a setting",
	"EndpointSettings.EndpointID":          "what an engine reports, not a setting",
	"EndpointSettings.Gateway":             "what an engine reports, not a setting",
	"EndpointSettings.IPAddress":           "what an engine reports, not a setting",
	"EndpointSettings.IPPrefixLen":         "what an engine reports, not a setting",
	"EndpointSettings.IPv6Gateway":         "what an engine reports, not a setting",
	"EndpointSettings.GlobalIPv6Address":   "what an engine reports, not a setting",
	"EndpointSettings.GlobalIPv6PrefixLen": "what an engine reports, not a setting",
	"EndpointSettings.DNSNames":            "what an engine reports, not a setting",
}

// TestEveryFieldOfTheAPI walks the SDK's types: a field that a newer SDK adds fails here until somebody decides about it.
func TestEveryFieldOfTheAPI(t *testing.T) {
	natives := map[string]bool{}
	var collect func(table *field.Table)
	var visit func(ty *field.Type)
	visit = func(ty *field.Type) {
		if ty == nil {
			return
		}
		visit(ty.Elem)
		for _, o := range ty.Of {
			visit(o)
		}
		if ty.Fields != nil {
			collect(ty.Fields)
		}
	}
	collect = func(table *field.Table) {
		for _, f := range table.Fields {
			if f.Retired != "" {
				continue
			}
			for _, n := range natively(f.Native) {
				natives[n] = true
			}
			visit(f.Type)
		}
	}
	collect(workerTable)
	walked := map[string]bool{}
	for _, s := range []struct {
		name   string
		native string // how rows name the struct
		of     reflect.Type
	}{
		{"Config", "", reflect.TypeFor[container.Config]()},
		{"HealthConfig", "Healthcheck.", reflect.TypeFor[container.HealthConfig]()},
		{"HostConfig", "HostConfig.", reflect.TypeFor[container.HostConfig]()},
		{"Ulimit", "HostConfig.Ulimits[].", reflect.TypeFor[container.Ulimit]()},
		{"LogConfig", "HostConfig.LogConfig.", reflect.TypeFor[container.LogConfig]()},
		{"RestartPolicy", "HostConfig.RestartPolicy.", reflect.TypeFor[container.RestartPolicy]()},
		{"DeviceMapping", "HostConfig.Devices[].", reflect.TypeFor[container.DeviceMapping]()},
		{"DeviceRequest", "HostConfig.DeviceRequests[].", reflect.TypeFor[container.DeviceRequest]()},
		{"WeightDevice", "HostConfig.BlkioWeightDevice[].", reflect.TypeFor[container.Resources]().Field(fieldIndex(t, "BlkioWeightDevice")).Type.Elem().Elem()},
		{"ThrottleDevice", "HostConfig.BlkioDevice*Bps[].", reflect.TypeFor[container.Resources]().Field(fieldIndex(t, "BlkioDeviceReadBps")).Type.Elem().Elem()},
		{"PortBinding", "HostConfig.PortBindings.*[].", reflect.TypeFor[container.HostConfig]().Field(hostIndex(t, "PortBindings")).Type.Elem().Elem()},
		{"Mount", "HostConfig.Mounts[].", reflect.TypeFor[mount.Mount]()},
		{"BindOptions", "HostConfig.Mounts[].BindOptions.", reflect.TypeFor[mount.BindOptions]()},
		{"VolumeOptions", "HostConfig.Mounts[].VolumeOptions.", reflect.TypeFor[mount.VolumeOptions]()},
		{"Driver", "HostConfig.Mounts[].VolumeOptions.DriverConfig.", reflect.TypeFor[mount.Driver]()},
		{"ImageOptions", "HostConfig.Mounts[].ImageOptions.", reflect.TypeFor[mount.ImageOptions]()},
		{"TmpfsOptions", "HostConfig.Mounts[].TmpfsOptions.", reflect.TypeFor[mount.TmpfsOptions]()},
		{"ClusterOptions", "HostConfig.Mounts[].ClusterOptions.", reflect.TypeFor[mount.ClusterOptions]()},
		{"EndpointSettings", "NetworkingConfig.EndpointsConfig.*.", reflect.TypeFor[network.EndpointSettings]()},
		{"EndpointIPAMConfig", "NetworkingConfig.EndpointsConfig.*.IPAMConfig.", reflect.TypeFor[network.EndpointIPAMConfig]()},
	} {
		for _, f := range reflect.VisibleFields(s.of) {
			if f.Anonymous || !f.IsExported() {
				continue
			}
			key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if key == "" {
				key = f.Name
			}
			walked[s.name+"."+f.Name] = true
			reason := unmapped[s.name+"."+f.Name]
			if mapped := natives[s.native+key]; mapped == (reason != "") {
				t.Errorf("%s.%s (%s): mapped by a row: %v; reason for not: %q", s.name, f.Name, s.native+key, mapped, reason)
			}
		}
	}
	for name := range unmapped {
		if !walked[name] {
			t.Errorf("%s is listed, but the SDK has no such field", name)
		}
	}
	if len(walked) < 100 {
		t.Errorf("only %d fields walked", len(walked))
	}
}

// natively are the native paths that one row reaches.
func natively(native string) []string {
	out := []string{native}
	if native == "NetworkingConfig" {
		out = append(out, "NetworkingConfig.EndpointsConfig")
	}
	if i := strings.Index(native, ".IPAMConfig."); i >= 0 {
		out = append(out, native[:i+len(".IPAMConfig")])
	}
	return out
}

func fieldIndex(t *testing.T, name string) int {
	f, ok := reflect.TypeFor[container.Resources]().FieldByName(name)
	if !ok {
		t.Fatal(name)
	}
	return f.Index[0]
}

func hostIndex(t *testing.T, name string) int {
	f, ok := reflect.TypeFor[container.HostConfig]().FieldByName(name)
	if !ok {
		t.Fatal(name)
	}
	return f.Index[0]
}

// The keys of docker-py's create_host_config, in its own order.
const dockerPyHostConfig = `binds port_bindings lxc_conf publish_all_ports links privileged dns dns_search volumes_from
network_mode restart_policy cap_add cap_drop devices extra_hosts read_only pid_mode ipc_mode security_opt ulimits log_config
mem_limit memswap_limit mem_reservation kernel_memory mem_swappiness cgroup_parent group_add cpu_quota cpu_period
blkio_weight blkio_weight_device device_read_bps device_write_bps device_read_iops device_write_iops oom_kill_disable
shm_size sysctls tmpfs oom_score_adj dns_opt cpu_shares cpuset_cpus userns_mode uts_mode pids_limit isolation auto_remove
storage_opt init init_path volume_driver cpu_count cpu_percent nano_cpus cpuset_mems runtime mounts cpu_rt_period
cpu_rt_runtime device_cgroup_rules device_requests cgroupns`

// The options of DockerLatentWorker that belong to a definition.
const latentWorkerOptions = `docker_host password image command volumes dockerfile version tls followStartupLogs masterFQDN
master_protocol hostconfig autopull alwaysPull custom_context encoding target buildargs hostname`

func TestEveryOption(t *testing.T) {
	for table, names := range map[*field.Table]string{
		hostConfigTable: dockerPyHostConfig,
		workerTable:     latentWorkerOptions + " user entrypoint working_dir labels networks platform stop_timeout env",
		connectionTable: "docker_host version tls docker_config image_pull_grace advertise",
		tlsTable:        "client_cert ca_cert verify assert_hostname",
	} {
		for _, name := range strings.Fields(names) {
			if f, ok := table.Lookup(name); !ok || f.Name != name {
				t.Errorf("%s has no row %s", table.Name, name)
			}
		}
	}
	for _, name := range []string{"lxc_conf", "init_path"} {
		if f, _ := hostConfigTable.Lookup(name); f == nil || f.Retired == "" {
			t.Errorf("%s is not retired", name)
		}
	}
}

// TestRowsAreComplete holds every row, nested ones too, to what documents and policy read of it.
func TestRowsAreComplete(t *testing.T) {
	seen := map[*field.Table]bool{}
	classes := []field.PolicyClass{
		field.ClassPlain, field.ClassImage, field.ClassBuild, field.ClassResource, field.ClassNetwork, field.ClassMount,
		field.ClassPrivilege, field.ClassNamespace, field.ClassScheduling, field.ClassIdentity, field.ClassHost,
	}
	var table func(tb *field.Table)
	var visit func(ty *field.Type)
	visit = func(ty *field.Type) {
		if ty == nil {
			return
		}
		visit(ty.Elem)
		for _, o := range ty.Of {
			visit(o)
		}
		if ty.Fields != nil {
			table(ty.Fields)
		}
	}
	table = func(tb *field.Table) {
		if seen[tb] {
			return
		}
		seen[tb] = true
		for _, f := range tb.Fields {
			if f.Type == nil || f.Doc == "" || !slices.Contains(classes, f.Class) || f.Native == "" && f.Retired == "" {
				t.Errorf("%s: the row %s is not complete: %+v", tb.Name, f.Name, f)
			}
			if strings.HasSuffix(f.Retired, ".") || f.Retired == "" && !strings.HasSuffix(f.Doc, ".") {
				t.Errorf("%s: %s: documents end with a full stop, errors do not", tb.Name, f.Name)
			}
			visit(f.Type)
		}
	}
	table(workerTable)
	table(connectionTable)
	if len(seen) < 20 {
		t.Errorf("%d tables found", len(seen))
	}
}

func TestNew(t *testing.T) {
	var k backends.Kind = New()
	if k.Name() != "docker" || k.Worker() != workerTable || k.Connection() != connectionTable {
		t.Errorf("New() = %#v", k)
	}
}
