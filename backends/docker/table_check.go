package docker

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/spec"
)

// The checks below refine values that have the right shape already. Each leaves the canonical form, and takes that form
// again unchanged: a value may be checked once at load and once more after a merge.

func checkNoNUL(v field.Value) (field.Value, error) {
	if strings.IndexByte(string(v.(field.String)), 0) >= 0 {
		return nil, errors.New("a NUL byte cannot stand here")
	}
	return v, nil
}

// Connections.

func checkDockerHost(v field.Value) (field.Value, error) {
	s := string(v.(field.String))
	if rest, ok := strings.CutPrefix(s, "http+unix://"); ok {
		s = "unix://" + rest
	}
	if !strings.Contains(s, "://") && strings.Contains(s, ":") {
		s = "tcp://" + s
	}
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return nil, fmt.Errorf("%q is not an address such as %s or tcp://host:2376", s, DefaultHost)
	}
	switch scheme {
	case "unix":
		if rest == "" {
			return nil, fmt.Errorf("%q has no path", s)
		}
		if rest[0] != '/' { // docker-py's unix://var/run/docker.sock
			rest = "/" + rest
		}
		s = "unix://" + rest
	case "npipe":
		if rest == "" {
			return nil, fmt.Errorf("%q has no path", s)
		}
	case "tcp", "http", "https", "ssh":
		u, err := url.Parse(s)
		if err != nil || u.Hostname() == "" {
			return nil, fmt.Errorf("%q is not an address such as tcp://host:2376", s)
		}
		if _, secret := u.User.Password(); secret || u.User != nil && scheme != "ssh" {
			return nil, errors.New("an address cannot hold a credential")
		}
		if scheme == "tcp" && u.Port() == "" {
			return nil, fmt.Errorf("%q has no port (2375 is usual, 2376 with TLS)", s)
		}
		if p := u.Port(); p != "" {
			if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
				return nil, fmt.Errorf("%q has no port between 1 and 65535", s)
			}
		}
	default:
		return nil, fmt.Errorf("%q has an unknown scheme: use unix, tcp, http, https, ssh or npipe", s)
	}
	if strings.ContainsAny(s, " \t\r\n\x00") {
		return nil, fmt.Errorf("%q holds a blank", s)
	}
	return field.String(s), nil
}

func checkAPIVersion(v field.Value) (field.Value, error) {
	s := string(v.(field.String))
	major, minor, ok := strings.Cut(s, ".")
	if s != "auto" && (!ok || !digits(major) || !digits(minor)) {
		return nil, fmt.Errorf("%q is not an API version such as \"1.41\", nor \"auto\"", s)
	}
	return v, nil
}

func checkTLSFlag(v field.Value) (field.Value, error) {
	if !v.(field.Bool) {
		return nil, errors.New("without TLS there is no tls: leave it out")
	}
	return field.Object{"verify": field.Bool(true)}, nil
}

func clientCertFromList(v field.Value) (field.Value, error) {
	l := v.(field.List)
	return field.Object{"cert": l[0], "key": l[1]}, nil
}

func checkMaster(v field.Value) (field.Value, error) {
	if _, _, err := spec.ParseMaster(string(v.(field.String))); err != nil {
		return nil, err
	}
	return v, nil
}

// Workers.

func checkPassword(v field.Value) (field.Value, error) {
	if s := string(v.(field.String)); s == "" || strings.ContainsAny(s, "\x00\r\n") {
		return nil, errors.New("a password has at least one character, and neither a line break nor a NUL byte")
	}
	return v, nil
}

func checkEncoding(v field.Value) (field.Value, error) {
	if v == field.String("bzip") {
		return field.String("bzip2"), nil
	}
	return v, nil
}

func checkTarget(v field.Value) (field.Value, error) {
	if s := string(v.(field.String)); s == "" || strings.ContainsAny(s, " \t\r\n\x00") {
		return nil, fmt.Errorf("%q is not the name of a stage", s)
	}
	return v, nil
}

