package docker

import (
	"time"

	"github.com/latent-engine/latent-engine/engine/field"
)

// hostConfigTable is hostconfig: docker-py's create_host_config key for key, and what the Engine API has beside it. The
// tables of what is nested in it have the API's names first, because docker-py takes those maps as they are.
var hostConfigTable = field.NewTable("docker hostconfig",
	// Memory.
	host("mem_limit", "Memory", field.ClassResource, sizeNotNegative(), "", "Memory limit: bytes, or a size such as 512m (units b, k, m, g, t)."),
	host("memswap_limit", "MemorySwap", field.ClassResource, sizeOrUnlimited(), "twice mem_limit", "Memory and swap together; -1 = swap without limit."),
	host("mem_reservation", "MemoryReservation", field.ClassResource, sizeNotNegative(), "", "Soft memory limit."),
	host("mem_swappiness", "MemorySwappiness", field.ClassResource, between(-1, 100), "the engine's", "How readily memory is swapped out, 0 to 100."),
	host("kernel_memory", "KernelMemory", field.ClassResource, sizeNotNegative(), "", "Kernel memory limit; engines of API 1.42 and later ignore or refuse it."),
	host("oom_kill_disable", "OomKillDisable", field.ClassHost, field.Of(field.BoolKind), "false", "Do not kill processes of the container when its memory is used up."),
	host("oom_score_adj", "OomScoreAdj", field.ClassHost, between(-1000, 1000), "0", "How readily the kernel kills the container, -1000 to 1000."),
	host("shm_size", "ShmSize", field.ClassResource, sizeNotNegative(), "64m", "Size of /dev/shm."),
	// CPU.
	host("cpu_shares", "CpuShares", field.ClassResource, atLeast(0), "1024", "CPU weight relative to other containers."),
	host("cpu_period", "CpuPeriod", field.ClassResource, timeCount("microseconds, or a duration such as \"100ms\"", time.Microsecond, 0), "100000", "Length of a CPU period, in microseconds."),
	host("cpu_quota", "CpuQuota", field.ClassResource, timeCount("microseconds, or a duration such as \"50ms\"", time.Microsecond, -1), "", "CPU time in each period, in microseconds; -1 = no limit."),
	host("nano_cpus", "NanoCpus", field.ClassResource, atLeast(0), "", "CPU limit in billionths of a CPU: 1500000000 = 1.5 CPUs."),
	host("cpuset_cpus", "CpusetCpus", field.ClassResource, checked(field.StringKind, checkCPUSet), "all", "CPUs that may be used: 0-2 or 0,1."),
	host("cpuset_mems", "CpusetMems", field.ClassResource, checked(field.StringKind, checkCPUSet), "all", "Memory nodes that may be used: 0-2 or 0,1."),
	host("cpu_rt_period", "CpuRealtimePeriod", field.ClassResource, timeCount("microseconds, or a duration such as \"1s\"", time.Microsecond, 0), "", "Length of a real-time CPU period, in microseconds.", "CPURealtimePeriod"),
	host("cpu_rt_runtime", "CpuRealtimeRuntime", field.ClassResource, timeCount("microseconds, or a duration such as \"950ms\"", time.Microsecond, -1), "", "Real-time CPU time in each period, in microseconds.", "CPURealtimeRuntime"),
	host("cpu_count", "CpuCount", field.ClassResource, atLeast(0), "", "Number of CPUs (Windows)."),
	host("cpu_percent", "CpuPercent", field.ClassResource, between(0, 100), "", "Percentage of the CPUs (Windows)."),
	// Processes.
	host("pids_limit", "PidsLimit", field.ClassResource, atLeast(-1), "", "How many processes the container may have; -1 = no limit."),
	host("ulimits", "Ulimits", field.ClassResource, field.ListOf(&field.Type{Kind: field.ObjectKind, Fields: ulimitTable, Check: checkUlimit}), "the engine's", "Limits of the processes: [{name: nofile, soft: 1024, hard: 4096}]."),
	host("init", "Init", field.ClassPlain, field.Of(field.BoolKind), "true", "An init process that forwards signals and reaps children. As in Buildbot true unless given."),
	// Block I/O.
	host("blkio_weight", "BlkioWeight", field.ClassResource, checkedInt(0, 1000, checkBlkioWeight), "", "Weight of block I/O, 10 to 1000."),
	host("blkio_weight_device", "BlkioWeightDevice", field.ClassResource, field.ListOf(field.ObjectOf(weightDeviceTable)), "", "Weights for devices: [{Path: /dev/sda, Weight: 200}]."),
	host("device_read_bps", "BlkioDeviceReadBps", field.ClassResource, field.ListOf(field.ObjectOf(byteRateTable)), "", "Bytes read a second: [{Path: /dev/sda, Rate: 10m}]."),
	host("device_write_bps", "BlkioDeviceWriteBps", field.ClassResource, field.ListOf(field.ObjectOf(byteRateTable)), "", "Bytes written a second."),
	host("device_read_iops", "BlkioDeviceReadIOps", field.ClassResource, field.ListOf(field.ObjectOf(rateTable)), "", "Reads a second: [{Path: /dev/sda, Rate: 1000}]."),
	host("device_write_iops", "BlkioDeviceWriteIOps", field.ClassResource, field.ListOf(field.ObjectOf(rateTable)), "", "Writes a second."),
	hostAPI("io_maximum_iops", "IOMaximumIOps", field.ClassResource, atLeast(0), "", "Operations a second of the system drive (Windows)."),
	hostAPI("io_maximum_bandwidth", "IOMaximumBandwidth", field.ClassResource, sizeNotNegative(), "", "Bytes a second of the system drive (Windows)."),
	// Storage.
	host("binds", "Binds", field.ClassMount, field.OneOf("a list of source:destination[:options], or a map", &field.Type{Kind: field.ListKind, Elem: checked(field.StringKind, checkBind)}, &field.Type{Kind: field.MapKind, Elem: field.OneOf("a destination, or a map with bind and mode", nonEmpty(), field.ObjectOf(bindTable)), Check: bindsFromMap}), "", "Volumes and host paths, beside volumes: source:destination[:options], or docker-py's {source: {bind, mode}}."),
	host("mounts", "Mounts", field.ClassMount, field.ListOf(&field.Type{Kind: field.ObjectKind, Fields: mountTable, Check: checkMount}), "", "Mounts in the API's long form."),
	host("tmpfs", "Tmpfs", field.ClassMount, field.OneOf("a map of path and options, or a list of path[:options]", &field.Type{Kind: field.MapKind, Elem: nullable(scalarText()), Check: checkTmpfs}, &field.Type{Kind: field.ListKind, Elem: nonEmpty(), Check: tmpfsFromList}), "", "Memory file systems: {/tmp: \"size=512m\"}, or a list of path[:options]."),
	host("volumes_from", "VolumesFrom", field.ClassMount, field.OneOf("a list of containers, or a text with commas", &field.Type{Kind: field.StringKind, Min: bound(1), Check: listFromCommas}, stringList()), "", "Containers whose volumes are taken over: name[:ro|:rw]."),
	host("volume_driver", "VolumeDriver", field.ClassMount, nonEmpty(), "local", "Driver for volumes that are made on the way."),
	host("storage_opt", "StorageOpt", field.ClassHost, optionMap(), "", "Options of the storage driver, such as {size: 20G}."),
	host("read_only", "ReadonlyRootfs", field.ClassPlain, field.Of(field.BoolKind), "false", "The container's root file system is read-only."),
	// Network.
	host("network_mode", "NetworkMode", field.ClassNetwork, checked(field.StringKind, checkNetworkMode), "default", "bridge, none, host, container:NAME, or a network's name."),
	host("port_bindings", "PortBindings", field.ClassNetwork, portBindingsType(), "", "Published ports: {2222/tcp: 1234}, null for a free port, \"127.0.0.1:1234\", [127.0.0.1, 1234], or a list of those."),
	host("publish_all_ports", "PublishAllPorts", field.ClassNetwork, field.Of(field.BoolKind), "false", "Publish every exposed port on a free port of the host."),
	host("links", "Links", field.ClassNetwork, linksType(), "", "Links to other containers: {container: alias}, or a list of container:alias."),
	host("dns", "Dns", field.ClassNetwork, field.ListOf(checked(field.StringKind, checkIP)), "the engine's", "DNS servers."),
	host("dns_search", "DnsSearch", field.ClassNetwork, stringList(), "the engine's", "DNS search domains."),
	host("dns_opt", "DnsOptions", field.ClassNetwork, stringList(), "the engine's", "Options of the resolver."),
	host("extra_hosts", "ExtraHosts", field.ClassNetwork, field.OneOf("a map of host and address, or a list of host:address", &field.Type{Kind: field.ListKind, Elem: checked(field.StringKind, checkExtraHost)}, &field.Type{Kind: field.MapKind, Elem: nonEmpty(), Check: extraHostsFromMap}), "", "Further lines of /etc/hosts: {name: address}, or a list of name:address."),
	// Rights and namespaces.
	host("privileged", "Privileged", field.ClassPrivilege, field.Of(field.BoolKind), "false", "All rights of the host."),
	host("cap_add", "CapAdd", field.ClassPrivilege, capabilityList(), "", "Capabilities to add; written as the API does, NET_ADMIN and CAP_NET_ADMIN are one."),
	host("cap_drop", "CapDrop", field.ClassPrivilege, capabilityList(), "", "Capabilities to drop; ALL drops every one."),
	host("security_opt", "SecurityOpt", field.ClassPrivilege, stringList(), "", "Security options: no-new-privileges, seccomp=…, apparmor=…, label=…."),
	host("devices", "Devices", field.ClassPrivilege, field.ListOf(field.OneOf(`a device (such as "/dev/fuse:/dev/fuse:rwm", or a map)`, &field.Type{Kind: field.StringKind, Check: deviceFromText}, &field.Type{Kind: field.ObjectKind, Fields: deviceTable, Check: checkDevice})), "", "Devices of the host: /dev/x[:/dev/y[:rwm]], or {PathOnHost, PathInContainer, CgroupPermissions}."),
	host("device_cgroup_rules", "DeviceCgroupRules", field.ClassPrivilege, field.ListOf(checked(field.StringKind, checkDeviceRule)), "", "Rules for devices: \"c 13:* rwm\"."),
	host("device_requests", "DeviceRequests", field.ClassPrivilege, field.ListOf(field.ObjectOf(deviceRequestTable)), "", "Devices from a device driver, such as GPUs."),
	host("group_add", "GroupAdd", field.ClassPrivilege, field.ListOf(&field.Type{Kind: field.StringKind, ScalarText: true, Min: bound(1), Check: checkNoNUL}), "", "Further groups of the container's process."),
	host("pid_mode", "PidMode", field.ClassNamespace, checked(field.StringKind, namespaceCheck(false, "host")), "private", "host, or container:NAME."),
	host("ipc_mode", "IpcMode", field.ClassNamespace, checked(field.StringKind, namespaceCheck(false, "host", "none", "private", "shareable")), "the engine's", "none, private, shareable, host, or container:NAME."),
	host("uts_mode", "UTSMode", field.ClassNamespace, checked(field.StringKind, namespaceCheck(true, "host")), "private", "host shares the host's name."),
	host("userns_mode", "UsernsMode", field.ClassNamespace, checked(field.StringKind, namespaceCheck(true, "host")), "the engine's", "host switches the remapping of users off."),
	host("cgroupns", "CgroupnsMode", field.ClassNamespace, checked(field.StringKind, namespaceCheck(true, "host", "private")), "the engine's", "private or host."),
	hostAPI("cgroup", "Cgroup", field.ClassNamespace, checked(field.StringKind, namespaceCheck(false)), "", "container:NAME shares that container's cgroup."),
	host("cgroup_parent", "CgroupParent", field.ClassNamespace, nonEmpty(), "the engine's", "Parent cgroup."),
	host("sysctls", "Sysctls", field.ClassPrivilege, optionMap(), "", "Kernel parameters of the container's namespaces."),
	hostAPI("masked_paths", "MaskedPaths", field.ClassPrivilege, field.ListOf(checked(field.StringKind, checkContainerPath)), "the engine's", "Paths that are hidden; an empty list hides none."),
	hostAPI("readonly_paths", "ReadonlyPaths", field.ClassPrivilege, field.ListOf(checked(field.StringKind, checkContainerPath)), "the engine's", "Paths that are read-only; an empty list protects none."),
	// Behaviour of the engine.
	host("runtime", "Runtime", field.ClassHost, nonEmpty(), "the engine's", "OCI runtime."),
	host("isolation", "Isolation", field.ClassHost, field.EnumOf("default", "process", "hyperv"), "default", "Isolation (Windows)."),
	host("log_config", "LogConfig", field.ClassHost, field.ObjectOf(logConfigTable), "the engine's", "Log driver: {type: json-file, config: {max-size: 10m}}. `logs` needs one that can be read back."),
	host("restart_policy", "RestartPolicy", field.ClassHost, &field.Type{Kind: field.ObjectKind, Fields: restartTable, Check: checkRestart}, "no", "What happens when the container ends: {Name: on-failure, MaximumRetryCount: 3}."),
	host("auto_remove", "AutoRemove", field.ClassHost, field.Of(field.BoolKind), "false", "The engine removes the container when it ends; its exit code and log are lost then."),
	hostAPI("annotations", "Annotations", field.ClassHost, optionMap(), "", "Annotations for the OCI runtime (API 1.43)."),
	retiredHost("lxc_conf", "LxcConf", "today's Engine API has no such field: LXC is no longer a way to run containers"),
	retiredHost("init_path", "InitPath", "today's Engine API has no such field: the path of the init program is the engine's own setting (--init-path)"),
	retiredHost("kernel_memory_tcp", "KernelMemoryTCP", "today's Engine API has no such field: kernels no longer count TCP buffers by container"),
	retiredHost("version", "", "the API version is a connection setting: backends.NAME.docker.version"),
)

