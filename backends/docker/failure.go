package docker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"

	"github.com/latent-engine/latent-engine/backends"
)

// phrase maps what an engine, its builder or a registry says to a verdict, where the status alone does not tell. The first
// that fits counts. Recorded messages are its test (failure_test.go).
type phrase struct {
	text  string // lower case; every part between … must occur, in this order
	class backends.Class
	retry bool
	field string
	hint  string
}

// callPhrases are for create, start, connect, stop and remove.
var callPhrases = []phrase{
	{text: "client version …is too old", class: backends.ClassConfig, field: "version", hint: "leave version out: it is negotiated"},
	{text: "client version …is too new", class: backends.ClassConfig, field: "version", hint: "leave version out: it is negotiated"},
	{text: "maximum supported api version", class: backends.ClassConfig, field: "version", hint: "leave version out: it is negotiated"},
	{text: "client sent an http request to an https server", class: backends.ClassConfig, field: "tls", hint: "the engine speaks TLS alone: set tls"},
	{text: "no space left on device", class: backends.ClassCapacity, retry: true, hint: "free space where docker keeps its data"},
	{text: "cannot allocate memory", class: backends.ClassCapacity, retry: true},
	{text: "port is already allocated", class: backends.ClassCapacity, retry: true, field: "hostconfig.port_bindings", hint: "leave the host's port out and docker chooses a free one"},
	{text: "address already in use", class: backends.ClassCapacity, retry: true, field: "hostconfig.port_bindings", hint: "leave the host's port out and docker chooses a free one"},
	{text: "all predefined address pools have been fully subnetted", class: backends.ClassCapacity, retry: true},
	{text: "no available ipv4 addresses", class: backends.ClassCapacity, retry: true},
	{text: "operating system does not match", class: backends.ClassConfig, field: "image", hint: "the image is for another operating system than the engine's"},
	{text: "image operating system …cannot be used on this platform", class: backends.ClassConfig, field: "image", hint: "the image is for another operating system than the engine's"},
	{text: "was found but does not …match the specified platform", class: backends.ClassConfig, field: "platform"},
	{text: "was found but does not provide the specified platform", class: backends.ClassConfig, field: "platform"},
	{text: "exec format error", class: backends.ClassConfig, field: "platform", hint: "the image is for another processor than the engine's"},
	{text: "no such image", class: backends.ClassImage, retry: true, field: "image"},
	{text: "invalid reference format", class: backends.ClassImage, field: "image"},
	{text: "executable file not found", class: backends.ClassConfig, field: "command", hint: "the image has no such program"},
	{text: "runtime create failed …exec: …no such file or directory", class: backends.ClassConfig, field: "command", hint: "the image has no such program"},
	{text: "runtime create failed …exec: …permission denied", class: backends.ClassConfig, field: "command", hint: "the program is not executable"},
	{text: "no command specified", class: backends.ClassConfig, field: "command", hint: "the image names no program: set command"},
	{text: "unable to find user", class: backends.ClassConfig, field: "user"},
	{text: "unable to find group", class: backends.ClassConfig, field: "user"},
	{text: "invalid mount config", class: backends.ClassConfig, field: "hostconfig.mounts"},
	{text: "bind source path does not exist", class: backends.ClassConfig, field: "hostconfig.mounts"},
	{text: "invalid volume specification", class: backends.ClassConfig, field: "volumes"},
	{text: "duplicate mount point", class: backends.ClassConfig, field: "volumes"},
	{text: "invalid mode:", class: backends.ClassConfig, field: "volumes"},
	{text: "is shared but it is not a shared mount", class: backends.ClassConfig, field: "volumes"},
	{text: "minimum memory limit", class: backends.ClassConfig, field: "hostconfig.mem_limit"},
	{text: "memoryswap limit should be larger", class: backends.ClassConfig, field: "hostconfig.memswap_limit"},
	{text: "range of cpus is from", class: backends.ClassConfig, field: "hostconfig.nano_cpus"},
	{text: "requested cpus are not available", class: backends.ClassConfig, field: "hostconfig.cpuset_cpus"},
	{text: "could not select device driver", class: backends.ClassConfig, field: "hostconfig.device_requests"},
	{text: "gpu vendor", class: backends.ClassConfig, field: "hostconfig.device_requests"},
	{text: "error gathering device information", class: backends.ClassConfig, field: "hostconfig.devices"},
	{text: "unknown runtime specified", class: backends.ClassConfig, field: "hostconfig.runtime"},
	{text: "unknown or invalid runtime name", class: backends.ClassConfig, field: "hostconfig.runtime"},
	{text: "invalid capadd", class: backends.ClassConfig, field: "hostconfig.cap_add"},
	{text: "invalid capdrop", class: backends.ClassConfig, field: "hostconfig.cap_drop"},
	{text: "unknown capability", class: backends.ClassConfig, field: "hostconfig.cap_add"},
	{text: "error looking up logging plugin", class: backends.ClassConfig, field: "hostconfig.log_config"},
	{text: "no log driver named", class: backends.ClassConfig, field: "hostconfig.log_config"},
	{text: "unknown log opt", class: backends.ClassConfig, field: "hostconfig.log_config"},
	{text: "logging driver does not support reading", class: backends.ClassConfig, field: "hostconfig.log_config"},
	{text: "network …not found", class: backends.ClassConfig, field: "networks", hint: "make the network first: docker network create"},
	{text: "network-scoped alias", class: backends.ClassConfig, field: "networks"},
	{text: "user specified ip address is supported", class: backends.ClassConfig, field: "networks"},
	{text: "conflicting options", class: backends.ClassConfig},
	{text: "is already in use by container", class: backends.ClassInfra, retry: true},
	{text: "removal of container …is already in progress", class: backends.ClassInfra, retry: true},
	{text: "marked for removal", class: backends.ClassInfra, retry: true},
	{text: "device or resource busy", class: backends.ClassInfra, retry: true},
}

