package config

import (
	"fmt"
	"strings"
	"testing"
)

// bigFile is 1,000 workers with 8 expressions each, about 1 MB.
func bigFile() []byte {
	var b strings.Builder
	b.WriteString("version: 1\nbackends:\n  local: {docker: {docker_host: unix:///var/run/docker.sock}}\nworkers:\n")
	for i := range 1000 {
		fmt.Fprintf(&b, `  w%d:
    backend: local
    props: {branch: string, tag: "string?", cores: {type: int, default: 2, minimum: 1, maximum: 16}}
    vars: {suffix: "${{ props.branch == 'main' ? 'stable' : 'edge' }}"}
    # %s
    image: registry.corp/ci/linux-%d:${{ vars.suffix }}
    command: ["/bin/sh", -c, 'echo ${{ props.branch }} && sleep 1']
    hostname: "w-${{ string(props.cores) }}"
    env:
      JOBS: ${{ string(props.cores) }}
      BRANCH: "${{ props.branch }}"
      TAG: ${{ props.tag.orValue("none") }}
      PATH: /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
      NOTE: >-
        some longer text that goes over
        two lines
    hostconfig: {mem_limit: "${{ string(props.cores * 2) }}g", cap_drop: [ALL], pids_limit: 1024}
`, i, strings.Repeat("x", 260), i)
	}
	return []byte(b.String())
}

func BenchmarkLoad(b *testing.B) {
	data := bigFile()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		def, list := Load([]Source{{"big.yaml", data}}, Options{Kinds: testKinds()})
		if len(list) > 0 || len(def.Workers) != 1000 {
			b.Fatal(list.Err(), len(def.Workers))
		}
	}
}
