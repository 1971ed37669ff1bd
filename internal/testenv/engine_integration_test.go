//go:build integration

package testenv

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if os.Getenv("TESTENV_TEST_ABANDON") != "" {
		abandon()
	}
	os.Exit(Main(m))
}

// create makes and starts a worker container and returns its id.
func create(t *testing.T, e *Engine, ref string, env []string, hostConfig map[string]any) string {
	t.Helper()
	body, err := json.Marshal(map[string]any{"Image": ref, "Env": env, "HostConfig": hostConfig, "ExposedPorts": map[string]any{"80/tcp": map[string]any{}}, "Labels": map[string]string{"test": t.Name()}})
	if err != nil {
		t.Fatal(err)
	}
	var created struct{ ID string }
	if err := json.Unmarshal(call(t, e, http.MethodPost, "/containers/create", string(body)), &created); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = e.do(context.WithoutCancel(t.Context()), http.MethodDelete, "/containers/"+created.ID+"?force=1", nil, nil)
	})
	call(t, e, http.MethodPost, "/containers/"+created.ID+"/start", "")
	return created.ID
}

func call(t *testing.T, e *Engine, method, path, body string) []byte {
	t.Helper()
	answer, err := e.do(t.Context(), method, path, http.Header{"Content-Type": {"application/json"}}, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// wait waits for a container's end and returns its exit code.
func wait(t *testing.T, e *Engine, id string) int {
	t.Helper()
	var ended struct{ StatusCode int }
	if err := json.Unmarshal(call(t, e, http.MethodPost, "/containers/"+id+"/wait", ""), &ended); err != nil {
		t.Fatal(err)
	}
	return ended.StatusCode
}

type state struct {
	Running, OOMKilled bool
	ExitCode           int
	Pid                int
}

func inspect(t *testing.T, e *Engine, id string) state {
	t.Helper()
	var found struct{ State state }
	if err := json.Unmarshal(call(t, e, http.MethodGet, "/containers/"+id+"/json", ""), &found); err != nil {
		t.Fatal(err)
	}
	return found.State
}

// logs returns what a container without a terminal wrote to both of its outputs.
func logs(t *testing.T, e *Engine, id string) string {
	t.Helper()
	framed := bytes.NewReader(call(t, e, http.MethodGet, "/containers/"+id+"/logs?stdout=1&stderr=1", ""))
	var text strings.Builder
	for {
		var head [8]byte
		if _, err := io.ReadFull(framed, head[:]); err != nil {
			return text.String()
		}
		if _, err := io.CopyN(&text, framed, int64(binary.BigEndian.Uint32(head[4:]))); err != nil {
			t.Fatal(err)
		}
	}
}

// waitForLog waits until a running container has written a text.
func waitForLog(t *testing.T, e *Engine, id, text string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(logs(t, e, id), text); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %q in the log:\n%s", text, logs(t, e, id))
		}
	}
}

func TestEngines(t *testing.T) {
	want := map[string]struct{ version, api, store string }{
		"debian": {"", "", "overlay2"},
		"today":  {"29.", "1.56", "io.containerd.snapshotter.v1"},
	}
	for _, e := range Engines(t) {
		t.Run(e.Name, func(t *testing.T) {
			w := want[e.Name]
			if onOverlay(e.slot.dir) && e.Name == "debian" {
				w.store = "vfs"
			}
			info := string(call(t, e, http.MethodGet, "/info", ""))
			if !strings.HasPrefix(e.Version, w.version) || (w.api != "" && e.APIVersion != w.api) || !strings.Contains(info, w.store) {
				t.Errorf("engine %s, API %s; want %+v; info: %s", e.Version, e.APIVersion, w, info)
			}
			t.Logf("engine %s, API %s, %s", e.Version, e.APIVersion, e.Host())
		})
	}
}

func TestTodayOverlay2(t *testing.T) {
	e := TodayOverlay2(t)
	store := `"Driver":"overlay2"`
	if onOverlay(e.slot.dir) {
		store = `"Driver":"vfs"`
	}
	info := string(call(t, e, http.MethodGet, "/info", ""))
	if !strings.HasPrefix(e.Version, "29.") || !strings.Contains(info, store) || strings.Contains(info, "io.containerd.snapshotter.v1") {
		t.Errorf("engine %s; info: %s", e.Version, info)
	}
}