// sshPhrases are for what ssh says, or the docker command at the far end; what fits none may heal.
var sshPhrases = []phrase{
	{text: "permission denied while trying to connect to the docker", class: backends.ClassConfig, field: "docker_host", hint: "the user at the far end may not use docker's socket: add it to the group docker there"},
	{text: "cannot connect to the docker daemon", class: backends.ClassInfra, retry: true, hint: "is docker running there?"},
	{text: "failed to dial", class: backends.ClassInfra, retry: true, hint: "is docker running there?"},
	{text: "raw stream connection", class: backends.ClassInfra, retry: true, hint: "is docker running there?"},
	{text: "there is no ssh command", class: backends.ClassConfig, field: "docker_host", hint: "install an ssh client, or reach the engine in another way"},
	{text: "docker: …not found", class: backends.ClassConfig, field: "docker_host", hint: "the far end needs the docker command, in the PATH of a shell that is not interactive"},
	{text: "is not a docker command", class: backends.ClassConfig, field: "docker_host", hint: "the far end needs docker 18.09 or newer"},
	{text: "has changed …host key verification failed", class: backends.ClassConfig, field: "docker_host", hint: "the host has another key than known_hosts says: if that is right, put the new one there"},
	{text: "host key verification failed", class: backends.ClassConfig, field: "docker_host", hint: "put the host's key into known_hosts of the user that latent-engine runs as: ssh there once by hand"},
	{text: "permission denied", class: backends.ClassConfig, field: "docker_host", hint: "nobody is there to type a password: the user that latent-engine runs as needs a key in an agent, or one without a passphrase"},
	{text: "too many authentication failures", class: backends.ClassConfig, field: "docker_host", hint: "name the one key to use in ssh's configuration: IdentityFile, IdentitiesOnly yes"},
	{text: "bad configuration option", class: backends.ClassConfig, field: "docker_host"},
	{text: "what answers is no docker engine", class: backends.ClassConfig, field: "docker_host"},
}