var ulimitTable = field.NewTable("docker ulimit",
	nested("Name", "name", "HostConfig.Ulimits[].Name", field.ClassResource, &field.Type{Kind: field.StringKind, Check: checkUlimitName}, true, "Which limit: nofile, nproc, core …."),
	nested("Soft", "soft", "HostConfig.Ulimits[].Soft", field.ClassResource, atLeast(-1), false, "Soft limit; -1 = none."),
	nested("Hard", "hard", "HostConfig.Ulimits[].Hard", field.ClassResource, atLeast(-1), false, "Hard limit; -1 = none."),
)

var logConfigTable = field.NewTable("docker log_config",
	nested("Type", "type", "HostConfig.LogConfig.Type", field.ClassHost, nonEmpty(), false, "Log driver."),
	nested("Config", "config", "HostConfig.LogConfig.Config", field.ClassHost, optionMap(), false, "Options of the log driver."),
)

var restartTable = field.NewTable("docker restart_policy",
	nested("Name", "name", "HostConfig.RestartPolicy.Name", field.ClassHost, field.EnumOf("no", "always", "on-failure", "unless-stopped"), false, "no, always, on-failure or unless-stopped."),
	nested("MaximumRetryCount", "maximum_retry_count", "HostConfig.RestartPolicy.MaximumRetryCount", field.ClassHost, atLeast(0), false, "How often, with on-failure."),
)

