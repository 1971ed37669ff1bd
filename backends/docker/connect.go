package docker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/docker/docker/client"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/spec"
)

// backend is an open connection to one Docker Engine.
type backend struct {
	target string
	engine string // engine id
	host   string // docker_host as written

	cli     *client.Client // negotiates the version; all calls go through http
	http    *http.Client
	base    *http.Transport
	url     url.URL // scheme, host and base path of every call
	dummy   string  // Host header where the connection has no host of its own
	version string

	dockerConfig string // docker's configuration folder or file; "" = where docker looks
	grace        time.Duration
	advertise    string

	clock   atomic.Int64 // the engine's minus ours
	id      atomic.Pointer[string]
	pulls   pulls
	starts  keyed // by instance
	builds  keyed // by the image's name
	watched watched
}

var _ backends.Backend = (*backend)(nil)

// Connect opens a connection and asks the engine for its version, with one call. Errors are *backends.Failure.
func (Kind) Connect(ctx context.Context, o backends.ConnectOptions) (backends.Backend, error) {
	return ConnectHTTP(ctx, o, nil)
}

// ConnectHTTP is Connect with every request going through wrap's round tripper, where wrap is not nil: what a test uses to
// see what is sent, to count it, or to let it fail.
func ConnectHTTP(ctx context.Context, o backends.ConnectOptions, wrap func(http.RoundTripper) http.RoundTripper) (backends.Backend, error) {
	b, err := newBackend(o, wrap)
	if err != nil {
		return nil, err
	}
	if err := b.negotiate(ctx); err != nil {
		_ = b.Close()
		return nil, err
	}
	if b.isSSH() {
		// Later it would go beside other calls, on a connection of its own: a handshake more, of which sshd takes so many at once.
		_, _ = b.ID(ctx)
	}
	return b, nil
}

func (b *backend) isSSH() bool { return strings.HasPrefix(b.host, "ssh://") }

