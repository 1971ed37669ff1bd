package docker

import (
	"time"

	"github.com/latent-engine/latent-engine/engine/field"
)

// DefaultHost is docker_host where a connection names none.
const DefaultHost = "unix:///var/run/docker.sock"

// DefaultImagePullGrace is image_pull_grace where a connection names none.
const DefaultImagePullGrace = 60 * time.Second

// connectionTable is backends.NAME.docker: how an engine is reached. It is the operator's alone.
var connectionTable = field.NewTable("docker connection",
	field.Field{
		Name: "docker_host", Type: checked(field.StringKind, checkDockerHost), Native: "connection.host", Literal: true, Class: field.ClassHost,
		Default: DefaultHost, Buildbot: "docker_host",
		Doc: "Address of the Docker Engine: unix:///path, tcp://host:port, http://, https://, ssh://user@host or npipe:////./pipe/name. Buildbot's renderable docker_host is the worker's backend: here.",
	},
	field.Field{
		Name: "version", Type: checked(field.StringKind, checkAPIVersion), Native: "connection.version", Literal: true, Class: field.ClassHost,
		Default: "auto", Buildbot: "version",
		Doc: `API version to speak, such as "1.41"; "auto" agrees on the highest that both sides know.`,
	},
	field.Field{
		Name: "tls", Type: field.OneOf("true or a map", checked(field.BoolKind, checkTLSFlag), field.ObjectOf(tlsTable)), Native: "connection.tls", Literal: true,
		Class: field.ClassHost, Buildbot: "tls",
		Doc: "TLS towards the engine, with the keys of docker-py's TLSConfig. true is TLS with the system's certificate authorities and no client certificate.",
	},
	field.Field{
		Name: "docker_config", Type: nonEmpty(), Native: "connection.config", Literal: true, Class: field.ClassHost, Default: "$DOCKER_CONFIG, else ~/.docker",
		Doc: "Folder of docker's own config.json: registry credentials and credential helpers are read from it.",
	},
	field.Field{
		Name: "image_pull_grace", Type: &field.Type{Kind: field.DurationKind, Unit: int64(time.Second), Min: bound(0), Max: bound(86400)}, Native: "connection.image_pull_grace",
		Literal: true, Class: field.ClassHost, Default: "60s",
		Doc: "How long a registry's hiccup (timeouts, 429, 5xx) is tried again before it is a failure of the start. Seconds or a duration.",
	},
	field.Field{
		Name: "advertise", Type: checked(field.StringKind, checkMaster), Native: "master", Literal: true, Class: field.ClassHost,
		Doc: "Address that workers of this backend dial, host or host:port, in place of the engine's own advertise. A worker's masterFQDN comes before it.",
	},
)

var tlsTable = field.NewTable("docker tls",
	field.Field{
		Name: "client_cert", Type: field.OneOf("a list of certificate file and key file, or a map with cert and key", &field.Type{Kind: field.ListKind, Elem: nonEmpty(), Min: bound(2), Max: bound(2), Check: clientCertFromList}, field.ObjectOf(clientCertTable)),
		Native: "connection.tls.client_cert", Literal: true, Class: field.ClassHost, Buildbot: "tls.client_cert",
		Doc: "The client's certificate and key: [certificate file, key file], or {cert, key}.",
	},
	field.Field{
		Name: "ca_cert", Type: nonEmpty(), Native: "connection.tls.ca_cert", Literal: true, Class: field.ClassHost, Buildbot: "tls.ca_cert",
		Default: "the system's", Doc: "File of certificate authorities that the engine's certificate is held against.",
	},
	field.Field{
		Name: "verify", Type: field.OneOf("a boolean or a file", field.Of(field.BoolKind), nonEmpty()), Native: "connection.tls.verify", Literal: true, Class: field.ClassHost,
		Buildbot: "tls.verify", Default: "true", Doc: "Whether the engine's certificate is verified; a file is the certificate authorities to verify it with, as ca_cert.",
	},
	field.Field{
		Name: "assert_hostname", Type: field.OneOf("false or a host name", field.Of(field.BoolKind), nonEmpty()), Native: "connection.tls.assert_hostname", Literal: true,
		Class: field.ClassHost, Buildbot: "tls.assert_hostname", Default: "docker_host's", Doc: "Name that the engine's certificate must be for; false does not look at the name.",
	},
)