// TestRestartWith: an argument counts until the test ends.
func TestRestartWith(t *testing.T) {
	e := Debian(t)
	labelled := func(t *testing.T) bool {
		return strings.Contains(string(call(t, e, http.MethodGet, "/info", "")), "latent.test=1")
	}
	t.Run("with", func(t *testing.T) {
		e.RestartWith(t, "--label=latent.test=0")
		e.RestartWith(t, "--label=latent.test=1")
		if !labelled(t) {
			t.Error("the argument is not there")
		}
	})
	if labelled(t) {
		t.Error("the argument is there after its test")
	}
}

func TestWorker(t *testing.T) {
	const password = "zaeXe4ohquoo"
	for _, e := range Engines(t) {
		t.Run(e.Name, func(t *testing.T) {
			e.LoadWorkerImage(t, "worker:test")
			if first, again := e.LoadWorkerImage(t, "worker:test"), e.LoadWorkerImage(t, "other.example/worker:1"); first != again {
				t.Errorf("the same image has ids %s and %s", first, again)
			}
			listener, err := net.Listen("tcp", net.JoinHostPort(e.Gateway(), "0"))
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			_, port, _ := net.SplitHostPort(listener.Addr().String())

			tests := []struct {
				name       string
				env        []string
				hostConfig map[string]any
				stop       bool // ask it to stop, with a second's grace, when it has written `log`
				code       int
				oom        bool
				log        string
			}{
				{name: "exit", env: []string{"WORKER_EXIT=3", "WORKER_SLEEP=10ms", "WORKER_LOG_LINES=2"}, code: 3, log: "line 2 of 2\n"},
				{name: "oom", env: []string{"WORKER_OOM=1"}, hostConfig: map[string]any{"Memory": 32 << 20, "MemorySwap": 32 << 20}, code: 137, oom: true, log: "allocating memory"},
				{name: "stop", stop: true, code: 0, log: "running until told to stop"},
				{name: "stop with init", hostConfig: map[string]any{"Init": true}, stop: true, code: 0, log: "running until told to stop"},
				{name: "stubborn", env: []string{"WORKER_STUBBORN=1"}, stop: true, code: 137, log: "running until told to stop"},
				{name: "dial", env: []string{"WORKER_DIAL=1", "BUILDMASTER=" + e.Gateway(), "BUILDMASTER_PORT=" + port}, stop: true, code: 0, log: "Connected to " + e.Gateway() + ":" + port + "; worker is ready"},
				{name: "dial nobody", env: []string{"WORKER_DIAL=1", "BUILDMASTER=" + e.Gateway(), "BUILDMASTER_PORT=1"}, code: 1, log: "cannot connect to"},
			}
			for _, test := range tests {
				t.Run(test.name, func(t *testing.T) {
					containersBefore, imagesBefore := e.Objects(t, "")
					id := create(t, e, "worker:test", append(test.env, "WORKERNAME=w1", "WORKERPASS="+password), test.hostConfig)
					if containers, _ := e.Objects(t, "test="+t.Name()); !slices.Equal(containers, []string{id}) {
						t.Errorf("containers with the label: %v; want %s", containers, id)
					}
					if test.stop {
						waitForLog(t, e, id, test.log)
						call(t, e, http.MethodPost, "/containers/"+id+"/stop?t=1", "")
					}
					if code := wait(t, e, id); code != test.code {
						t.Errorf("exit code %d; want %d", code, test.code)
					}
					s := inspect(t, e, id)
					// The kernel's two reports race in containerd: the exit may be known first.
					for deadline := time.Now().Add(3 * time.Second); s.OOMKilled != test.oom && time.Now().Before(deadline); s = inspect(t, e, id) {
						t.Log("OOMKilled is not set yet")
						time.Sleep(100 * time.Millisecond)
					}
					if s.OOMKilled != test.oom || s.Running {
						t.Errorf("state %+v; want OOMKilled %v", s, test.oom)
					}
					text := logs(t, e, id)
					// Not a prefix: an engine does not keep the order between the two outputs.
					if !strings.Contains(text, `starting worker "w1"; environment: `) || !strings.Contains(text, "WORKERPASS") || !strings.Contains(text, test.log) {
						t.Errorf("log:\n%s", text)
					}
					if strings.Contains(text, password) {
						t.Errorf("the password is in the log:\n%s", text)
					}
					call(t, e, http.MethodDelete, "/containers/"+id, "")
					containers, images := e.Objects(t, "")
					if !slices.Equal(containers, containersBefore) || !slices.Equal(images, imagesBefore) {
						t.Errorf("left behind: containers %v, images %v; before: %v, %v", containers, images, containersBefore, imagesBefore)
					}
				})
			}
		})
	}
}