func newBackend(o backends.ConnectOptions, wrap func(http.RoundTripper) http.RoundTripper) (*backend, error) {
	host, err := settingText(o.Settings, "docker_host", o.Fill)
	if err != nil {
		return nil, err
	}
	if host == "" {
		host = DefaultHost
	}
	b := &backend{target: o.Target, engine: o.Engine, host: host, grace: DefaultImagePullGrace}
	refuse := func(err error, at string) *backends.Failure {
		return &backends.Failure{Class: backends.ClassConfig, Message: fmt.Sprintf("cannot connect to docker at %s: %v", b.shownHost(), err), Field: at}
	}
	if b.dockerConfig, err = settingText(o.Settings, "docker_config", o.Fill); err != nil {
		return nil, err
	}
	if b.advertise, err = settingText(o.Settings, "advertise", o.Fill); err != nil {
		return nil, err
	}
	version, err := settingText(o.Settings, "version", o.Fill)
	if err != nil {
		return nil, err
	}
	// "auto" is docker-py's word for negotiation.
	if strings.EqualFold(version, "auto") {
		version = ""
	}
	if d, ok := o.Settings["image_pull_grace"].(field.Int); ok {
		b.grace = time.Duration(d) * time.Second
	}
	secure, err := tlsConfig(o.Settings["tls"], o.Fill)
	if err != nil {
		return nil, refuse(err, "tls")
	}

	dial, address, err := dialer(host)
	if err != nil {
		return nil, refuse(err, "docker_host")
	}
	b.base = &http.Transport{
		MaxIdleConns: 32, MaxIdleConnsPerHost: 32, IdleConnTimeout: 30 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second, MaxResponseHeaderBytes: 256 << 10,
	}
	o1 := []client.Opt{client.WithHTTPClient(&http.Client{Transport: b.base, CheckRedirect: client.CheckRedirect}), client.WithHost(address)}
	if dial != nil {
		o1 = append(o1, client.WithDialContext(dial))
	}
	if version != "" {
		o1 = append(o1, client.WithVersion(version))
	} else {
		o1 = append(o1, client.WithAPIVersionNegotiation())
	}
	parsed, err := client.ParseHostURL(address)
	if err != nil {
		return nil, refuse(err, "docker_host")
	}
	b.url = url.URL{Scheme: "http", Host: parsed.Host, Path: strings.TrimSuffix(parsed.Path, "/")}
	if parsed.Scheme == "https" || secure != nil {
		if secure == nil {
			secure = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		b.url.Scheme = "https"
		o1 = append(o1, client.WithScheme("https"))
	}
	switch parsed.Scheme {
	case "unix", "npipe":
		b.dummy = client.DummyHost
		b.url.Host, b.url.Path = client.DummyHost, ""
	}
	if b.cli, err = client.NewClientWithOpts(o1...); err != nil {
		return nil, refuse(err, "docker_host")
	}
	// The client gives its transport only the dialer: the rest is ours, set after it configured that.
	b.base.TLSClientConfig = secure
	// Proxies of the environment are for registries, and not for an operator's engine.
	b.base.Proxy = nil
	if dial == nil && (parsed.Scheme == "tcp" || strings.HasPrefix(parsed.Scheme, "http")) {
		// A connection that died without a word is found by keep-alive probes, which the client's own dialer has as well.
		b.base.DialContext = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	}
	var transport http.RoundTripper = b.base
	if wrap != nil {
		transport = wrap(transport)
	}
	b.http = &http.Client{Transport: transport, CheckRedirect: client.CheckRedirect}
	b.version = b.cli.ClientVersion()
	return b, nil
}

// dialer gives the way to a host that the client does not know by itself, and the address that stands for it.
func dialer(host string) (dial func(context.Context, string, string) (net.Conn, error), address string, err error) {
	scheme, _, ok := strings.Cut(host, "://")
	if !ok {
		return nil, "", fmt.Errorf("%q has no scheme: unix://, tcp://, http://, https:// or ssh://", host)
	}
	switch scheme {
	case "ssh":
		ssh, address, err := newSSHDialer(host)
		return ssh.open, address, err
	case "unix", "npipe", "tcp", "http", "https":
		return nil, host, nil
	case "http+docker", "http+unix":
		return nil, "unix://" + strings.TrimPrefix(host, scheme+"://"), nil
	}
	return nil, "", fmt.Errorf("no way to %s:// is known: unix://, tcp://, http://, https:// or ssh://", scheme)
}

// tlsConfig reads docker-py's TLSConfig: client_cert [certificate, key], ca_cert, verify (true, false or a CA's path),
// assert_hostname (false, or the name to expect).
func tlsConfig(v field.Value, fill backends.Fill) (*tls.Config, error) {
	if on, ok := v.(field.Bool); ok {
		if !on {
			return nil, nil
		}
		return &tls.Config{MinVersion: tls.VersionTLS12}, nil
	}
	o, ok := v.(field.Object)
	if !ok {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	ca, err := settingText(o, "ca_cert", fill)
	if err != nil {
		return nil, err
	}
	switch verify := o["verify"].(type) {
	case field.Bool:
		c.InsecureSkipVerify = !bool(verify)
	case field.String:
		ca = string(verify)
	}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("cannot read the CA certificate: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("cannot read the CA certificate: %s holds none", ca)
		}
	}
	cert, key, err := clientCert(o["client_cert"], fill)
	if err != nil {
		return nil, err
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("cannot read the client certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	switch name := o["assert_hostname"].(type) {
	case field.String:
		c.ServerName = string(name)
	case field.Bool:
		if !bool(name) && !c.InsecureSkipVerify {
			c.InsecureSkipVerify = true
			roots := c.RootCAs
			c.VerifyConnection = func(s tls.ConnectionState) error {
				between := x509.NewCertPool()
				for _, cert := range s.PeerCertificates[1:] {
					between.AddCert(cert)
				}
				_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
				return err
			}
		}
	}
	return c, nil
}

// clientCert reads [certificate, key], also written as {cert, key}.
func clientCert(v field.Value, fill backends.Fill) (cert, key string, err error) {
	switch v := v.(type) {
	case nil:
		return "", "", nil
	case field.List:
		if len(v) != 2 {
			return "", "", errors.New("client_cert wants a certificate's and a key's path")
		}
		v0 := field.Object{"cert": v[0], "key": v[1]}
		return clientCert(v0, fill)
	case field.Object:
		if cert, err = settingText(v, "cert", fill); err != nil {
			return "", "", err
		}
		key, err = settingText(v, "key", fill)
		return cert, key, err
	}
	return "", "", errors.New("client_cert wants a certificate's and a key's path")
}

// negotiate asks the engine which API it speaks, which also shows that it is there.
func (b *backend) negotiate(ctx context.Context) error {
	resp, err := b.send(ctx, call{what: "connect to docker at " + b.shownHost(), method: http.MethodGet, path: "/_ping", bare: true, limit: 64 << 10, wait: 30 * time.Second})
	if err != nil {
		return b.connectFailure(ctx, err)
	}
	defer resp.Body.Close()
	drain(resp.Body)
	version := resp.Header.Get("Api-Version")
	if version == "" {
		return &backends.Failure{Class: backends.ClassConfig, Message: fmt.Sprintf("cannot connect to docker at %s: what answers is no Docker Engine", b.shownHost()), Field: "docker_host"}
	}
	b.cli.NegotiateAPIVersionPing(pingOf(version))
	b.version = b.cli.ClientVersion()
	return nil
}

// ping asks whether the engine is there, whatever became of the caller's context.
func (b *backend) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := b.do(ctx, call{what: "ask whether docker is there", method: http.MethodGet, path: "/_ping", bare: true}); err != nil {
		return b.failure(ctx, err)
	}
	return nil
}

func (b *backend) connectFailure(ctx context.Context, err error) *backends.Failure {
	f := b.failure(ctx, err)
	if f.Class == backends.ClassCancelled {
		return f
	}
	cause := err
	var ce *callError
	if errors.As(err, &ce) {
		cause = errors.New(ce.cause())
	}
	f.Message = fmt.Sprintf("cannot connect to docker at %s: %v", b.shownHost(), cause)
	if f.Class == backends.ClassUnknown || f.Class == backends.ClassLost {
		f.Class, f.Retryable = backends.ClassInfra, true
	}
	return f
}

// shownHost is the host without what a URL may carry beside it.
func (b *backend) shownHost() string {
	u, err := url.Parse(b.host)
	if err != nil {
		return "an address that cannot be read"
	}
	return u.Redacted()
}

// Close gives back idle connections; calls under way are not touched.
func (b *backend) Close() error {
	b.base.CloseIdleConnections()
	return nil
}

// settingText is a connection setting that is a text, secrets filled in; "" where it is absent.
func settingText(o field.Object, key string, fill backends.Fill) (string, error) {
	switch v := o[key].(type) {
	case field.String:
		return string(v), nil
	case field.Text:
		s, err := spec.FillText(v, newFiller(fill).fill)
		if err != nil {
			return "", &backends.Failure{Class: backends.ClassConfig, Message: fmt.Sprintf("cannot read the setting %q: %v", key, err), Field: key}
		}
		return s, nil
	}
	return "", nil
}