func checkEnv(v field.Value) (field.Value, error) { return checkNames(v, "an environment variable") }

func checkBuildArgs(v field.Value) (field.Value, error) { return checkNames(v, "a build argument") }

func checkNames(v field.Value, what string) (field.Value, error) {
	var bad []string
	for k := range v.(field.Object) {
		if k == "" || strings.ContainsAny(k, "=\x00") {
			bad = append(bad, k)
		}
	}
	slices.Sort(bad)
	var wrong []error
	for _, k := range bad {
		wrong = append(wrong, field.AtKey(k, fmt.Errorf("%q is not a name for %s: it must not be empty and not hold \"=\" or a NUL byte", k, what)))
	}
	return v, errors.Join(wrong...)
}

func checkLabelKeys(v field.Value) (field.Value, error) {
	for _, k := range slices.Sorted(maps.Keys(v.(field.Object))) {
		if k == "" || strings.IndexByte(k, 0) >= 0 {
			return nil, field.AtKey(k, errors.New("a label's key must not be empty and not hold a NUL byte"))
		}
	}
	return v, nil
}

func checkHostname(v field.Value) (field.Value, error) {
	s := string(v.(field.String))
	ok := s != "" && len(s) <= 253 && alnum(s[0])
	for i := 0; ok && i < len(s); i++ {
		ok = alnum(s[i]) || s[i] == '-' || s[i] == '_' || s[i] == '.'
	}
	if !ok {
		return nil, fmt.Errorf("%q is not a host name: letters, digits, \"-\", \"_\" and \".\", a letter or digit first, at most 253", s)
	}
	return v, nil
}

func checkUser(v field.Value) (field.Value, error) {
	s := string(v.(field.String))
	user, group, hasGroup := strings.Cut(s, ":")
	if user == "" || hasGroup && group == "" || strings.ContainsAny(s, " \t\r\n\x00") || strings.Contains(group, ":") {
		return nil, fmt.Errorf("%q is not a user or user:group", s)
	}
	return v, nil
}

func checkContainerPath(v field.Value) (field.Value, error) {
	s := string(v.(field.String))
	switch {
	case strings.IndexByte(s, 0) >= 0:
		return nil, errors.New("a NUL byte cannot stand here")
	case windowsPath(s):
		return v, nil
	case !strings.HasPrefix(s, "/"):
		return nil, fmt.Errorf("%q is not an absolute path", s)
	}
	return field.String(path.Clean(s)), nil
}

func checkSignal(v field.Value) (field.Value, error) {
	s := string(v.(field.String))
	for i := range len(s) {
		if !alnum(s[i]) && s[i] != '+' && s[i] != '-' {
			s = ""
			break
		}
	}
	if s == "" {
		return nil, fmt.Errorf("%q is not a signal such as SIGTERM", string(v.(field.String)))
	}
	return v, nil
}

func checkPlatform(v field.Value) (field.Value, error) {
	s := string(v.(field.String))
	parts := strings.Split(s, "/")
	ok := len(parts) <= 3
	for _, p := range parts {
		ok = ok && p != "" && strings.Trim(strings.ToLower(p), "abcdefghijklmnopqrstuvwxyz0123456789_.-") == ""
	}
	if !ok {
		return nil, fmt.Errorf("%q is not a platform such as linux/arm64", s)
	}
	return field.String(strings.ToLower(s)), nil
}

// checkPort is the key of ports and port_bindings: port or port/protocol.
func checkPort(v field.Value) (field.Value, error) {
	s := string(v.(field.String))
	port, proto, hasProto := strings.Cut(s, "/")
	if !hasProto {
		proto = "tcp"
	}
	proto = strings.ToLower(proto)
	n, err := strconv.Atoi(port)
	if err != nil || !digits(port) || n < 1 || n > 65535 || proto != "tcp" && proto != "udp" && proto != "sctp" {
		return nil, fmt.Errorf("%q is not a port such as 2222 or \"2222/udp\"", s)
	}
	return field.String(strconv.Itoa(n) + "/" + proto), nil
}

