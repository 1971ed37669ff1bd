package config

import "github.com/latent-engine/latent-engine/engine/field"

// testKinds is a small copy of what a real kind of backend declares.
func testKinds() map[string]Kind {
	str, env := field.Of(field.StringKind), field.MapOf(&field.Type{Kind: field.StringKind, ScalarText: true, Secret: true})
	host := field.NewTable("hostconfig",
		field.Field{Name: "mem_limit", Aliases: []string{"Memory"}, Type: field.Of(field.SizeKind)},
		field.Field{Name: "pids_limit", Type: field.Of(field.IntKind)},
		field.Field{Name: "cap_drop", Type: field.ListOf(str)},
		field.Field{Name: "sysctls", Type: field.MapOf(str)},
	)
	worker := field.NewTable("worker",
		field.Field{Name: "image", Type: str},
		field.Field{Name: "command", Type: field.ListOf(str)},
		field.Field{Name: "hostname", Type: str},
		field.Field{Name: "env", Type: env},
		field.Field{Name: "labels", Type: field.MapOf(str)},
		field.Field{Name: "hostconfig", Type: field.ObjectOf(host)},
		field.Field{Name: "password", Type: &field.Type{Kind: field.StringKind, Secret: true}},
		field.Field{Name: "autopull", Type: field.Of(field.BoolKind)},
		field.Field{Name: "stop_timeout", Type: field.Of(field.DurationKind)},
		field.Field{Name: "lxc_conf", Type: field.Of(field.Any), Retired: "the Engine API has no such field any more"},
	)
	conn := field.NewTable("connection",
		field.Field{Name: "docker_host", Type: str},
		field.Field{Name: "password", Type: &field.Type{Kind: field.StringKind, Secret: true}},
	)
	return map[string]Kind{"docker": {Connection: conn, Worker: worker}}
}