var clientCertTable = field.NewTable("docker tls client_cert",
	field.Field{Name: "cert", Type: nonEmpty(), Native: "connection.tls.client_cert.cert", Literal: true, Required: true, Class: field.ClassHost, Doc: "Certificate file (PEM)."},
	field.Field{Name: "key", Type: nonEmpty(), Native: "connection.tls.client_cert.key", Literal: true, Required: true, Class: field.ClassHost, Doc: "Key file (PEM)."},
)

// workerTable is what a docker worker may say: DockerLatentWorker's options under their own names, and what the Engine
// API has beside them.
var workerTable = field.NewTable("docker worker",
	field.Field{
		Name: "image", Type: checked(field.StringKind, checkImage), Native: "Image", Class: field.ClassImage, Buildbot: "image",
		Doc: "Image to start: name, name:tag, name@digest, registry/name, or an image id. One of image, dockerfile and custom_context is required. With a dockerfile it is built only where it is absent.",
	},
	field.Field{
		Name: "dockerfile", Type: nonEmpty(), Native: "build.dockerfile", Class: field.ClassBuild, Buildbot: "dockerfile",
		Doc: "Text of a Dockerfile. With custom_context: true it is the path of a context tarball that holds the Dockerfile, as in Buildbot. Without image the built image is the instance's own, and goes with it.",
	},
	field.Field{
		Name: "custom_context", Type: field.OneOf("a boolean or a path", field.Of(field.BoolKind), nonEmpty()), Native: "build.context", Class: field.ClassBuild,
		Buildbot: "custom_context", Default: "false",
		Doc: "Build context: true (dockerfile is the path of a context tarball), or the path of a folder or tarball, below the definition's folder.",
	},
	field.Field{
		Name: "encoding", Type: checked(field.EnumKind, checkEncoding, "gzip", "bzip2", "bzip"), Native: "build.encoding", Class: field.ClassBuild, Buildbot: "encoding", Default: "gzip",
		Doc: "Compression of a context tarball: gzip, bzip2 (the manual's word bzip means the same).",
	},
	field.Field{
		Name: "buildargs", Type: &field.Type{Kind: field.MapKind, Elem: secretText(), ListForm: true, Check: checkBuildArgs}, Native: "build.buildargs", Class: field.ClassBuild, Buildbot: "buildargs",
		Doc: "Build arguments (ARG), with any build. Values may be secrets; mind that the engine keeps them in the image's history.",
	},
	field.Field{
		Name: "target", Type: checked(field.StringKind, checkTarget), Native: "build.target", Class: field.ClassBuild, Buildbot: "target",
		Doc: "Stage of the Dockerfile to build.",
	},
	field.Field{
		Name: "autopull", Type: field.Of(field.BoolKind), Native: "pull.policy", Class: field.ClassImage, Buildbot: "autopull", Default: "true",
		Doc: "Pull the image where it is absent. false: it must be on the engine. Buildbot's default is false.",
	},
	field.Field{
		Name: "alwaysPull", Type: field.Of(field.BoolKind), Native: "pull.policy", Class: field.ClassImage, Buildbot: "alwaysPull", Default: "false",
		Doc: "Pull the image at every start (with autopull). With a build: its base images anew.",
	},
	field.Field{
		Name: "platform", Type: checked(field.StringKind, checkPlatform), Native: "platform", Class: field.ClassImage,
		Doc: "Platform to pull, build and start for: os[/architecture[/variant]], such as linux/arm64.",
	},
	field.Field{
		Name: "command", Type: commandType(), Native: "Cmd", Class: field.ClassPlain, Buildbot: "command",
		Doc: "Command in place of the image's: a list, or a text that is split into words as a shell would.",
	},
	field.Field{
		Name: "entrypoint", Type: commandType(), Native: "Entrypoint", Class: field.ClassPlain,
		Doc: "Entry point in place of the image's: a list, or a text that is split into words as a shell would.",
	},
	field.Field{
		Name: "env", Aliases: []string{"environment"}, Type: &field.Type{Kind: field.MapKind, Elem: secretText(), ListForm: true, Check: checkEnv}, Native: "Env", Class: field.ClassPlain,
		Doc: "Environment variables, as a map or as a list of KEY=value. Values may be secrets. BUILDMASTER, BUILDMASTER_PORT, BUILDMASTER_PROTOCOL, WORKERNAME and WORKERPASS are the engine's.",
	},
	field.Field{
		Name: "hostname", Type: checked(field.StringKind, checkHostname), Native: "Hostname", Class: field.ClassPlain, Buildbot: "hostname", Default: "the container's short id",
		Doc: "Host name inside the container.",
	},
	field.Field{
		Name: "domainname", Type: checked(field.StringKind, checkHostname), Native: "Domainname", Class: field.ClassPlain,
		Doc: "NIS domain name inside the container.",
	},
	field.Field{
		Name: "user", Type: &field.Type{Kind: field.StringKind, ScalarText: true, Check: checkUser}, Native: "User", Class: field.ClassPrivilege, Default: "the image's",
		Doc: "User, or user:group, by name or number.",
	},
	field.Field{
		Name: "working_dir", Type: checked(field.StringKind, checkContainerPath), Native: "WorkingDir", Class: field.ClassPlain, Default: "the image's",
		Doc: "Working directory of the command, absolute.",
	},
	field.Field{
		Name: "labels", Type: &field.Type{Kind: field.MapKind, Elem: scalarText(), ListForm: true, Check: checkLabelKeys}, Native: "Labels", Class: field.ClassIdentity,
		Doc: "Labels of the container, as a map or as a list of key=value. Keys under latent-engine.io/ are the engine's.",
	},
	field.Field{
		Name: "ports", Type: field.ListOf(&field.Type{Kind: field.StringKind, ScalarText: true, Check: checkPort, Words: `a port (such as 2222 or "2222/udp")`}), Native: "ExposedPorts", Class: field.ClassNetwork,
		Doc: "Ports that the container exposes to its networks. Those of hostconfig.port_bindings need not be repeated.",
	},
	field.Field{
		Name: "stop_signal", Type: checked(field.StringKind, checkSignal), Native: "StopSignal", Class: field.ClassPlain, Default: "the image's, else SIGTERM",
		Doc: "Signal that asks the container to end.",
	},
	field.Field{
		Name: "stop_timeout", Type: &field.Type{Kind: field.DurationKind, Unit: int64(time.Second), Min: bound(1), Max: bound(86400)}, Native: "StopTimeout", Class: field.ClassPlain, Default: "10s",
		Doc: "How long the container may take to end before it is killed. Seconds or a duration, at least one second; stop_signal: SIGKILL does not ask.",
	},
	field.Field{
		Name: "healthcheck", Type: field.ObjectOf(healthcheckTable), Native: "Healthcheck", Class: field.ClassPlain, Default: "the image's",
		Doc: "Health check, as docker-py's Healthcheck.",
	},
	field.Field{
		Name: "network_disabled", Type: field.Of(field.BoolKind), Native: "NetworkDisabled", Class: field.ClassNetwork, Default: "false",
		Doc: "No network at all.",
	},
	field.Field{
		Name: "networks", Type: field.OneOf("a list of network names, or a map of them", &field.Type{Kind: field.ListKind, Elem: checked(field.StringKind, checkNetworkName), Check: uniqueStrings}, &field.Type{Kind: field.MapKind, Elem: nullable(field.ObjectOf(endpointTable)), Check: checkNetworkMap}),
		Native: "NetworkingConfig", Class: field.ClassNetwork, Default: "hostconfig.network_mode's",
		Doc: "Networks to join: a list of names, or name → settings. The first (of a map: hostconfig.network_mode's, else the first by name) is the container's network_mode.",
	},
	field.Field{
		Name: "volumes", Type: field.OneOf("a list of source:destination[:options], or one", &field.Type{Kind: field.StringKind, Check: checkVolume}, &field.Type{Kind: field.ListKind, Elem: &field.Type{Kind: field.StringKind, Check: checkVolumeText}}),
		Native: "HostConfig.Binds", Class: field.ClassMount, Buildbot: "volumes",
		Doc: "Volumes and host paths: source:destination[:options], with ro, rw, z, Z, nocopy, a propagation or a consistency as options. Put together with hostconfig.binds; one destination twice is an error.",
	},
	field.Field{
		Name: "hostconfig", Type: field.ObjectOf(hostConfigTable), Native: "HostConfig", Class: field.ClassHost, Buildbot: "hostconfig",
		Doc: "The Engine API's HostConfig, with docker-py's names (mem_limit) or the API's own (Memory).",
	},
	field.Field{
		Name: "followStartupLogs", Type: field.Of(field.BoolKind), Native: "after.follow_startup_logs", Class: field.ClassPlain, Buildbot: "followStartupLogs", Default: "false",
		Doc: "Show the container's log from its start until the worker is connected.",
	},
	field.Field{
		Name: "masterFQDN", Type: checked(field.StringKind, checkMaster), Native: "master", Class: field.ClassIdentity, Buildbot: "masterFQDN", Default: "the backend's, else the engine's advertise",
		Doc: "Address that the worker dials: host, host:port, or an IPv6 address (in brackets where a port follows). Becomes BUILDMASTER and BUILDMASTER_PORT.",
	},
	field.Field{
		Name: "master_protocol", Type: field.EnumOf("pb", "msgpack_experimental_v7"), Native: "master.protocol", Class: field.ClassIdentity, Buildbot: "master_protocol", Default: "pb",
		Doc: "Protocol that the worker speaks with the master. Becomes BUILDMASTER_PROTOCOL.",
	},
	field.Field{
		Name: "password", Type: &field.Type{Kind: field.StringKind, Secret: true, Check: checkPassword}, Native: "password", Class: field.ClassIdentity, Buildbot: "password",
		Default: "made once for each instance", Doc: "The worker's password, becomes WORKERPASS. May be a secret.",
	},
	retired("docker_host", "the address stands in the file's backends: section; the worker chooses one with backend:, which may be an expression"),
	retired("version", "the API version is a connection setting: backends.NAME.docker.version"),
	retired("tls", "TLS is a connection setting: backends.NAME.docker.tls"),
)

