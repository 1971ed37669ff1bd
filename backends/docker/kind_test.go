package docker_test

import (
	"fmt"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/backends/docker"
	"github.com/latent-engine/latent-engine/engine/field"
)

func ExampleNew() {
	k := docker.New()
	plan, problems := k.Convert(backends.ConvertInput{Target: "local", Worker: "linux", Fields: field.Object{
		"image":      field.String("alpine:3"),
		"hostconfig": field.Object{"mem_limit": field.Int(512 << 20)},
	}})
	fmt.Println(len(problems), plan.Endpoint, plan.Pull["policy"])
	fmt.Println(plan.Create["Image"], plan.Create["HostConfig"].(field.Object)["Memory"])
	fmt.Println(k.ObjectName("linux", "01JD8Z3K5V0000000000000000"))
	// Output:
	// 0 unix:///var/run/docker.sock missing
	// alpine:3 536870912
	// linux-01jd8z3k5v0000000000000000
}