var deviceTable = field.NewTable("docker device",
	nested("PathOnHost", "path_on_host", "HostConfig.Devices[].PathOnHost", field.ClassPrivilege, nonEmpty(), true, "The device on the host."),
	nested("PathInContainer", "path_in_container", "HostConfig.Devices[].PathInContainer", field.ClassPrivilege, nonEmpty(), false, "Its path in the container."),
	nested("CgroupPermissions", "cgroup_permissions", "HostConfig.Devices[].CgroupPermissions", field.ClassPrivilege, checked(field.StringKind, checkDevicePermissions), false, "r, w, m, or several of them."),
)

var deviceRequestTable = field.NewTable("docker device_request",
	nested("Driver", "driver", "HostConfig.DeviceRequests[].Driver", field.ClassPrivilege, field.Of(field.StringKind), false, "Device driver."),
	nested("Count", "count", "HostConfig.DeviceRequests[].Count", field.ClassPrivilege, atLeast(-1), false, "How many; -1 = all."),
	nested("DeviceIDs", "device_ids", "HostConfig.DeviceRequests[].DeviceIDs", field.ClassPrivilege, field.ListOf(scalarText()), false, "Which ones."),
	nested("Capabilities", "capabilities", "HostConfig.DeviceRequests[].Capabilities", field.ClassPrivilege, field.ListOf(stringList()), false, "Lists of capabilities, one of which must be had: [[gpu]]."),
	nested("Options", "options", "HostConfig.DeviceRequests[].Options", field.ClassPrivilege, optionMap(), false, "Options of the device driver."),
)

