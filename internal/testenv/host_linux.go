package testenv

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// checkHost says why no engine can run on this machine, or nil.
func checkHost() error {
	if os.Geteuid() != 0 {
		return errors.New("a Docker Engine of our own needs root")
	}
	return nil
}

// boundToUs is how a daemon is started: in a session of its own, so that a Ctrl-C at the terminal
// does not reach it before us, and with a SIGTERM the moment the thread that started it ends.
func boundToUs() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
}

// onItsOwn is how a process is started that has to outlive us by a moment.
func onItsOwn() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true}
}

// lockFile opens and locks path, and reports false if another process holds it. The kernel drops
// the lock when this process ends, however it ends.
func lockFile(path string) (*os.File, bool, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, err
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, false, nil
		}
		return nil, false, err
	}
	return file, true, nil
}

// ownFolder makes a folder that no other user can have put there or can look into.
func ownFolder(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is not a folder of user %d", path, os.Geteuid())
	}
	return nil
}

// onOverlay reports whether a folder is on overlayfs, on which overlayfs cannot be stacked.
func onOverlay(path string) bool {
	var stat unix.Statfs_t
	return unix.Statfs(path, &stat) == nil && stat.Type == unix.OVERLAYFS_SUPER_MAGIC
}

// taken reports whether a route of this machine, other than those of the bridge named own, leads
// into the range.
func taken(addresses netip.Prefix, own string) (bool, error) {
	file, err := os.Open("/proc/net/route")
	if err != nil {
		return false, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Scan() // the header
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 8 || fields[0] == own {
			continue
		}
		destination, err1 := hexAddress(fields[1])
		mask, err2 := hexAddress(fields[7])
		if err1 != nil || err2 != nil {
			return false, fmt.Errorf("cannot read /proc/net/route: %q", lines.Text())
		}
		bits, _ := net.IPMask(mask.AsSlice()).Size()
		if bits > 0 && netip.PrefixFrom(destination, bits).Overlaps(addresses) {
			return true, nil
		}
	}
	return false, lines.Err()
}

// hexAddress reads an address as /proc/net/route has it: a number in the machine's byte order.
func hexAddress(text string) (netip.Addr, error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != 4 {
		return netip.Addr{}, fmt.Errorf("cannot read address %q", text)
	}
	var address [4]byte
	binary.NativeEndian.PutUint32(address[:], binary.BigEndian.Uint32(raw))
	return netip.AddrFrom4(address), nil
}

// addBridge makes a bridge with an address. dockerd makes only one that is called docker0, and
// takes any other as it finds it.
func addBridge(name string, address netip.Prefix) error {
	return withInterface(name, func(socket int, ifreq *unix.Ifreq) error {
		if err := unix.IoctlIfreq(socket, unix.SIOCBRADDBR, ifreq); err != nil {
			return fmt.Errorf("cannot add bridge %s: %w", name, err)
		}
		if err := ifreq.SetInet4Addr(address.Addr().AsSlice()); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(socket, unix.SIOCSIFADDR, ifreq); err != nil {
			return fmt.Errorf("cannot set the address of bridge %s: %w", name, err)
		}
		if err := ifreq.SetInet4Addr(net.CIDRMask(address.Bits(), 32)); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(socket, unix.SIOCSIFNETMASK, ifreq); err != nil {
			return fmt.Errorf("cannot set the netmask of bridge %s: %w", name, err)
		}
		ifreq.SetUint16(unix.IFF_UP)
		if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, ifreq); err != nil {
			return fmt.Errorf("cannot raise bridge %s: %w", name, err)
		}
		return nil
	})
}

func removeBridge(name string) error {
	return withInterface(name, func(socket int, ifreq *unix.Ifreq) error {
		ifreq.SetUint16(0)
		if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, ifreq); err != nil {
			return fmt.Errorf("cannot lower bridge %s: %w", name, err)
		}
		if err := unix.IoctlIfreq(socket, unix.SIOCBRDELBR, ifreq); err != nil {
			return fmt.Errorf("cannot remove bridge %s: %w", name, err)
		}
		return nil
	})
}

func withInterface(name string, do func(socket int, ifreq *unix.Ifreq) error) error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	ifreq, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	return do(socket, ifreq)
}

// sweep ends everything that runs out of an engine's folder, and removes the folder and the bridges
// with an address in the engine's range. It is how every engine ends, its own test binary being
// alive or not: the data is thrown away, so nobody waits for an orderly end.
func sweep(dir string, addresses netip.Prefix) error {
	containers, err := filepath.Glob(filepath.Join(dir, "containerd-state/io.containerd.runtime.v2.task/*/*"))
	if err != nil {
		return err
	}
	// The daemons first, which would start containers again and miss their shims. By name, since
	// anybody may look at a file in the folder.
	for _, program := range []string{"dockerd", "containerd", "containerd-shim-runc-v2", "runc"} {
		err := killAll(func(pid string) bool {
			command, err := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
			if err != nil || !strings.Contains(string(command), dir+"/") {
				return false
			}
			name, _, _ := strings.Cut(string(command), "\x00")
			return filepath.Base(name) == program
		})
		if err != nil {
			return err
		}
	}
	err = killAll(func(pid string) bool {
		groups, err := os.ReadFile(filepath.Join("/proc", pid, "cgroup"))
		return err == nil && slices.ContainsFunc(containers, func(c string) bool {
			return strings.Contains(string(groups), filepath.Base(c))
		})
	})
	if err != nil {
		return err
	}
	for _, container := range containers {
		// A shim keeps its socket outside of every folder that it is given.
		if address, err := os.ReadFile(filepath.Join(container, "address")); err == nil {
			_ = os.Remove(strings.TrimPrefix(string(address), "unix://"))
		}
		for _, pattern := range []string{"/sys/fs/cgroup/docker/", "/sys/fs/cgroup/*/docker/"} {
			groups, _ := filepath.Glob(pattern + filepath.Base(container))
			for _, group := range groups {
				_ = os.Remove(group)
			}
		}
	}

	if err := unmountBelow(dir); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, i := range interfaces {
		own, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, address := range own {
			prefix, err := netip.ParsePrefix(address.String())
			if err != nil || !addresses.Contains(prefix.Addr()) {
				continue
			}
			if err := removeBridge(i.Name); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// killAll kills the processes that match and waits until there is none.
func killAll(match func(pid string) bool) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		entries, err := os.ReadDir("/proc")
		if err != nil {
			return err
		}
		var left []int
		for _, entry := range entries {
			pid, err := strconv.Atoi(entry.Name())
			if err == nil && pid != os.Getpid() && match(entry.Name()) && !isZombie(entry.Name()) {
				left = append(left, pid)
			}
		}
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("cannot kill processes %v", left)
		}
		for _, pid := range left {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// isZombie reports whether a process has ended and only waits for its parent to notice.
func isZombie(pid string) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
	return strings.HasPrefix(after, "Z")
}

func unmountBelow(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(mounts)), "\n")
	slices.Reverse(lines) // what was mounted last goes first
	for _, line := range lines {
		fields := strings.Fields(line)
		if len(fields) < 5 || !strings.HasPrefix(fields[4], dir+"/") {
			continue
		}
		if err := unix.Unmount(fields[4], unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil &&
			!errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("cannot unmount %s: %w", fields[4], err)
		}
	}
	return nil
}
