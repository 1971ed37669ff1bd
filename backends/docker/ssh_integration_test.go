//go:build integration

package docker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/backends/docker"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/internal/testenv"
)

// sshServer is Debian's sshd on a loopback port, with keys of its own. The ssh command that comes first in the PATH is Debian's
// with a configuration of our own: of what the user has nothing is read.
type sshServer struct {
	t      *testing.T
	folder string
	user   string
	port   int
}

func newSSHServer(t *testing.T, e *testenv.Engine) *sshServer {
	t.Helper()
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		testenv.Missing(t, "ssh", errors.New("no sshd of the distribution; run internal/testenv/install.sh ssh"))
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	s := &sshServer{t: t, folder: t.TempDir(), user: me.Username}
	// Where sshd locks its unprivileged half in; a system that runs it has it.
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	// What each key may do at the far end.
	authorized := ""
	for key, options := range map[string]string{
		"host": "-", "wrong": "-", "right": "", "locked": "", "nodocker": `command="PATH=/nowhere; eval $SSH_ORIGINAL_COMMAND" `,
		"talks": `command="echo welcome; exec $SSH_ORIGINAL_COMMAND" `, "hangs": `command="exec sleep 60" `, "fails": `command="exit 3" `,
	} {
		passphrase := ""
		if key == "locked" {
			passphrase = "passphrase"
		}
		if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", s.file(key)).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v %s", err, out)
		}
		if options != "-" {
			authorized += options + s.read(key+".pub")
		}
	}
	writeFile(t, s.file("authorized_keys"), authorized)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	writeFile(t, s.file("sshd_config"), fmt.Sprintf(`ListenAddress 127.0.0.1:%d
HostKey %s
AuthorizedKeysFile %s
PidFile none
StrictModes no
UsePAM no
MaxStartups 7
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv DOCKER_HOST=%s
`, s.port, s.file("host"), s.file("authorized_keys"), e.Host()))
	cmd := exec.Command(sshd, "-D", "-e", "-f", s.file("sshd_config"))
	var said lockedBuffer
	cmd.Stderr = &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	started := make(chan error)
	go func() {
		// The signal comes when the thread that started it ends.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			started <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-started
		if t.Failed() {
			t.Logf("sshd said:\n%s", said.String())
		}
	})
	within(t, 10*time.Second, "sshd answers", func() bool {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	writeFile(t, s.file("known"), fmt.Sprintf("[127.0.0.1]:%d %s", s.port, s.read("host.pub")))
	writeFile(t, s.file("changed"), fmt.Sprintf("[127.0.0.1]:%d %s", s.port, s.read("wrong.pub")))
	writeFile(t, s.file("empty"), "")
	s.client("right", "known", "", "")
	t.Setenv("PATH", s.folder+":"+os.Getenv("PATH"))
	return s
}

func (s *sshServer) file(name string) string { return filepath.Join(s.folder, name) }

func (s *sshServer) read(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(s.file(name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// client makes the ssh command: with a key, a file of known hosts, further flags and lines of configuration.
func (s *sshServer) client(key, known, flags, lines string) {
	s.t.Helper()
	writeFile(s.t, s.file("ssh_config"), fmt.Sprintf("IdentityFile %s\nIdentitiesOnly yes\nIdentityAgent none\nUserKnownHostsFile %s\nGlobalKnownHostsFile /dev/null\n%s\n", s.file(key), s.file(known), lines))
	writeFile(s.t, s.file("ssh"), fmt.Sprintf("#!/bin/sh\nexec /usr/bin/ssh -F %s %s \"$@\"\n", s.file("ssh_config"), flags))
	if err := os.Chmod(s.file("ssh"), 0o700); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sshServer) host() field.String {
	return field.String(fmt.Sprintf("ssh://%s@127.0.0.1:%d", s.user, s.port))
}

// children are the ssh processes of this one, the dead included.
func children(t *testing.T) []string {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, file := range stats {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		pid, rest, _ := strings.Cut(string(stat), " (")
		name, rest, _ := strings.Cut(rest, ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == fmt.Sprint(os.Getpid()) && name == "ssh" {
			out = append(out, pid+" "+f[0])
		}
	}
	return out
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder // guarded by mu
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestSSH takes an instance through its life over ssh, many at once too, and leaves no ssh process.
func TestSSH(t *testing.T) {
	each(t, func(t *testing.T, e *testenv.Engine) {
		s := newSSHServer(t, e)
		for name, host := range map[string]field.String{"far side's own": s.host(), "with path": s.host() + field.String(strings.TrimPrefix(e.Host(), "unix://"))} {
			t.Run(name, func(t *testing.T) {
				r := newRig(t, e, field.Object{"docker_host": host})
				ctx, cancel := context.WithCancel(t.Context())
				watching := make(chan error, 1)
				told := make(chan backends.Status, 100)
				go func() { watching <- r.backend.Watch(ctx, nil, func(s backends.Status) { told <- s }) }()
				_, b := r.must(field.Object{"image": field.String(workerImage), "env": field.Object{"WORKER_LOG_LINES": field.String("3")}})
				if st, err := r.backend.Inspect(t.Context(), b.Instance); err != nil || st.State != backends.StateRunning {
					t.Errorf("Inspect gave %+v, %v", st, err)
				}
				untilLine(t, r.backend, b.Instance, "line 3 of 3")
				within(t, 10*time.Second, "Watch tells", func() bool {
					select {
					case st := <-told:
						return st.Instance == b.Instance && st.State == backends.StateRunning
					default:
						return false
					}
				})
				if list, err := r.backend.List(t.Context()); err != nil || len(list) != 1 || list[0].Instance != b.Instance {
					t.Errorf("List gave %+v, %v", list, err)
				}
				if err := r.backend.Stop(t.Context(), b.Instance, backends.StopOptions{}); err != nil {
					t.Error(err)
				}
				if list, err := r.backend.List(t.Context()); err != nil || len(list) != 0 {
					t.Errorf("List gave %+v, %v", list, err)
				}
				if a, err := r.backend.AdvertiseFor(t.Context()); err != nil || a != e.Gateway() {
					t.Errorf("AdvertiseFor gave %q, %v; want %s", a, err, e.Gateway())
				}
				cancel()
				if err := <-watching; err != nil {
					t.Error(err)
				}
				r.backend.Close()
				within(t, 5*time.Second, "the ssh processes end", func() bool { return len(children(t)) == 0 })
			})
		}
		t.Run("cut", func(t *testing.T) {
			r := newRig(t, e, field.Object{"docker_host": s.host()})
			_, b := r.must(field.Object{"image": field.String(workerImage)})
			body, err := r.backend.Logs(t.Context(), b.Instance, backends.LogOptions{Follow: true})
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			for _, c := range children(t) {
				pid, _, _ := strings.Cut(c, " ")
				if out, err := exec.CommandContext(t.Context(), "kill", "-9", pid).CombinedOutput(); err != nil {
					t.Errorf("%v %s", err, out)
				}
			}
			if _, err := io.ReadAll(body); err == nil {
				t.Error("a log that was cut ended well")
			}
			// The next call finds a way of its own.
			if st, err := r.backend.Inspect(t.Context(), b.Instance); err != nil || st.State != backends.StateRunning {
				t.Errorf("Inspect gave %+v, %v", st, err)
			}
		})
		within(t, 5*time.Second, "the ssh processes end", func() bool { return len(children(t)) == 0 })
	})
}

// TestSSHMany: more starts at once than sshd lets in that are not signed in yet.
func TestSSHMany(t *testing.T) {
	e := testenv.Debian(t)
	e.LoadWorkerImage(t, workerImage)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	r := newRig(t, e, field.Object{"docker_host": newSSHServer(t, e).host()})
	var all sync.WaitGroup
	for range 9 {
		a, _ := r.admit(field.Object{"image": field.String(workerImage)})
		all.Go(func() {
			if _, err := r.backend.Start(t.Context(), a, backends.StartOptions{Fill: r.secrets.Fill}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// TestSSHFailures: what goes wrong is told in ssh's own words, soon, and leaves no ssh process.
func TestSSHFailures(t *testing.T) {
	s := newSSHServer(t, testenv.Debian(t))
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	// What would ask somebody at a screen.
	writeFile(t, s.file("askpass"), "#!/bin/sh\nsleep 60\n")
	if err := os.Chmod(s.file("askpass"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSH_ASKPASS", s.file("askpass"))
	t.Setenv("SSH_ASKPASS_REQUIRE", "force")
	t.Setenv("DISPLAY", ":0")
	const final, again = false, true
	for _, c := range []struct {
		name, key, known, flags, lines string
		host                           field.String
		cause, hint                    string
		class                          backends.Class
		retryable                      bool
	}{
		{name: "wrong key", key: "wrong", cause: "Permission denied (publickey)", hint: "needs a key", class: backends.ClassConfig, retryable: final},
		{name: "locked key", key: "locked", cause: "Permission denied (publickey)", hint: "without a passphrase", class: backends.ClassConfig, retryable: final},
		{name: "unknown host", known: "empty", cause: "Host key verification failed", hint: "known_hosts", class: backends.ClassConfig, retryable: final},
		{name: "another host", known: "changed", cause: "Host key verification failed", hint: "another key", class: backends.ClassConfig, retryable: final},
		{name: "no socket", host: s.host() + "/nowhere/docker.sock", cause: "/nowhere/docker.sock", hint: "is docker running", class: backends.ClassInfra, retryable: again},
		{name: "nobody there", host: "ssh://127.0.0.1:1", cause: "Connection refused", class: backends.ClassInfra, retryable: again},
		{name: "no such host", host: "ssh://nowhere.invalid", cause: "Could not resolve hostname nowhere.invalid", class: backends.ClassInfra, retryable: again},
		{name: "silence", flags: "-oConnectTimeout=1", host: field.String("ssh://" + silent.Addr().String()), cause: "timed out", class: backends.ClassInfra, retryable: again},
		{name: "no docker", key: "nodocker", cause: "docker: ", hint: "needs the docker command", class: backends.ClassConfig, retryable: final},
		{name: "not a word", key: "fails", cause: "ssh ended without a word (exit status 3)", class: backends.ClassInfra, retryable: again},
		{name: "talks first", key: "talks", cause: "what answers is no Docker Engine", class: backends.ClassConfig, retryable: final},
		{name: "bad option", lines: "Nonsense yes", cause: "Bad configuration option: nonsense", class: backends.ClassConfig, retryable: final},
		{name: "no ssh", flags: "-", cause: "there is no ssh command", hint: "install", class: backends.ClassConfig, retryable: final},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.flags == "-" {
				t.Setenv("PATH", t.TempDir())
			}
			s.client(or(c.key, "right"), or(c.known, "known"), c.flags, c.lines)
			began := time.Now()
			_, err := connectWith(t, field.Object{"docker_host": or(c.host, s.host())})
			var f *backends.Failure
			if !errors.As(err, &f) {
				t.Fatalf("got %v", err)
			}
			t.Logf("%s (%s, retryable %t; %s)", f.Message, f.Class, f.Retryable, f.Hint)
			if !strings.HasPrefix(f.Message, "cannot connect to docker at ssh://") || !strings.Contains(f.Message, c.cause) || !strings.Contains(f.Hint, c.hint) || f.Class != c.class || f.Retryable != c.retryable {
				t.Errorf("got %+v", f)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %s", took)
			}
			within(t, 5*time.Second, "the ssh processes end", func() bool { return len(children(t)) == 0 })
		})
	}
	t.Run("far side hangs", func(t *testing.T) {
		s.client("hangs", "known", "", "")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		_, err := docker.Kind{}.Connect(ctx, backends.ConnectOptions{Engine: "e1", Settings: field.Object{"docker_host": s.host()}})
		if f := backends.AsFailure(err); f == nil || f.Class != backends.ClassTimeout {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %s", took)
		}
		within(t, 5*time.Second, "the ssh processes end", func() bool { return len(children(t)) == 0 })
	})
}

func or[T ~string](s, otherwise T) T {
	if s == "" {
		return otherwise
	}
	return s
}

func connectWith(t *testing.T, settings field.Object) (backends.Backend, error) {
	t.Helper()
	return docker.Kind{}.Connect(t.Context(), backends.ConnectOptions{Engine: "e-" + strings.ToLower(ulid.Make().String()), Settings: settings})
}