// tlsPhrases are for what a handshake ends in, here or (remote error) there. None of it heals.
var tlsPhrases = []phrase{
	{text: "remote error: tls: …certificate", class: backends.ClassInfra, field: "tls.client_cert", hint: "the engine wants a client certificate: in date, and of an authority that it knows"},
	{text: "unknown authority", class: backends.ClassInfra, field: "tls.ca_cert", hint: "tls.ca_cert names the authority that signed the engine's certificate"},
	{text: "certificate has expired or is not yet valid", class: backends.ClassInfra, field: "tls", hint: "the engine's certificate is to be renewed"},
	{text: "certificate is valid for", class: backends.ClassInfra, field: "tls.assert_hostname", hint: "the engine's certificate is for another name: use that in docker_host, or set tls.assert_hostname"},
	{text: "certificate is not valid for any names", class: backends.ClassInfra, field: "tls.assert_hostname", hint: "the engine's certificate is for another name: use that in docker_host, or set tls.assert_hostname"},
	{text: "doesn't contain any ip sans", class: backends.ClassInfra, field: "tls.assert_hostname", hint: "the engine's certificate is for a name and no address: use the name in docker_host, or set tls.assert_hostname"},
	{text: "", class: backends.ClassInfra, field: "tls"},
}

// pullPhrases are for what a registry says through the engine, at once or within the stream.
var pullPhrases = []phrase{
	{text: "no space left on device", class: backends.ClassCapacity, retry: true, hint: "free space where docker keeps its data"},
	{text: "toomanyrequests", class: backends.ClassImage, retry: true, hint: "the registry limits how often it is asked: sign in (docker login), or use a mirror"},
	{text: "too many requests", class: backends.ClassImage, retry: true, hint: "the registry limits how often it is asked: sign in (docker login), or use a mirror"},
	{text: "manifest unknown", class: backends.ClassImage},
	{text: "manifest for …not found", class: backends.ClassImage},
	{text: "repository name not known", class: backends.ClassImage},
	{text: "name unknown", class: backends.ClassImage},
	{text: "failed to resolve reference …: not found", class: backends.ClassImage},
	{text: "no basic auth credentials", class: backends.ClassImage, hint: "the registry wants credentials: docker login on the engine's machine, or docker_config"},
	{text: "repository does not exist or may require", class: backends.ClassImage, hint: "look at the name; where the registry wants credentials: docker login, or docker_config"},
	{text: "no pull access", class: backends.ClassImage, hint: "look at the name; where the registry wants credentials: docker login, or docker_config"},
	{text: "authentication required", class: backends.ClassImage, hint: "the registry wants credentials: docker login, or docker_config"},
	{text: "authorization failed", class: backends.ClassImage, hint: "the registry wants other credentials: docker login, or docker_config"},
	{text: "incorrect username or password", class: backends.ClassImage, hint: "the registry wants other credentials: docker login, or docker_config"},
	{text: "unauthorized", class: backends.ClassImage, hint: "the registry wants other credentials: docker login, or docker_config"},
	{text: "access denied", class: backends.ClassImage},
	{text: "access to the resource is denied", class: backends.ClassImage},
	{text: "denied:", class: backends.ClassImage},
	{text: "403 forbidden", class: backends.ClassImage},
	{text: "invalid reference", class: backends.ClassImage},
	{text: "invalid repository name", class: backends.ClassImage},
	{text: "invalid tag format", class: backends.ClassImage},
	{text: "no matching manifest for", class: backends.ClassImage, hint: "the image is not there for this platform"},
	{text: "no match for platform in manifest", class: backends.ClassImage, hint: "the image is not there for this platform"},
	{text: "cannot be used on this platform", class: backends.ClassConfig, hint: "the image is for another operating system than the engine's"},
	{text: "operating system does not match", class: backends.ClassConfig, hint: "the image is for another operating system than the engine's"},
	{text: "unsupported media type", class: backends.ClassImage},
	{text: "not implemented: media type", class: backends.ClassImage},
	{text: "server gave http response to https client", class: backends.ClassImage, hint: "the registry has no TLS: name it under insecure-registries of the engine"},
	{text: "x509:", class: backends.ClassImage, hint: "the engine does not trust the registry's certificate"},
	{text: "500 internal server error", class: backends.ClassImage, retry: true},
	{text: "502 bad gateway", class: backends.ClassImage, retry: true},
	{text: "503 service unavailable", class: backends.ClassImage, retry: true},
	{text: "504 gateway time", class: backends.ClassImage, retry: true},
	{text: "received unexpected http status: 5", class: backends.ClassImage, retry: true},
	{text: "unexpected status code …: 5", class: backends.ClassImage, retry: true},
	{text: "unexpected status from …: 5", class: backends.ClassImage, retry: true},
	{text: "connection refused", class: backends.ClassImage, retry: true},
	{text: "connection reset", class: backends.ClassImage, retry: true},
	{text: "no route to host", class: backends.ClassImage, retry: true},
	{text: "network is unreachable", class: backends.ClassImage, retry: true},
	{text: "i/o timeout", class: backends.ClassImage, retry: true},
	{text: "tls handshake timeout", class: backends.ClassImage, retry: true},
	{text: "client.timeout exceeded", class: backends.ClassImage, retry: true},
	{text: "context deadline exceeded", class: backends.ClassImage, retry: true},
	{text: "request canceled while waiting", class: backends.ClassImage, retry: true},
	{text: "no such host", class: backends.ClassImage, retry: true},
	{text: "temporary failure in name resolution", class: backends.ClassImage, retry: true},
	{text: "server misbehaving", class: backends.ClassImage, retry: true},
	{text: "filesystem layer verification failed", class: backends.ClassImage, retry: true},
	{text: "failed precondition: failed to copy …size", class: backends.ClassImage, retry: true},
	{text: "unexpected eof", class: backends.ClassImage, retry: true},
	{text: ": eof", class: backends.ClassImage, retry: true},
	{text: "not found", class: backends.ClassImage},
	{text: "error from registry:", class: backends.ClassImage},
}

