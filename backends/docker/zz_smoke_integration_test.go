//go:build integration

package docker_test

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/backends/docker"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/policy"
	"github.com/latent-engine/latent-engine/engine/spec"
	"github.com/latent-engine/latent-engine/internal/testenv"
)

type loose struct{ b spec.Bound }

func (l loose) View(b spec.Bound) (spec.View, error) {
	return spec.View{Name: b.ObjectName, Env: b.Identity.Env, Labels: b.Identity.Labels}, nil
}

func TestSmoke(t *testing.T) {
	for _, e := range testenv.Engines(t) {
		t.Run(e.Name, func(t *testing.T) {
			e.LoadWorkerImage(t, "worker:test")
			ctx := context.Background()
			be, err := any(docker.Kind{}).(interface {
				Connect(context.Context, backends.ConnectOptions) (backends.Backend, error)
			}).Connect(ctx, backends.ConnectOptions{Target: "local", Engine: "e1", Settings: field.Object{"docker_host": field.String(e.Host())}})
			if err != nil {
				t.Fatal(err)
			}
			t.Log(be.Info(ctx))
			t.Log(be.AdvertiseFor(ctx))
			go be.Watch(ctx, func(s backends.Status) { t.Log("watch", s.Instance, s.State, s.ExitCode, s.Failure) })
			time.Sleep(200 * time.Millisecond)
			labels := map[string]string{spec.LabelEngine: "e1", spec.LabelInstance: "i1"}
			lo := field.Object{}
			for k, v := range labels {
				lo[k] = field.String(v)
			}
			b := spec.Bound{Plan: spec.Plan{Backend: "docker", Pull: field.Object{"image": field.String("worker:test"), "policy": field.String("missing")},
				Create: field.Object{"name": field.String("w-i1"), "Image": field.String("worker:test"), "Labels": lo, "Env": field.List{field.String("WORKERNAME=w"), field.String("WORKER_SLEEP=1s"), field.String("WORKER_EXIT=3")}}},
				Identity: spec.Identity{Engine: "e1", Instance: "i1", ObjectName: "w-i1", Worker: "t/w", WorkerName: "w", Labels: labels}}
			a, _, err := policy.Judge(ctx, loose{}, b)
			if err != nil {
				t.Fatal(err)
			}
			s, err := be.Start(ctx, a, backends.StartOptions{Progress: func(p backends.Progress) { t.Log(p) }})
			t.Logf("%+v %v", s, err)
			r, err := be.Logs(ctx, "i1", backends.LogOptions{Follow: true, Timestamps: true})
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(r)
			t.Log(string(text), err)
			s, err = be.Inspect(ctx, "i1")
			t.Logf("%+v %v %+v", s, err, s.Failure)
			l, err := be.List(ctx)
			t.Logf("%+v %v", l, err)
			t.Log(be.Stop(ctx, "i1", backends.StopOptions{}))
			t.Log(be.Inspect(ctx, "i1"))
			time.Sleep(300 * time.Millisecond)
		})
	}
}