var weightDeviceTable = field.NewTable("docker blkio weight",
	nested("Path", "path", "HostConfig.BlkioWeightDevice[].Path", field.ClassResource, nonEmpty(), true, "The device."),
	nested("Weight", "weight", "HostConfig.BlkioWeightDevice[].Weight", field.ClassResource, checkedInt(0, 1000, checkBlkioWeight), true, "Its weight, 10 to 1000."),
)

var byteRateTable = field.NewTable("docker blkio byte rate",
	nested("Path", "path", "HostConfig.BlkioDevice*Bps[].Path", field.ClassResource, nonEmpty(), true, "The device."),
	nested("Rate", "rate", "HostConfig.BlkioDevice*Bps[].Rate", field.ClassResource, sizeNotNegative(), true, "Bytes a second."),
)

var rateTable = field.NewTable("docker blkio rate",
	nested("Path", "path", "HostConfig.BlkioDevice*IOps[].Path", field.ClassResource, nonEmpty(), true, "The device."),
	nested("Rate", "rate", "HostConfig.BlkioDevice*IOps[].Rate", field.ClassResource, atLeast(0), true, "Operations a second."),
)

// bindTable is docker-py's {source: {bind, mode}}.
var bindTable = field.NewTable("docker bind",
	field.Field{Name: "bind", Type: nonEmpty(), Native: "HostConfig.Binds", Required: true, Class: field.ClassMount, Doc: "Destination in the container."},
	field.Field{Name: "mode", Type: field.Of(field.StringKind), Native: "HostConfig.Binds", Class: field.ClassMount, Default: "rw", Doc: "Options, as after the second colon of a bind."},
	field.Field{Name: "ro", Type: field.Of(field.BoolKind), Native: "HostConfig.Binds", Class: field.ClassMount, Default: "false", Doc: "Read-only; not together with mode."},
)