const buildKitHint = "this Dockerfile needs BuildKit, which the engine's own builder is not: leave out RUN --mount, COPY --link and here-documents, or build the image elsewhere and name it under image"

// buildPhrases are for what the builder says within the stream; what fits none is a failed step: class image, final.
var buildPhrases = []phrase{
	{text: "no space left on device", class: backends.ClassCapacity, retry: true, hint: "free space where docker keeps its data"},
	{text: "requires buildkit", class: backends.ClassConfig, field: "dockerfile", hint: buildKitHint},
	{text: "unknown flag: mount", class: backends.ClassConfig, field: "dockerfile", hint: buildKitHint},
	{text: "unknown flag: link", class: backends.ClassConfig, field: "dockerfile", hint: buildKitHint},
	{text: "unknown flag: chmod", class: backends.ClassConfig, field: "dockerfile", hint: buildKitHint},
	{text: "dockerfile parse error", class: backends.ClassConfig, field: "dockerfile"},
	{text: "unknown instruction", class: backends.ClassConfig, field: "dockerfile"},
	{text: "cannot be empty", class: backends.ClassConfig, field: "dockerfile"},
	{text: "file with no instructions", class: backends.ClassConfig, field: "dockerfile"},
	{text: "no build stage in current context", class: backends.ClassConfig, field: "dockerfile"},
	{text: "cannot locate specified dockerfile", class: backends.ClassConfig, field: "dockerfile"},
	{text: "failed to reach build target", class: backends.ClassConfig, field: "target"},
	{text: "target stage …could not be found", class: backends.ClassConfig, field: "target"},
	{text: "build-arg", class: backends.ClassConfig, field: "buildargs"},
	{text: "copy failed: …no such file or directory", class: backends.ClassImage, field: "custom_context"},
	{text: "copy failed: file not found in build context", class: backends.ClassImage, field: "custom_context"},
	{text: "add failed: …no such file or directory", class: backends.ClassImage, field: "custom_context"},
	{text: "returned a non-zero code", class: backends.ClassImage, field: "dockerfile"},
}