// healthcheckTable has the API's names first, because docker-py's form is the API's with its keys in lower case.
var healthcheckTable = field.NewTable("docker healthcheck",
	field.Field{
		Name: "Test", Aliases: []string{"test"}, Type: field.OneOf("a command as text, or a list that starts with NONE, CMD or CMD-SHELL", &field.Type{Kind: field.StringKind, Check: healthTestFromText}, &field.Type{Kind: field.ListKind, Elem: field.Of(field.StringKind), Check: checkHealthTest}),
		Native: "Healthcheck.Test", Class: field.ClassPlain, Doc: "The check: a text for the container's shell, or [CMD, program, argument …], [CMD-SHELL, text], [NONE].",
	},
	nanoseconds("Interval", "interval", "Healthcheck.Interval", "Time between checks."),
	nanoseconds("Timeout", "timeout", "Healthcheck.Timeout", "Time after which a check counts as failed."),
	nanoseconds("StartPeriod", "start_period", "Healthcheck.StartPeriod", "Time after the start in which failures do not count."),
	nanoseconds("StartInterval", "start_interval", "Healthcheck.StartInterval", "Time between checks in the start period (API 1.44)."),
	field.Field{Name: "Retries", Aliases: []string{"retries"}, Type: atLeast(0), Native: "Healthcheck.Retries", Class: field.ClassPlain, Doc: "Failures in a row that make the container unhealthy."},
)

