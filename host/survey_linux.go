package host

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A Network is what the kernel has in one network namespace.
type Network struct {
	VNet      string // whose namespace it is; empty for the parent's own
	NICs      []string
	Addresses int // of IPv4 and IPv6 together, on all interfaces
	Routes    int // in all tables
}

// Survey asks the kernel what it has, in the parent's namespace and in those that it made: where only packet sockets are
// used, there is no address and no route. An empty runDir means /run/sallyport. The process must be root.
func Survey(runDir string) ([]Network, error) {
	own := Network{}
	err := own.look()
	list := []Network{own}
	folder := filepath.Dir(namespacePath(cmp.Or(runDir, defaultRunDir), "x"))
	entries, unread := os.ReadDir(folder)
	if unread != nil && !errors.Is(unread, fs.ErrNotExist) {
		err = errors.Join(err, unread)
	}
	for _, e := range entries {
		n := Network{VNet: e.Name()}
		err = errors.Join(err, inNamespace(filepath.Join(folder, e.Name()), n.look))
		list = append(list, n)
	}
	return list, err
}

// look asks in the thread's namespace.
func (n *Network) look() (err error) {
	if n.NICs, err = nics(); err != nil {
		return err
	}
	if n.Addresses, err = dump(unix.RTM_GETADDR, unix.RTM_NEWADDR); err != nil {
		return err
	}
	n.Routes, err = dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE)
	return err
}

// dump counts what the kernel answers to a request for all of one thing, for IPv4 and for IPv6 (rtnetlink(7)).
func dump(request int, answer uint16) (int, error) {
	n := 0
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		r := nl.NewNetlinkRequest(request, unix.NLM_F_DUMP)
		r.AddData(nl.NewIfInfomsg(family))
		messages, err := r.Execute(unix.NETLINK_ROUTE, answer)
		if err != nil {
			return 0, err
		}
		n += len(messages)
	}
	return n, nil
}