func TestRestart(t *testing.T) {
	for _, e := range Engines(t) {
		t.Run(e.Name, func(t *testing.T) {
			image := e.LoadWorkerImage(t, "worker:test")
			restart := map[string]func(){
				"in order":    func() { e.Restart(t) },
				"after crash": func() { e.Kill(t); e.Start(t) },
			}
			for name, restart := range restart {
				id := create(t, e, "worker:test", nil, nil)
				before := inspect(t, e, id)
				if !before.Running {
					t.Fatalf("%s: the container does not run", name)
				}
				restart()
				if s := inspect(t, e, id); s.Running {
					t.Errorf("%s: the container runs on: %+v", name, s)
				}
				if alive(before.Pid) {
					t.Errorf("%s: process %d of the container runs on", name, before.Pid)
				}
				if again := e.LoadWorkerImage(t, "worker:test"); again != image {
					t.Errorf("%s: image %s is now %s", name, image, again)
				}
			}
			e.Stop(t)
			if _, err := e.do(t.Context(), http.MethodGet, "/_ping", nil, nil); err == nil {
				t.Error("a stopped engine answers")
			}
			e.Start(t)
			call(t, e, http.MethodGet, "/_ping", "")
		})
	}
}

func alive(pid int) bool {
	return !isZombie(strconv.Itoa(pid))
}

func TestNetworks(t *testing.T) {
	for _, e := range Engines(t) {
		t.Run(e.Name, func(t *testing.T) {
			e.LoadWorkerImage(t, "worker:test")
			id := create(t, e, "worker:test", nil, map[string]any{"PortBindings": map[string]any{"80/tcp": []any{map[string]string{"HostIp": "127.0.0.1"}}}})
			var found struct {
				NetworkSettings struct {
					Ports map[string][]struct{ HostPort string }
				}
			}
			if err := json.Unmarshal(call(t, e, http.MethodGet, "/containers/"+id+"/json", ""), &found); err != nil {
				t.Fatal(err)
			}
			ports := found.NetworkSettings.Ports["80/tcp"]
			if len(ports) != 1 {
				t.Fatalf("published ports: %v; want 1", ports)
			}
			conn, err := net.Dial("tcp", "127.0.0.1:"+ports[0].HostPort)
			if err != nil {
				t.Fatalf("nobody listens on the published port: %v", err)
			}
			conn.Close()

			before := e.Networks(t, "")
			call(t, e, http.MethodPost, "/networks/create", `{"Name": "one", "Labels": {"test": "networks"}}`)
			call(t, e, http.MethodPost, "/volumes/create", `{"Name": "vol", "Labels": {"test": "networks"}}`)
			if n, v := e.Networks(t, "test=networks"), e.Volumes(t, "test=networks"); len(n) != 1 || !slices.Equal(v, []string{"vol"}) || len(e.Networks(t, "")) != len(before)+1 {
				t.Errorf("networks %v, volumes %v; want one each", n, v)
			}
			// The engine's own name server: a container finds another by its short id.
			peer := create(t, e, "worker:test", nil, map[string]any{"NetworkMode": "one"})
			asker := create(t, e, "worker:test", []string{"WORKER_DIAL=1", "BUILDMASTER=" + peer[:12], "BUILDMASTER_PORT=1"}, map[string]any{"NetworkMode": "one"})
			wait(t, e, asker)
			if text := logs(t, e, asker); !strings.Contains(text, "connection refused") {
				t.Errorf("the peer's name leads nowhere:\n%s", text)
			}
			for _, id := range []string{peer, asker} {
				call(t, e, http.MethodDelete, "/containers/"+id+"?force=1", "")
			}
			call(t, e, http.MethodDelete, "/networks/one", "")
			call(t, e, http.MethodDelete, "/volumes/vol", "")
			if after := e.Networks(t, ""); !slices.Equal(before, after) {
				t.Errorf("networks before %v, after %v", before, after)
			}
		})
	}
}