// endpointTable is docker-py's create_endpoint_config; the API's IPAMConfig is flat in it.
var endpointTable = field.NewTable("docker network",
	field.Field{Name: "aliases", Aliases: []string{"Aliases"}, Type: field.ListOf(checked(field.StringKind, checkHostname)), Native: "NetworkingConfig.EndpointsConfig.*.Aliases", Class: field.ClassNetwork, Doc: "Further names of the container in this network."},
	field.Field{Name: "links", Aliases: []string{"Links"}, Type: linksType(), Native: "NetworkingConfig.EndpointsConfig.*.Links", Class: field.ClassNetwork, Doc: "Links to other containers: {container: alias}, or a list of container:alias."},
	field.Field{Name: "ipv4_address", Aliases: []string{"IPv4Address"}, Type: checked(field.StringKind, checkIPv4), Native: "NetworkingConfig.EndpointsConfig.*.IPAMConfig.IPv4Address", Class: field.ClassNetwork, Doc: "Fixed IPv4 address in this network."},
	field.Field{Name: "ipv6_address", Aliases: []string{"IPv6Address"}, Type: checked(field.StringKind, checkIPv6), Native: "NetworkingConfig.EndpointsConfig.*.IPAMConfig.IPv6Address", Class: field.ClassNetwork, Doc: "Fixed IPv6 address in this network."},
	field.Field{Name: "link_local_ips", Aliases: []string{"LinkLocalIPs"}, Type: field.ListOf(checked(field.StringKind, checkIP)), Native: "NetworkingConfig.EndpointsConfig.*.IPAMConfig.LinkLocalIPs", Class: field.ClassNetwork, Doc: "Link-local addresses."},
	field.Field{Name: "mac_address", Aliases: []string{"MacAddress"}, Type: checked(field.StringKind, checkMAC), Native: "NetworkingConfig.EndpointsConfig.*.MacAddress", Class: field.ClassNetwork, Doc: "MAC address in this network (API 1.44)."},
	field.Field{Name: "driver_opt", Aliases: []string{"driver_opts", "DriverOpts"}, Type: optionMap(), Native: "NetworkingConfig.EndpointsConfig.*.DriverOpts", Class: field.ClassNetwork, Doc: "Options for the network's driver."},
	field.Field{Name: "gw_priority", Aliases: []string{"GwPriority"}, Type: field.Of(field.IntKind), Native: "NetworkingConfig.EndpointsConfig.*.GwPriority", Class: field.ClassNetwork, Doc: "The network with the highest gives the default gateway (API 1.48)."},
)