func commandFromText(v field.Value) (field.Value, error) {
	words, err := splitCommand(string(v.(field.String)))
	if err != nil {
		return nil, err
	}
	l := make(field.List, len(words))
	for i, w := range words {
		l[i] = field.String(w)
	}
	return l, nil
}

func healthTestFromText(v field.Value) (field.Value, error) {
	if v.(field.String) == "" {
		return nil, errors.New("the command is empty")
	}
	return field.List{field.String("CMD-SHELL"), v}, nil
}

func checkHealthTest(v field.Value) (field.Value, error) {
	l := v.(field.List)
	if len(l) == 0 {
		return v, nil
	}
	n := 0
	switch l[0] {
	case field.String("NONE"):
		n = 1
	case field.String("CMD-SHELL"):
		n = 2
	case field.String("CMD"):
		n = max(len(l), 2)
	}
	if n != len(l) {
		return nil, errors.New("a check is [CMD, program, argument …], [CMD-SHELL, text], [NONE] or []")
	}
	return v, nil
}

func uniqueStrings(v field.Value) (field.Value, error) {
	l := v.(field.List)
	var wrong []error
	for i, e := range l {
		if slices.Contains(l[:i], e) {
			wrong = append(wrong, field.AtIndex(i, fmt.Errorf("%q is given twice", string(e.(field.String)))))
		}
	}
	return v, errors.Join(wrong...)
}

// Networks.

func checkNetworkName(v field.Value) (field.Value, error) {
	s := string(v.(field.String))
	switch s {
	case "host", "none", "default":
		return nil, fmt.Errorf("%q is not a network to join but a mode: hostconfig.network_mode", s)
	}
	if !objectName(s) {
		return nil, fmt.Errorf("%q is not the name of a network", s)
	}
	return v, nil
}

func checkNetworkMap(v field.Value) (field.Value, error) {
	var wrong []error
	for _, k := range slices.Sorted(maps.Keys(v.(field.Object))) {
		if _, err := checkNetworkName(field.String(k)); err != nil {
			wrong = append(wrong, field.AtKey(k, err))
		}
	}
	return v, errors.Join(wrong...)
}

func checkNetworkMode(v field.Value) (field.Value, error) {
	s := string(v.(field.String))
	if name, ok := strings.CutPrefix(s, "container:"); ok && objectName(name) || objectName(s) {
		return v, nil
	}
	return nil, fmt.Errorf("%q is not bridge, none, host, container:NAME or the name of a network", s)
}

// namespaceCheck takes one of words, or, unless only words are taken, container:NAME.
func namespaceCheck(only bool, words ...string) func(field.Value) (field.Value, error) {
	return func(v field.Value) (field.Value, error) {
		s := string(v.(field.String))
		if name, ok := strings.CutPrefix(s, "container:"); slices.Contains(words, s) || !only && ok && objectName(name) {
			return v, nil
		}
		want := strings.Join(words, ", ")
		switch {
		case !only && want != "":
			want += " or container:NAME"
		case !only:
			want = "container:NAME"
		}
		return nil, fmt.Errorf("%q is not %s", s, want)
	}
}

func checkIP(v field.Value) (field.Value, error) {
	a, err := netip.ParseAddr(string(v.(field.String)))
	if err != nil {
		return nil, fmt.Errorf("%q is not an IP address", string(v.(field.String)))
	}
	return field.String(a.String()), nil
}

func checkIPv4(v field.Value) (field.Value, error) {
	if a, err := netip.ParseAddr(string(v.(field.String))); err != nil || !a.Is4() || a.IsUnspecified() {
		return nil, fmt.Errorf("%q is not an IPv4 address", string(v.(field.String)))
	}
	return v, nil
}

