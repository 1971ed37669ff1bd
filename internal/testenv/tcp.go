package testenv

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// TCP makes the engine reachable over TLS until the test ends, as a remote one is: addr is
// "127.0.0.1:PORT", and the files are the CA's certificate and a client's certificate and key,
// named ca.pem, cert.pem and key.pem in one folder, as DOCKER_CERT_PATH wants them. Clients
// without a certificate of that CA are turned away. The TLS end is ours, not dockerd's; beyond
// the handshake bytes go through as they are, hijacked connections included.
func (e *Engine) TCP(t testing.TB) (addr, caFile, certFile, keyFile string) {
	t.Helper()
	folder := t.TempDir()
	ca, err := newAuthority()
	if err != nil {
		t.Fatalf("cannot make a certificate authority: %v", err)
	}
	server, err := ca.issue("127.0.0.1", x509.ExtKeyUsageServerAuth)
	if err != nil {
		t.Fatalf("cannot issue a server certificate: %v", err)
	}
	client, err := ca.issue("client", x509.ExtKeyUsageClientAuth)
	if err != nil {
		t.Fatalf("cannot issue a client certificate: %v", err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(client.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	caFile = write("ca.pem", "CERTIFICATE", ca.certificate.Raw)
	certFile = write("cert.pem", "CERTIFICATE", client.Certificate[0])
	keyFile = write("key.pem", "PRIVATE KEY", key)

	trusted := x509.NewCertPool()
	trusted.AddCert(ca.certificate)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{server},
		ClientCAs:    trusted,
		ClientAuth:   tls.RequireAndVerifyClientCert,
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"http/1.1"}, // what a hijacked connection needs
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var open sync.WaitGroup
	open.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			open.Go(func() { e.forward(ctx, conn.(*tls.Conn)) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		cancel()
		open.Wait()
	})
	return listener.Addr().String(), caFile, certFile, keyFile
}

// forward joins a connection to the engine's socket until both directions are done.
func (e *Engine) forward(ctx context.Context, conn *tls.Conn) {
	defer conn.Close()
	handshake, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := conn.HandshakeContext(handshake); err != nil {
		return
	}
	socket, err := (&net.Dialer{}).DialContext(ctx, "unix", e.socket())
	if err != nil {
		return
	}
	defer socket.Close()
	stop := context.AfterFunc(ctx, func() {
		conn.Close()
		socket.Close()
	})
	defer stop()
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(socket, conn)
		// The other direction may have more to say: half of the connection closes.
		_ = socket.(*net.UnixConn).CloseWrite()
	})
	both.Go(func() {
		_, _ = io.Copy(conn, socket)
		_ = conn.CloseWrite()
	})
	both.Wait()
}

// authority is a certificate authority that lives as long as a test.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority() (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	template := validNow(1, "latent-engine test CA")
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return authority{}, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return authority{}, err
	}
	return authority{certificate, key}, nil
}

// issue makes a certificate for an IP address, or for a name.
func (a authority) issue(name string, usage x509.ExtKeyUsage) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := validNow(2, name)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{usage}
	if address := net.ParseIP(name); address != nil {
		template.IPAddresses = []net.IP{address}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("cannot sign: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

func validNow(serial int64, name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
}