var mountTable = field.NewTable("docker mount",
	nested("Type", "type", "HostConfig.Mounts[].Type", field.ClassMount, field.EnumOf("bind", "volume", "tmpfs", "npipe", "cluster", "image"), true, "bind, volume, tmpfs, npipe, cluster or image."),
	nested("Source", "source", "HostConfig.Mounts[].Source", field.ClassMount, nonEmpty(), false, "Host path, volume name or image."),
	nested("Target", "target", "HostConfig.Mounts[].Target", field.ClassMount, checked(field.StringKind, checkMountTarget), true, "Destination in the container."),
	nested("ReadOnly", "read_only", "HostConfig.Mounts[].ReadOnly", field.ClassMount, field.Of(field.BoolKind), false, "Read-only."),
	nested("Consistency", "consistency", "HostConfig.Mounts[].Consistency", field.ClassMount, field.EnumOf("default", "consistent", "cached", "delegated"), false, "Consistency (Docker Desktop)."),
	nested("BindOptions", "bind_options", "HostConfig.Mounts[].BindOptions", field.ClassMount, field.ObjectOf(bindOptionsTable), false, "Options of a bind."),
	nested("VolumeOptions", "volume_options", "HostConfig.Mounts[].VolumeOptions", field.ClassMount, field.ObjectOf(volumeOptionsTable), false, "Options of a volume."),
	nested("ImageOptions", "image_options", "HostConfig.Mounts[].ImageOptions", field.ClassMount, field.ObjectOf(imageOptionsTable), false, "Options of an image (API 1.48)."),
	nested("TmpfsOptions", "tmpfs_options", "HostConfig.Mounts[].TmpfsOptions", field.ClassMount, field.ObjectOf(tmpfsOptionsTable), false, "Options of a tmpfs."),
	nested("ClusterOptions", "cluster_options", "HostConfig.Mounts[].ClusterOptions", field.ClassMount, field.ObjectOf(clusterOptionsTable), false, "Options of a cluster volume; there are none."),
)