func checkIPv6(v field.Value) (field.Value, error) {
	a, err := netip.ParseAddr(string(v.(field.String)))
	if err != nil || !a.Is6() || a.Is4In6() || a.IsUnspecified() || a.Zone() != "" {
		return nil, fmt.Errorf("%q is not an IPv6 address", string(v.(field.String)))
	}
	return field.String(a.String()), nil
}

func checkMAC(v field.Value) (field.Value, error) {
	m, err := net.ParseMAC(string(v.(field.String)))
	if err != nil || len(m) != 6 {
		return nil, fmt.Errorf("%q is not a MAC address such as 02:42:ac:11:00:02", string(v.(field.String)))
	}
	return field.String(m.String()), nil
}

func checkLink(v field.Value) (field.Value, error) {
	s := string(v.(field.String))
	name, alias, hasAlias := strings.Cut(s, ":")
	if !objectName(strings.TrimPrefix(name, "/")) || hasAlias && !objectName(alias) {
		return nil, fmt.Errorf("%q is not a link such as database:db", s)
	}
	return v, nil
}

func linksFromMap(v field.Value) (field.Value, error) {
	return listFromMap(v.(field.Object), func(name, alias string) (field.Value, error) {
		return checkLink(field.String(name + ":" + alias))
	})
}

func checkExtraHost(v field.Value) (field.Value, error) {
	s := string(v.(field.String))
	name, addr, ok := strings.Cut(s, ":")
	addr = strings.TrimSuffix(strings.TrimPrefix(addr, "["), "]")
	if _, err := checkHostname(field.String(name)); !ok || err != nil {
		return nil, fmt.Errorf("%q is not a host and its address, such as db:10.0.0.5", s)
	}
	if addr == "host-gateway" {
		return v, nil
	}
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return nil, fmt.Errorf("%q has no IP address after the host name", s)
	}
	return field.String(name + ":" + a.String()), nil
}

func extraHostsFromMap(v field.Value) (field.Value, error) {
	return listFromMap(v.(field.Object), func(name, addr string) (field.Value, error) {
		if strings.Contains(name, ":") {
			return nil, fmt.Errorf("%q is not a host name", name)
		}
		return checkExtraHost(field.String(name + ":" + addr))
	})
}

// listFromMap makes the API's list of a docker-py map of strings, in the order of the keys.
func listFromMap(o field.Object, entry func(key, value string) (field.Value, error)) (field.Value, error) {
	l := make(field.List, 0, len(o))
	var wrong []error
	for _, k := range slices.Sorted(maps.Keys(o)) {
		s, _ := o[k].(field.String)
		e, err := entry(k, string(s))
		if err != nil {
			wrong = append(wrong, field.AtEntry(k, err))
			continue
		}
		l = append(l, e)
	}
	return l, errors.Join(wrong...)
}

func checkPortBindings(v field.Value) (field.Value, error) {
	o := v.(field.Object)
	out := make(field.Object, len(o))
	var wrong []error
	for _, k := range slices.Sorted(maps.Keys(o)) {
		port, err := checkPort(field.String(k))
		if err != nil {
			wrong = append(wrong, field.AtKey(k, err))
			continue
		}
		key := string(port.(field.String))
		if _, twice := out[key]; twice {
			wrong = append(wrong, field.AtKey(k, fmt.Errorf("port %s is given twice", key)))
			continue
		}
		list, several := o[k].(field.List)
		if several = several && !addressPair(list); !several {
			list = field.List{o[k]}
		}
		bindings := make(field.List, len(list))
		for i, e := range list {
			if bindings[i], err = portBinding(e); err == nil {
				continue
			}
			at := field.JoinPath("", k)
			if several {
				at = field.IndexPath(at, i)
			}
			wrong = append(wrong, &field.PlaceError{Path: at, Err: err})
		}
		out[key] = bindings
	}
	return out, errors.Join(wrong...)
}

