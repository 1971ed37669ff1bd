package cel

import (
	"fmt"
	"testing"
)

func TestGen(t *testing.T) {
	r := newRenderer()
	for _, text := range []string{
		// problems
		``, "  \n ", `props.brnach`, `props["brnach"]`, `props[?"brnach"].orValue("")`, `props.?brnach.orValue("")`, `has(props.brnach)`, `"brnach" in props`, `prps.branch`, `branch`, `math`, `nothing_like_it`,
		`build.nmber`, `worker.nme`, `vars.sufix`, `vars.size.cpuu`, `vars.nothing`, `src["lib"].brnch`, `{"a": 1}.b`, `cel.bind(p, props, p.brnach)`, `props.files.map(f, props.brnach)`, `"é" + props.brnach`, "1 +\n  props.brnach",
		`props[props.branch]`, `props[1]`, `props.branch in props`, `props[?props.branch].orValue("")`, `build[props.branch]`,
		`foo(1)`, `strng(1)`, `now()`, `timestamp("2020-01-01T00:00:00Z")`, `math.foo(1)`, `math.flor(1.0)`, `props.branch.foo()`, `props.branch.uperAscii()`, `string.upperAscii("a")`, `trim("a")`, `"a".str()`, `lists.rang(1)`, `has(1)`, `[1].map(1, 2)`, `[1].map(x)`,
		`props.cores + "x"`, `"x" + props.cores`, `"g" + props.ratio`, `props.cores + props.ratio`, `props.files + "x"`, `props.cores - "x"`, `props.cores * "x"`, `"a" / 2`, `"a" % 2`, `-"a"`, `!props.cores`, `props.cores > "a"`, `props.cores == "8"`, `props.files == "a"`, `1 in "abc"`, `props.files["a"]`, `props.branch[0]`,
		`props.branch.size`, `props.cores ? 1 : 2`, `props.nightly ? 1 : "a"`, `props.nightly ? optional.none() : "x"`, `props.cores && true`, `props.?tag + "x"`, `props.branch.orValue("x")`, `props.?tag.orValue(1)`, `props.cores.map(x, x)`, `props.files.filter(f, f)`, `props.branch.size(1)`, `size()`, `int([1])`, `string(props.files)`, `props.files.join(1)`,
		`floordiv(1, 2.0)`, `"%d".format(["a"])`, `"%s %s".format(["a"])`, `"%q".format(["a"])`, `"a".matches("[")`, `"a".matches("(" + "[")`,
		`[props.cores, 2`, `(1 + 2`, `1 + 2)`, `{"a": 1`, `a b`, `1 +`, `+ 1`, `"abc`, `'abc"`, `props.`, `props..x`, `props = 1`, `true and false`, `if true`, `a & b`, `props.branch ! true`, `$x`, `props.branch == 'a' ?`, `for`, `x.for.in`, `[1,,2]`, `{a}`, `99999999999999999999`, `"\q"`, `/* c */ 1`, `1 // comment`, `@x`, `#`, "`x`",
		`{"a": 1, "a": 2}`, `{1: 2}`, `{props.cores: 2}`, `[1].transformMap(i, v, v)`, `msg.Type{}`, `Type{a: 1}`, `b"abc"`, `[b"abc"]`, `type(1)`, `[type(1)]`,
		`secret()`, `secret(props.branch)`, `secret("a" + "b")`, `secret("")`, `secret("x") + "a"`, `"a" + secret("x")`, `secret("x") == secret("y")`, `secret("x") in ["a"]`, `secret("x") in [secret("x")]`, `dyn(secret("a"))`, `string(secret("a"))`, `str(secret("a"))`, `type(secret("a"))`, `size(secret("a"))`, `[secret("a")].join()`, `"%s".format([secret("a")])`, `truthy(secret("a"))`, `secret("a").b`, `secret("a") ? 1 : 2`, `props.nightly ? secret("a") : "b"`, `[secret("a")] == [secret("a")]`, `{"a": secret("a")} == {}`, `[secret("a")].exists(s, s == "x")`, `str({"a": secret("a")})`, `optional.of(secret("a")) == optional.none()`, `[secret("a")].sort()`, `[secret("a")].distinct()`, `sets.contains([secret("a")], [secret("b")])`, `cel.bind(s, secret("a"), s + "x")`, `vars.pw + "x"`, `vars.pw == "x"`, `secret("a").matches("x")`, `[secret("a")].map(s, str(s))`,
		// errors
		`props.tag + "x"`, `props['my-prop'] + "x"`, `props.n * 2`, `props.list.map(x, x)`, `props.list[0]`, `props.tag.size()`, `props.n > 1`, `props.tag ? 1 : 2`, `props.n in [1]`, `src["zz"].branch`, `src["lib"].branch + "x"`, `worker.info.k`, `worker.info["k"]`, `props.any.z`, `props.any.k.zz`, `props.any + 1`, `1 / 0`, `1 % 0`, `1.0 / 0.0`, `9223372036854775807 + 1`, `-(-9223372036854775807 - 1)`, `int("abc")`, `double("abc")`, `bool("abc")`, `uint(-1)`, `int(1e99)`, `[1, 2][5]`, `dyn({"a": 1}).b`, `dyn({"a": 1})["b"]`, `dyn([1])["b"]`, `"abc".substring(5)`, `"abc".charAt(9)`, `[1].slice(0, 5)`, `[1].first().value() + [].first().value()`, `optional.none().value()`, `[1, dyn("a")].sort()`, `dyn(1) + "a"`, `dyn([1]) + 1`, `dyn(1).map(x, x)`, `dyn(1) && true`, `dyn("a").b`, `dyn(1)(2)`, `{dyn(1): 2}`, `{dyn("a"): 2, dyn("a"): 3}`, `dyn(b"a")`, `[dyn(type(1))]`, `[dyn(1), "a"].join()`, `"%s".format(dyn(["a", "b"]))`, `"%d".format([dyn("a")])`, `"a".matches(props.branch + "[")`, `str([secret("a"), "b"])`, `[secret("a"), "b"] == ["a", "b"]`, `[secret("a"), "b"][0] + "x"`, `[secret("a"), "b"].join()`, `{"a": secret("a"), "b": 1}.exists(k, v, v == 1)`, `[secret("a"), "b"].distinct()`, `[secret("a"), "b"].map(x, truthy(x))`, `"%s".format([[secret("a"), "b"]])`, `math.greatest([])`, `math.greatest([dyn("a")])`, `[1].flatten(-1)`,
	} {
		fmt.Printf("\t\t{%s, %s},\n", goq(text), goq(eval(t, r, text)))
	}
}

func goq(s string) string {
	for _, c := range s {
		if c == '`' || c == '\n' {
			return fmt.Sprintf("%q", s)
		}
	}
	return "`" + s + "`"
}