var bindOptionsTable = field.NewTable("docker mount bind options",
	nested("Propagation", "propagation", "HostConfig.Mounts[].BindOptions.Propagation", field.ClassMount, field.EnumOf("private", "rprivate", "shared", "rshared", "slave", "rslave"), false, "Propagation of mounts."),
	nested("NonRecursive", "non_recursive", "HostConfig.Mounts[].BindOptions.NonRecursive", field.ClassMount, field.Of(field.BoolKind), false, "Without the mounts below."),
	nested("CreateMountpoint", "create_mountpoint", "HostConfig.Mounts[].BindOptions.CreateMountpoint", field.ClassMount, field.Of(field.BoolKind), false, "Make the host path where it is missing."),
	nested("ReadOnlyNonRecursive", "read_only_non_recursive", "HostConfig.Mounts[].BindOptions.ReadOnlyNonRecursive", field.ClassMount, field.Of(field.BoolKind), false, "Read-only, but not the mounts below."),
	nested("ReadOnlyForceRecursive", "read_only_force_recursive", "HostConfig.Mounts[].BindOptions.ReadOnlyForceRecursive", field.ClassMount, field.Of(field.BoolKind), false, "An error where the mounts below cannot be read-only."),
)

var volumeOptionsTable = field.NewTable("docker mount volume options",
	nested("NoCopy", "no_copy", "HostConfig.Mounts[].VolumeOptions.NoCopy", field.ClassMount, field.Of(field.BoolKind), false, "Do not fill a new volume from the image."),
	nested("Labels", "labels", "HostConfig.Mounts[].VolumeOptions.Labels", field.ClassMount, &field.Type{Kind: field.MapKind, Elem: scalarText(), ListForm: true, Check: checkLabelKeys}, false, "Labels of a new volume."),
	nested("Subpath", "subpath", "HostConfig.Mounts[].VolumeOptions.Subpath", field.ClassMount, checked(field.StringKind, checkSubpath), false, "Path inside the volume (API 1.45)."),
	nested("DriverConfig", "driver_config", "HostConfig.Mounts[].VolumeOptions.DriverConfig", field.ClassMount, field.ObjectOf(volumeConfigTable), false, "Driver of a new volume."),
)

var volumeConfigTable = field.NewTable("docker volume driver",
	nested("Name", "name", "HostConfig.Mounts[].VolumeOptions.DriverConfig.Name", field.ClassMount, nonEmpty(), false, "Name of the driver."),
	nested("Options", "options", "HostConfig.Mounts[].VolumeOptions.DriverConfig.Options", field.ClassMount, optionMap(), false, "Options of the driver."),
)

var imageOptionsTable = field.NewTable("docker mount image options",
	nested("Subpath", "subpath", "HostConfig.Mounts[].ImageOptions.Subpath", field.ClassMount, checked(field.StringKind, checkSubpath), false, "Path inside the image."),
)