// addressPair tells docker-py's tuple (address, port), which a definition can write only as a list, from a list of bindings.
func addressPair(l field.List) bool {
	if len(l) == 0 || len(l) > 2 {
		return false
	}
	s, ok := l[0].(field.String)
	if !ok {
		return false
	}
	if _, err := netip.ParseAddr(string(s)); err != nil {
		return false
	}
	if len(l) == 1 {
		return true
	}
	switch p := l[1].(type) {
	case nil, field.Int:
		return true
	case field.String:
		return p == "" || hostPort(string(p))
	}
	return false
}

func portBinding(v field.Value) (field.Value, error) {
	var ip, port string
	switch v := v.(type) {
	case nil:
	case field.Int:
		port = strconv.FormatInt(int64(v), 10)
	case field.String:
		switch s := string(v); {
		case hostPort(s):
			port = s
		default:
			if _, err := netip.ParseAddr(s); err == nil {
				ip = s
				break
			}
			i := strings.LastIndexByte(s, ':')
			if i < 0 {
				return nil, fmt.Errorf("%q is neither a port nor address:port", s)
			}
			ip, port = strings.TrimSuffix(strings.TrimPrefix(s[:i], "["), "]"), s[i+1:]
		}
	case field.List:
		if !addressPair(v) {
			return nil, errors.New("a list of bindings holds ports, texts, maps and [address, port]")
		}
		ip = string(v[0].(field.String))
		if len(v) == 2 {
			switch p := v[1].(type) {
			case field.Int:
				port = strconv.FormatInt(int64(p), 10)
			case field.String:
				port = string(p)
			}
		}
	case field.Object:
		p, _ := v["HostPort"].(field.String)
		a, _ := v["HostIp"].(field.String)
		ip, port = string(a), string(p)
	default:
		return nil, fmt.Errorf("%s is not a binding", field.KindName(v))
	}
	if port != "" && !hostPort(port) {
		return nil, fmt.Errorf("%q is not a port or a range of ports", port)
	}
	out := field.Object{"HostPort": field.String(port)}
	if ip != "" {
		a, err := netip.ParseAddr(ip)
		if err != nil {
			return nil, fmt.Errorf("%q is not an IP address", ip)
		}
		out["HostIp"] = field.String(a.String())
	}
	return out, nil
}

// hostPort is a port or a range of ports, 0 included: the engine chooses then.
func hostPort(s string) bool {
	low, high, isRange := strings.Cut(s, "-")
	a, err := strconv.Atoi(low)
	if err != nil || !digits(low) || a > 65535 {
		return false
	}
	if !isRange {
		return true
	}
	b, err := strconv.Atoi(high)
	return err == nil && digits(high) && b <= 65535 && a <= b
}

// Rights and resources.

// checkCapabilities writes capabilities as the Engine API does: upper case, with CAP_, once each, sorted.
func checkCapabilities(v field.Value) (field.Value, error) {
	l := v.(field.List)
	out := make([]string, 0, len(l))
	var wrong []error
	for i, e := range l {
		c := strings.ToUpper(string(e.(field.String)))
		if c != "ALL" && !strings.HasPrefix(c, "CAP_") {
			c = "CAP_" + c
		}
		if strings.Trim(c, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
			wrong = append(wrong, field.AtIndex(i, fmt.Errorf("%q is not a capability", string(e.(field.String)))))
		}
		out = append(out, c)
	}
	if wrong != nil {
		return nil, errors.Join(wrong...)
	}
	slices.Sort(out)
	out = slices.Compact(out)
	list := make(field.List, len(out))
	for i, c := range out {
		list[i] = field.String(c)
	}
	return list, nil
}

func deviceFromText(v field.Value) (field.Value, error) {
	s := string(v.(field.String))
	parts := strings.Split(s, ":")
	if len(parts) > 3 {
		return nil, fmt.Errorf("%q is not a device such as /dev/fuse:/dev/fuse:rwm", s)
	}
	o := field.Object{"PathOnHost": field.String(parts[0])}
	if len(parts) > 1 && parts[1] != "" {
		o["PathInContainer"] = field.String(parts[1])
	}
	if len(parts) > 2 {
		if _, err := checkDevicePermissions(field.String(parts[2])); err != nil {
			return nil, err
		}
		o["CgroupPermissions"] = field.String(parts[2])
	}
	return checkDevice(o)
}

