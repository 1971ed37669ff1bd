package config_test

import (
	"fmt"
	"os"

	"github.com/latent-engine/latent-engine/engine/config"
	"github.com/latent-engine/latent-engine/engine/diag"
)

func ExampleLoad() {
	files := []config.Source{{Name: "ci.yaml", Data: []byte(`version: 1
backends:
  local: {docker: {docker_host: unix:///var/run/docker.sock}}
workers:
  linux:
    props: {branch: string}
    image: registry.corp/ci/linux:${{ props.branch }}
  linux-big: {extends: linux, count: 2, hostconfig: {mem_limit: 16g}}
`)}}
	def, problems := config.Load(files, config.Options{})
	if err := problems.Err(); err != nil {
		fmt.Println(err)
	}
	for _, w := range def.Workers {
		fmt.Println(w.Name, len(w.Layers))
	}
	image := def.Workers[0].Layers[0].Node.Get("image")
	fmt.Println(image.Segments[1].Source, "at", image.Segments[1].At.At(0))
	// Output:
	// linux 1
	// linux-big-1 2
	// linux-big-2 2
	// props.branch at ci.yaml:7:39
}

func ExampleLoad_problems() {
	files := []config.Source{{Name: "ci.yaml", Data: []byte("version: 1\nwrokers: {}\nworkers: {a: {image: \"${{ props.x\"}}\n")}}
	def, problems := config.Load(files, config.Options{})
	if err := diag.Print(os.Stdout, problems, def.Sources, diag.PrintOptions{}); err != nil {
		fmt.Println(err)
	}
	fmt.Println(diag.Summary(problems, len(files)))
	// Output:
	// ci.yaml:2:1: wrokers: unknown section "wrokers"
	//     2 | wrokers: {}
	//       | ^^^^^^^
	//    did you mean "workers"?
	// ci.yaml:3:11: workers.a.backend: the definition has no backends
	//     3 | workers: {a: {image: "${{ props.x"}}
	//       |           ^
	//    such as backends: {local: {docker: {docker_host: unix:///var/run/docker.sock}}}
	// ci.yaml:3:23: workers.a.image: unterminated "${{"
	//     3 | workers: {a: {image: "${{ props.x"}}
	//       |                       ^^^
	//    end it with "}}"; write "$${{" if the characters "${{" are meant
	// 3 problems in 1 file
}

func ExampleLoadBuild() {
	build, problems := config.LoadBuild("build.json", []byte(`{"version": 1, "properties": {"branch": ["main", "Change"]}}`))
	fmt.Println(build.Properties["branch"].Value, build.Properties["branch"].Source, problems.Err())
	// Output: main Change <nil>
}