var tmpfsOptionsTable = field.NewTable("docker mount tmpfs options",
	nested("SizeBytes", "size", "HostConfig.Mounts[].TmpfsOptions.SizeBytes", field.ClassMount, sizeNotNegative(), false, "Size."),
	nested("Mode", "mode", "HostConfig.Mounts[].TmpfsOptions.Mode", field.ClassMount, between(0, 0o7777), false, "Mode of the folder, as a number (0o1777)."),
	nested("Options", "options", "HostConfig.Mounts[].TmpfsOptions.Options", field.ClassMount, field.ListOf(&field.Type{Kind: field.ListKind, Elem: scalarText(), Min: bound(1), Max: bound(2)}), false, "Further options: [[noexec]] (API 1.46)."),
)

var clusterOptionsTable = field.NewTable("docker mount cluster options")

// host is a row of hostconfig that docker-py's create_host_config has too.
func host(name, api string, class field.PolicyClass, t *field.Type, def, doc string, aliases ...string) field.Field {
	f := hostAPI(name, api, class, t, def, doc)
	f.Aliases = append(f.Aliases, aliases...)
	f.Buildbot = "hostconfig." + name
	return f
}

// hostAPI is a row of hostconfig that only the Engine API has.
func hostAPI(name, api string, class field.PolicyClass, t *field.Type, def, doc string) field.Field {
	return field.Field{Name: name, Aliases: []string{api}, Type: t, Native: "HostConfig." + api, Class: class, Default: def, Doc: doc}
}

func retiredHost(name, api, text string) field.Field {
	f := retired(name, text)
	f.Buildbot = "hostconfig." + name
	if api != "" {
		f.Aliases = []string{api}
	}
	return f
}

// nested is a row whose canonical name is the API's.
func nested(name, alias, native string, class field.PolicyClass, t *field.Type, required bool, doc string) field.Field {
	return field.Field{Name: name, Aliases: []string{alias}, Type: t, Native: native, Class: class, Required: required, Doc: doc}
}

func sizeNotNegative() *field.Type { return &field.Type{Kind: field.SizeKind, Min: bound(0)} }

func sizeOrUnlimited() *field.Type {
	return &field.Type{Kind: field.SizeKind, Min: bound(-1), Words: `a size (string such as "2g", or bytes; -1 = no limit)`}
}

func checkedInt(low, high int64, check func(field.Value) (field.Value, error)) *field.Type {
	return &field.Type{Kind: field.IntKind, Min: &low, Max: &high, Check: check}
}

func capabilityList() *field.Type {
	return &field.Type{Kind: field.ListKind, Elem: nonEmpty(), Check: checkCapabilities}
}

// portBindingsType takes every form that docker-py takes; its Check leaves the API's alone.
func portBindingsType() *field.Type {
	const words = `a port, null, "address:port", [address, port], a map with HostIp and HostPort, or a list of those`
	one := func() []*field.Type {
		return []*field.Type{
			between(0, 65535), nonEmpty(), field.ObjectOf(portBindingTable),
		}
	}
	pair := field.ListOf(nullable(field.OneOf(words, between(0, 65535), field.Of(field.StringKind))))
	element := field.OneOf(words, append(one(), pair)...)
	return &field.Type{
		Kind: field.MapKind, Words: "a map of ports",
		Elem:  nullable(field.OneOf(words, append(one(), field.ListOf(nullable(element)))...)),
		Check: checkPortBindings,
	}
}

var portBindingTable = field.NewTable("docker port binding",
	nested("HostIp", "host_ip", "HostConfig.PortBindings.*[].HostIp", field.ClassNetwork, field.Of(field.StringKind), false, "Address of the host to listen on."),
	nested("HostPort", "host_port", "HostConfig.PortBindings.*[].HostPort", field.ClassNetwork, scalarText(), false, "Port of the host; empty = a free one."),
)