func checked(k field.Kind, check func(field.Value) (field.Value, error), values ...string) *field.Type {
	return &field.Type{Kind: k, Check: check, Values: values}
}

func bound(n int64) *int64 { return &n }

func atLeast(n int64) *field.Type { return &field.Type{Kind: field.IntKind, Min: &n} }

func between(low, high int64) *field.Type {
	return &field.Type{Kind: field.IntKind, Min: &low, Max: &high}
}

func nonEmpty() *field.Type {
	return &field.Type{Kind: field.StringKind, Min: bound(1), Check: checkNoNUL}
}

func nullable(t *field.Type) *field.Type {
	c := *t
	c.Nullable = true
	return &c
}

// scalarText is a string that may be written as a number or a boolean.
func scalarText() *field.Type {
	return &field.Type{Kind: field.StringKind, ScalarText: true, Check: checkNoNUL}
}

func secretText() *field.Type {
	return &field.Type{Kind: field.StringKind, ScalarText: true, Secret: true, Check: checkNoNUL}
}

func optionMap() *field.Type { return field.MapOf(scalarText()) }

func stringList() *field.Type { return field.ListOf(nonEmpty()) }

// commandType is a command: the text form becomes the list, so that a plan has one form alone.
func commandType() *field.Type {
	return field.OneOf("a list of strings, or a text", &field.Type{Kind: field.StringKind, Check: commandFromText}, field.ListOf(scalarText()))
}

func linksType() *field.Type {
	return field.OneOf("a map of container and alias, or a list of container:alias", &field.Type{Kind: field.ListKind, Elem: checked(field.StringKind, checkLink)}, &field.Type{Kind: field.MapKind, Elem: nonEmpty(), Check: linksFromMap})
}

// retired is a name that Buildbot or docker-py knows and that stands elsewhere, or nowhere, here.
func retired(name, text string) field.Field {
	return field.Field{Name: name, Retired: text, Type: &field.Type{}, Class: field.ClassPlain, Doc: "Not here: " + text + ".", Buildbot: name}
}

// nanoseconds is a time that the API counts in nanoseconds, as docker-py does; a text is a duration.
func nanoseconds(name, alias, native, doc string) field.Field {
	return field.Field{
		Name: name, Aliases: []string{alias}, Native: native, Class: field.ClassPlain, Doc: doc + " Nanoseconds, or a duration such as \"30s\".",
		Type: timeCount("nanoseconds, or a duration such as \"30s\"", time.Nanosecond, 0),
	}
}

// timeCount is an integer in the API's own unit, or a duration as text.
func timeCount(words string, unit time.Duration, low int64) *field.Type {
	return field.OneOf(words, atLeast(low), &field.Type{Kind: field.DurationKind, Unit: int64(unit), Min: bound(max(low, 0)), Words: words})
}
