package docker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"time"

	"github.com/docker/cli/cli/connhelper"
)

const (
	// sshDials is how many connections are opened at once: sshd's usual limit on those that are not signed in yet is 10.
	sshDials = 6
	// sshWait is how long one may take. ssh itself gives up before, and says why.
	sshWait = 25 * time.Second
)

// sshFlags: nobody is there to be asked for a password or whether a host is to be trusted.
func sshFlags() []string { return []string{"-oBatchMode=yes", "-oConnectTimeout=15"} }

// sshDialer opens connections through the ssh command: docker/cli's helper, with `docker system dial-stdio` at the far end.
type sshDialer struct {
	dial  func(ctx context.Context, network, addr string) (net.Conn, error)
	slots chan struct{}
}

func newSSHDialer(host string) (d sshDialer, address string, err error) {
	helper, err := connhelper.GetConnectionHelperWithSSHOpts(host, sshFlags())
	if err != nil {
		return d, "", err
	}
	return sshDialer{dial: helper.Dialer, slots: make(chan struct{}, sshDials)}, helper.Host, nil
}

// open gives a connection that works: the helper's own is one before ssh has even begun to connect, and what goes wrong then
// would show as a broken pipe, or not, as it happens. So a ping goes through it first.
func (d sshDialer) open(ctx context.Context, network, addr string) (net.Conn, error) {
	select {
	case d.slots <- struct{}{}:
		defer func() { <-d.slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, sshWait, errNoAnswer)
	defer cancel()
	conn, err := d.dial(ctx, network, addr)
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, &sshError{cause: "there is no ssh command"}
	case err != nil:
		return nil, &sshError{cause: err.Error()}
	}
	conn = sshConn{conn}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	err = ping(conn)
	if !stop() {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// ping asks for nothing and reads all of the answer.
func ping(conn net.Conn) error {
	// If writing fails, the end of reading says why.
	_, sent := io.WriteString(conn, "GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n")
	r := bufio.NewReader(io.LimitReader(conn, 256<<10))
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		var s *sshError
		switch {
		case errors.As(err, &s):
			return s
		case sent != nil:
			return sent
		case errors.Is(err, io.ErrUnexpectedEOF):
			return err
		}
		return &sshError{cause: "what answers is no Docker Engine"}
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if r.Buffered() > 0 || resp.Close {
		return &sshError{cause: "what answers is no Docker Engine"}
	}
	return nil
}

// sshConn gives ssh's own words instead of the helper's.
type sshConn struct{ net.Conn }

func (c sshConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return n, sshWords(err)
}

func (c sshConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, sshWords(err)
}

// sshError is what ssh, or the docker command at the far end, said when it ended.
type sshError struct{ cause string }

func (e *sshError) Error() string { return e.cause }

// sshWords takes what ssh wrote to its standard error out of the helper's error.
func sshWords(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	said, text, ok := strings.Cut(err.Error(), "stderr=")
	if !ok {
		return err
	}
	var lines []string
	for l := range strings.Lines(text) {
		if l = strings.TrimSpace(plainLine(l)); l != "" {
			lines = append(lines, strings.TrimPrefix(l, "ssh: "))
		}
	}
	if len(lines) == 0 {
		_, status, _ := strings.Cut(said, "has exited with ")
		status, _, _ = strings.Cut(status, ",")
		return &sshError{cause: fmt.Sprintf("ssh ended without a word (%s)", status)}
	}
	// What matters comes last; a banner, or the server's news, before it.
	return &sshError{cause: clip(strings.Join(lines[max(0, len(lines)-2):], "; "), 1000)}
}