// checkDevice fills in what docker-py fills in: the same path inside, all permissions.
func checkDevice(v field.Value) (field.Value, error) {
	o := v.(field.Object)
	on, _ := o["PathOnHost"].(field.String)
	in, ok := o["PathInContainer"].(field.String)
	if !ok {
		in = on
	}
	permissions, ok := o["CgroupPermissions"].(field.String)
	if !ok {
		permissions = "rwm"
	}
	for _, p := range []field.String{on, in} {
		if !strings.HasPrefix(string(p), "/") && !strings.HasPrefix(string(p), "class/") {
			return nil, fmt.Errorf("%q is not the path of a device", string(p))
		}
	}
	return field.Object{"PathOnHost": cleaned(on), "PathInContainer": cleaned(in), "CgroupPermissions": permissions}, nil
}

func cleaned(p field.String) field.String {
	if strings.HasPrefix(string(p), "/") {
		return field.String(path.Clean(string(p)))
	}
	return p
}

func checkDevicePermissions(v field.Value) (field.Value, error) {
	s := string(v.(field.String))
	if s == "" || strings.Trim(s, "rwm") != "" || len(s) > 3 {
		return nil, fmt.Errorf("%q is not a choice of r, w and m", s)
	}
	return v, nil
}

func checkDeviceRule(v field.Value) (field.Value, error) {
	s := string(v.(field.String))
	f := strings.Split(s, " ")
	number := func(n string) bool { return n == "*" || digits(n) }
	if len(f) == 3 && (f[0] == "a" || f[0] == "b" || f[0] == "c") {
		major, minor, ok := strings.Cut(f[1], ":")
		if _, err := checkDevicePermissions(field.String(f[2])); ok && number(major) && number(minor) && err == nil {
			return v, nil
		}
	}
	return nil, fmt.Errorf("%q is not a rule such as \"c 13:* rwm\"", s)
}

func checkBlkioWeight(v field.Value) (field.Value, error) {
	if n := v.(field.Int); n != 0 && n < 10 {
		return nil, fmt.Errorf("%d is not 0 (unset) or a weight from 10 to 1000", n)
	}
	return v, nil
}

func checkCPUSet(v field.Value) (field.Value, error) {
	s := string(v.(field.String))
	for part := range strings.SplitSeq(s, ",") {
		low, high, isRange := strings.Cut(part, "-")
		if !digits(low) || isRange && !digits(high) {
			return nil, fmt.Errorf("%q is not a set such as 0-2 or 0,1", s)
		}
	}
	return v, nil
}

func checkUlimitName(v field.Value) (field.Value, error) {
	s := string(v.(field.String))
	known := []string{"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack"}
	if !slices.Contains(known, s) {
		return nil, fmt.Errorf("%q is not one of %s", s, strings.Join(known, ", "))
	}
	return v, nil
}

func checkUlimit(v field.Value) (field.Value, error) {
	o := v.(field.Object)
	soft, _ := o["Soft"].(field.Int)
	hard, _ := o["Hard"].(field.Int)
	if hard != -1 && (soft == -1 || soft > hard) {
		return nil, fmt.Errorf("the soft limit %d is above the hard limit %d", soft, hard)
	}
	return v, nil
}

func checkRestart(v field.Value) (field.Value, error) {
	o := v.(field.Object)
	if n, _ := o["MaximumRetryCount"].(field.Int); n != 0 && o["Name"] != field.String("on-failure") {
		return nil, errors.New("MaximumRetryCount goes with on-failure alone")
	}
	return v, nil
}

// Storage.

func checkSubpath(v field.Value) (field.Value, error) {
	s := string(v.(field.String))
	if s == "" || strings.HasPrefix(s, "/") || s != path.Clean(s) || s == ".." || strings.HasPrefix(s, "../") || strings.ContainsAny(s, "\\\x00") {
		return nil, fmt.Errorf("%q is not a path inside, such as cache/gradle", s)
	}
	return v, nil
}