func find(table []phrase, message string) *phrase {
	m := strings.ToLower(message)
	for i := range table {
		rest, ok := m, true
		for _, part := range strings.Split(table[i].text, "…") {
			part = strings.TrimSpace(part)
			at := strings.Index(rest, part)
			if at < 0 {
				ok = false
				break
			}
			rest = rest[at+len(part):]
		}
		if ok {
			return &table[i]
		}
	}
	return nil
}

// failure is the verdict on a call that went wrong: what ended it on our side first, then the table, then the status.
func (b *backend) failure(ctx context.Context, err error) *backends.Failure {
	if err == nil {
		return nil
	}
	var f *backends.Failure
	if errors.As(err, &f) {
		return f
	}
	if f := ended(ctx, err); f != nil {
		return f
	}
	var ce *callError
	if !errors.As(err, &ce) {
		return backends.AsFailure(err)
	}
	if ce.status == 0 {
		return b.unreached(ce)
	}
	f = &backends.Failure{Message: ce.Error(), Reason: ce.message}
	if p := find(callPhrases, ce.message); p != nil {
		f.Class, f.Retryable, f.Field, f.Hint = p.class, p.retry, p.field, p.hint
		return f
	}
	f.Class, f.Retryable = kindOf(ce.status).Class()
	return f
}

// ended is the failure of a call that the caller's own context ended; nil = it did not.
func ended(ctx context.Context, err error) *backends.Failure {
	switch cause := ctx.Err(); {
	case cause == nil:
		return nil
	case errors.Is(cause, context.DeadlineExceeded):
		return &backends.Failure{Class: backends.ClassTimeout, Retryable: true, Message: doing(err) + ": the time for it is over", Err: context.DeadlineExceeded}
	}
	return &backends.Failure{Class: backends.ClassCancelled, Retryable: true, Message: doing(err) + ": cancelled", Err: context.Canceled}
}

func doing(err error) string {
	var ce *callError
	if errors.As(err, &ce) {
		return "cannot " + ce.what
	}
	return "cannot go on"
}

// errAway is in the failure of a call that got no answer: the engine is not there, or the way to it is not.
var errAway = errors.New("docker is away")

// unreached is the failure of a call that got no answer.
func (b *backend) unreached(ce *callError) *backends.Failure {
	f := &backends.Failure{Class: backends.ClassInfra, Retryable: true, Message: ce.Error()}
	var ssh *sshError
	switch {
	case errors.As(ce.err, &ssh):
		f.Reason = ssh.cause
		if p := find(sshPhrases, ssh.cause); p != nil {
			f.Class, f.Retryable, f.Field, f.Hint = p.class, p.retry, p.field, p.hint
		}
	case errors.Is(ce.err, os.ErrPermission):
		f.Hint = "your user may not use docker's socket: add it to the group docker, or run as root"
	case errors.Is(ce.err, os.ErrNotExist), errors.Is(ce.err, syscall.ECONNREFUSED):
		f.Hint = "is docker running there? docker_host says where to look"
	case strings.Contains(transportCause(ce.err), "TLS on one side alone"):
		f.Class, f.Retryable, f.Field = backends.ClassConfig, false, "docker_host"
	case strings.Contains(ce.err.Error(), "x509:"), strings.Contains(ce.err.Error(), "tls:"):
		p := find(tlsPhrases, ce.err.Error())
		f.Class, f.Retryable, f.Field, f.Hint = p.class, p.retry, p.field, p.hint
	case errors.Is(ce.err, errNoEngine), errors.Is(ce.err, errTooLong):
		f.Retryable = false
	}
	if f.Retryable {
		f.Err = errAway
	}
	return f
}

// kindOf is what became of a call, by its HTTP status.
func kindOf(status int) backends.CallKind {
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return backends.CallInvalid
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return backends.CallDenied
	case http.StatusNotFound, http.StatusGone:
		return backends.CallNotFound
	case http.StatusConflict:
		return backends.CallExists
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return backends.CallUnavailable
	}
	return backends.CallInternal
}

func configFailure(at, format string, args ...any) *backends.Failure {
	return &backends.Failure{Class: backends.ClassConfig, Message: fmt.Sprintf(format, args...), Field: at}
}