func TestTCP(t *testing.T) {
	e := Engines(t)[0]
	e.LoadWorkerImage(t, "worker:test")
	addr, ca, cert, key := e.TCP(t)
	authority, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(authority) {
		t.Fatal("the CA file holds no certificate")
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	get := func(config *tls.Config) error {
		client := http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
		response, err := client.Get("https://" + addr + "/_ping")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if body, _ := io.ReadAll(response.Body); string(body) != "OK" {
			return fmt.Errorf("%s: %s", response.Status, body)
		}
		return nil
	}
	if err := get(&tls.Config{RootCAs: trusted, Certificates: []tls.Certificate{pair}}); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	if get(&tls.Config{RootCAs: trusted}) == nil {
		t.Error("a client without a certificate is let in")
	}
	if get(&tls.Config{Certificates: []tls.Certificate{pair}}) == nil {
		t.Error("a client that does not know the CA trusts it")
	}
	// A hijacked connection: attach, through the docker command, which also checks the names.
	t.Run("docker command", func(t *testing.T) {
		docker, err := exec.LookPath("docker")
		if err != nil {
			Missing(t, "the docker command", err)
		}
		cmd := exec.CommandContext(t.Context(), docker, "run", "--rm", "-e", "WORKER_EXIT=0", "worker:test")
		cmd.Env = append(os.Environ(), "DOCKER_HOST=tcp://"+addr, "DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH="+filepath.Dir(ca), "DOCKER_CONFIG="+t.TempDir())
		output, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(output), "starting worker") {
			t.Errorf("docker run: %v\n%s", err, output)
		}
	})
}

func TestDockerCommand(t *testing.T) {
	for _, e := range Engines(t) {
		t.Run(e.Name, func(t *testing.T) {
			e.LoadWorkerImage(t, "worker:test")
			if output := e.Docker(t, "run", "--rm", "-e", "WORKER_EXIT=0", "worker:test"); !strings.HasPrefix(output, "starting worker") {
				t.Errorf("docker run: %s", output)
			}
		})
	}
}

// abandon is the other test binary of TestAbandoned: it starts an engine with a worker, says what
// runs, and waits to be killed.
func abandon() {
	testing.Init()
	testing.Main(nil, []testing.InternalTest{{Name: "abandon", F: func(t *testing.T) {
		e := Debian(t)
		e.LoadWorkerImage(t, "worker:test")
		id := create(t, e, "worker:test", nil, nil)
		fmt.Println("abandoned", e.slot.dir, e.dockerd.cmd.Process.Pid, e.containerd.cmd.Process.Pid, inspect(t, e, id).Pid)
		select {}
	}}}, nil, nil)
}

// TestAbandoned kills a test binary that has an engine, and expects the engine and its containers
// to end by themselves, and what is left to be removed by whoever takes the slot.
func TestAbandoned(t *testing.T) {
	if e := Debian(t); e == nil {
		t.Fatal("no engine")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), "TESTENV_TEST_ABANDON=1")
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var dir string
	pids := make([]int, 3)
	lines := bufio.NewScanner(output)
	for dir == "" && lines.Scan() {
		if strings.HasPrefix(lines.Text(), "abandoned ") {
			if _, err := fmt.Sscanf(lines.Text(), "abandoned %s %d %d %d", &dir, &pids[0], &pids[1], &pids[2]); err != nil {
				t.Fatal(err)
			}
		} else {
			t.Log(lines.Text())
		}
	}
	for _, pid := range pids {
		if dir == "" || !alive(pid) {
			t.Fatalf("the other test binary runs no engine: %q, processes %v", dir, pids)
		}
	}
	marker := filepath.Join(dir, "data", "engine-id-of-the-dead")
	if err := os.WriteFile(marker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	started := time.Now()
	for slices.ContainsFunc(pids, alive) {
		if time.Since(started) > 40*time.Second {
			t.Fatalf("processes %v (dockerd, containerd, worker) still run", slices.DeleteFunc(pids, func(p int) bool { return !alive(p) }))
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("all ended after %v", time.Since(started).Round(time.Millisecond))

	// Another test binary may be faster to take the slot; then it is that one that removes.
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		s, err := takeSlot()
		if err != nil {
			t.Fatal(err)
		}
		_, err = os.Stat(marker)
		if err := s.giveBack(); err != nil {
			t.Error(err)
		}
		if os.IsNotExist(err) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the data of the dead engine is still there: %s", marker)
		}
	}
}