func checkMountTarget(v field.Value) (field.Value, error) {
	t, err := cleanTarget(string(v.(field.String)))
	if err != nil {
		return nil, err
	}
	return field.String(t), nil
}

// checkMount holds a mount against the engine's own rules, so that its mistakes show at load.
func checkMount(v field.Value) (field.Value, error) {
	o := v.(field.Object)
	kind, _ := o["Type"].(field.String)
	source, _ := o["Source"].(field.String)
	for option, of := range map[string]field.String{"BindOptions": "bind", "VolumeOptions": "volume", "ImageOptions": "image", "TmpfsOptions": "tmpfs", "ClusterOptions": "cluster"} {
		if o[option] != nil && of != kind {
			return nil, fmt.Errorf("%s goes with a mount of type %s, not %s", option, of, kind)
		}
	}
	switch kind {
	case "bind":
		if !strings.HasPrefix(string(source), "/") && !windowsPath(string(source)) {
			return nil, fmt.Errorf("a bind's source is an absolute path, not %q", string(source))
		}
		if c := cleaned(source); c != source {
			o = maps.Clone(o)
			o["Source"] = c
		}
	case "volume":
		if source != "" && !volumeName(string(source)) {
			return nil, fmt.Errorf("%q is not the name of a volume", string(source))
		}
		if ro, _ := o["ReadOnly"].(field.Bool); bool(ro) && source == "" {
			return nil, errors.New("a volume without a name cannot be read-only")
		}
	case "tmpfs":
		if source != "" {
			return nil, errors.New("a tmpfs has no source")
		}
	case "npipe", "cluster":
		if source == "" {
			return nil, errors.New("the source is missing")
		}
	case "image":
		if _, err := checkImage(source); err != nil {
			return nil, err
		}
	}
	return o, nil
}

func checkTmpfs(v field.Value) (field.Value, error) {
	o := v.(field.Object)
	out := make(field.Object, len(o))
	var wrong []error
	for _, k := range slices.Sorted(maps.Keys(o)) {
		target, err := cleanTarget(k)
		if err != nil {
			wrong = append(wrong, field.AtKey(k, err))
			continue
		}
		if _, twice := out[target]; twice {
			wrong = append(wrong, field.AtKey(k, fmt.Errorf("%q is given twice", target)))
		}
		if out[target] = o[k]; o[k] == nil {
			out[target] = field.String("")
		}
	}
	return out, errors.Join(wrong...)
}

func tmpfsFromList(v field.Value) (field.Value, error) {
	out := make(field.Object, len(v.(field.List)))
	var wrong []error
	for i, e := range v.(field.List) {
		name, options, _ := strings.Cut(string(e.(field.String)), ":")
		target, err := cleanTarget(name)
		if err != nil {
			wrong = append(wrong, field.AtIndex(i, err))
			continue
		}
		if _, twice := out[target]; twice {
			wrong = append(wrong, field.AtIndex(i, fmt.Errorf("%q is given twice", target)))
		}
		out[target] = field.String(options)
	}
	return out, errors.Join(wrong...)
}

func listFromCommas(v field.Value) (field.Value, error) {
	var l field.List
	for s := range strings.SplitSeq(string(v.(field.String)), ",") {
		if s = strings.TrimSpace(s); s == "" {
			return nil, errors.New("there is nothing between two commas")
		}
		l = append(l, field.String(s))
	}
	return l, nil
}

// Characters.

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != "" && len(s) <= 9
}

func alnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// objectName is what Docker takes as the name (or id) of a container or a network.
func objectName(s string) bool {
	if s == "" || !alnum(s[0]) {
		return false
	}
	for i := 1; i < len(s); i++ {
		if !alnum(s[i]) && s[i] != '_' && s[i] != '.' && s[i] != '-' {
			return false
		}
	}
	return true
}
