//go:build integration

package docker_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/backends/docker"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/internal/testenv"
)

// authority signs certificates; it and they are files of its folder.
type authority struct {
	t      *testing.T
	folder string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, folder: t.TempDir()}
	a.issue("ca", nil, time.Hour)
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.folder, name+".pem") }

// issue makes NAME.pem and NAME-key.pem for names and addresses, good until a time from now. The first is the authority itself.
func (a *authority) issue(name string, names []string, until time.Duration) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(until),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	signer, by := a.key, a.cert
	if by == nil {
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage, template.ExtKeyUsage = true, true, x509.KeyUsageCertSign, nil
		signer, by = key, template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	if a.cert == nil {
		if a.cert, err = x509.ParseCertificate(der); err != nil {
			a.t.Fatal(err)
		}
		a.key = key
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{a.file(name): {Type: "CERTIFICATE", Bytes: der}, a.file(name + "-key"): {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
}

// pair is a certificate and its key as docker-py's client_cert has them.
func (a *authority) pair(name string) field.List {
	return field.List{field.String(a.file(name)), field.String(a.file(name + "-key"))}
}

// TestTLSVerify reaches dockerd's own TLS with docker-py's TLSConfig, and tells what is wrong with a certificate.
func TestTLSVerify(t *testing.T) {
	each(t, func(t *testing.T, e *testenv.Engine) {
		ours, others := newAuthority(t), newAuthority(t)
		ours.issue("good", []string{"127.0.0.1"}, time.Hour)
		ours.issue("expired", []string{"127.0.0.1"}, -time.Hour)
		ours.issue("elsewhere", []string{"elsewhere.test"}, time.Hour)
		others.issue("good", []string{"127.0.0.1"}, time.Hour)
		ca, cert := field.String(ours.file("ca")), ours.pair("good")
		type object = field.Object
		type attempt struct {
			name  string
			tls   field.Value
			cause string // "" = it works
		}
		for _, server := range []struct {
			cert  string
			cases []attempt
		}{
			{"good", []attempt{
				{"right", object{"ca_cert": ca, "client_cert": cert}, ""},
				{"right, verify", object{"ca_cert": ca, "client_cert": cert, "verify": field.Bool(true)}, ""},
				{"verify is the authority", object{"verify": ca, "client_cert": cert}, ""},
				{"the engine is not verified", object{"verify": field.Bool(false), "client_cert": cert}, ""},
				{"not verified, with an authority", object{"verify": field.Bool(false), "ca_cert": field.String(others.file("ca")), "client_cert": cert}, ""},
				{"name not looked at", object{"ca_cert": ca, "client_cert": cert, "assert_hostname": field.Bool(false)}, ""},
				{"name looked at", object{"ca_cert": ca, "client_cert": cert, "assert_hostname": field.Bool(true)}, ""},
				{"wrong authority", object{"ca_cert": field.String(others.file("ca")), "client_cert": cert}, "certificate signed by unknown authority"},
				{"wrong authority in verify", object{"verify": field.String(others.file("ca")), "client_cert": cert}, "certificate signed by unknown authority"},
				{"wrong authority, name not looked at", object{"ca_cert": field.String(others.file("ca")), "client_cert": cert, "assert_hostname": field.Bool(false)}, "certificate signed by unknown authority"},
				{"the system's authorities", object{"client_cert": cert}, "certificate signed by unknown authority"},
				{"true", field.Bool(true), "certificate signed by unknown authority"},
				{"no client certificate", object{"ca_cert": ca}, "certificate"},
				{"client certificate of another authority", object{"ca_cert": ca, "client_cert": others.pair("good")}, "certificate"},
				{"expired client certificate", object{"ca_cert": ca, "client_cert": ours.pair("expired")}, "certificate"},
				{"asserted name", object{"ca_cert": ca, "client_cert": cert, "assert_hostname": field.String("elsewhere.test")}, "elsewhere.test"},
				{"no file", object{"ca_cert": field.String(ours.file("nowhere")), "client_cert": cert}, "cannot read the CA certificate"},
				{"no certificate", object{"ca_cert": field.String(ours.file("ca-key")), "client_cert": cert}, "cannot read the CA certificate"},
				{"another's key", object{"ca_cert": ca, "client_cert": field.List{cert[0], others.pair("good")[1]}}, "cannot read the client certificate"},
				{"without TLS", nil, "HTTP request to an HTTPS server"},
			}},
			{"expired", []attempt{
				{"right", object{"ca_cert": ca, "client_cert": cert}, "certificate has expired"},
				{"name not looked at", object{"ca_cert": ca, "client_cert": cert, "assert_hostname": field.Bool(false)}, "certificate has expired"},
				{"not verified", object{"verify": field.Bool(false), "client_cert": cert}, ""},
			}},
			{"elsewhere", []attempt{
				{"right", object{"ca_cert": ca, "client_cert": cert}, "127.0.0.1"},
				{"name not looked at", object{"ca_cert": ca, "client_cert": cert, "assert_hostname": field.Bool(false)}, ""},
				{"asserted name", object{"ca_cert": ca, "client_cert": cert, "assert_hostname": field.String("elsewhere.test")}, ""},
			}},
		} {
			l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			addr := l.Addr().String()
			l.Close()
			e.RestartWith(t, "--host=tcp://"+addr, "--tlsverify", "--tlscacert="+ours.file("ca"), "--tlscert="+ours.file(server.cert), "--tlskey="+ours.file(server.cert+"-key"))
			for _, c := range server.cases {
				t.Run(server.cert+"/"+c.name, func(t *testing.T) {
					settings := object{"docker_host": field.String("tcp://" + addr)}
					if c.tls != nil {
						settings["tls"] = c.tls
					}
					checked, problems := field.ObjectOf(docker.Kind{}.Connection()).Coerce(settings)
					if len(problems) > 0 {
						t.Fatal(problems)
					}
					b, err := connectWith(t, checked.(object))
					// An engine turns a client away after the handshake, while the request is on its way.
					for n := 0; n < 50 && c.cause == "certificate"; n++ {
						if _, again := connectWith(t, checked.(object)); fmt.Sprint(again) != fmt.Sprint(err) {
							t.Fatalf("first %v, then %v", err, again)
						}
					}
					if err == nil {
						_, err = b.List(t.Context())
						b.Close()
					}
					if c.cause == "" {
						if err != nil {
							t.Error(err)
						}
						return
					}
					var f *backends.Failure
					if !errors.As(err, &f) {
						t.Fatalf("got %v", err)
					}
					t.Logf("%s (%s, retryable %t, field %s; %s)", f.Message, f.Class, f.Retryable, f.Field, f.Hint)
					if !strings.HasPrefix(f.Message, "cannot connect to docker at tcp://127.0.0.1:") || !strings.Contains(f.Message, c.cause) || f.Retryable || !strings.HasPrefix(f.Field, "tls") || f.Hint == "" && f.Class != backends.ClassConfig {
						t.Errorf("got %+v", f)
					}
				})
			}
			if server.cert == "good" {
				t.Run("life", func(t *testing.T) {
					r := newRig(t, e, object{"docker_host": field.String("tcp://" + addr), "tls": object{"ca_cert": ca, "client_cert": object{"cert": cert[0], "key": cert[1]}}})
					_, b := r.must(object{"image": field.String(workerImage)})
					untilLine(t, r.backend, b.Instance, "starting worker")
					if err := r.backend.Stop(t.Context(), b.Instance, backends.StopOptions{Fast: true}); err != nil {
						t.Error(err)
					}
				})
			}
		}
	})
}
