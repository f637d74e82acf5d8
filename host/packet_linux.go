package host

import (
	"fmt"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// openPacket brings a NIC into its namespace and opens its packet sockets there, that for DHCP last.
func openPacket(runDir string, plan LinkPlan) (linkInfo, []int, error) {
	path := namespacePath(runDir, plan.VNet)
	if err := ensureNamespace(path); err != nil {
		return linkInfo{}, nil, err
	}
	nic, err := moveIn(path, plan.Interface)
	if err != nil {
		return linkInfo{}, nil, err
	}
	info := linkInfo{VNet: plan.VNet, Kind: plan.Kind, Interface: nic}
	var fds []int
	err = inNamespace(path, func() error {
		link, notes, err := readyNIC(nic)
		if err != nil {
			return err
		}
		a := link.Attrs()
		info.MAC, info.MTU, info.Notes, info.DHCP = a.HardwareAddr, a.MTU, notes, plan.DHCP
		for range max(plan.Queues, 1) {
			fd, err := frameSocket(a.Index)
			if err != nil {
				return err
			}
			fds = append(fds, fd)
		}
		if err := share(fds); err != nil {
			return err
		}
		if !plan.DHCP {
			return nil
		}
		fd, err := dhcpSocket(a.Index)
		if err == nil {
			fds = append(fds, fd)
		}
		return err
	})
	if err != nil {
		closeAll(fds)
		return linkInfo{}, nil, err
	}
	return info, fds, nil
}

// frameSocket carries all frames of the NIC, with virtio-net headers in front (segmentation and checksums stay with the
// kernel: ten times the throughput out), and not those that we sent ourselves.
func frameSocket(index int) (int, error) {
	return packetSocket(index, unix.ETH_P_ALL, func(fd int) error {
		for _, option := range []int{unix.PACKET_VNET_HDR, unix.PACKET_IGNORE_OUTGOING} {
			if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, option, 1); err != nil {
				return fmt.Errorf("packet socket option %d: %w", option, err)
			}
		}
		// With IPv6 off the kernel joins no multicast group, and a NIC that filters would drop neighbour discovery.
		all := unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_ALLMULTI}
		if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &all); err != nil {
			return fmt.Errorf("receive multicast: %w", err)
		}
		return nil
	})
}

// share has the sockets of one NIC get each frame once between them, and those of one connection the same one: the
// kernel's hash of addresses and ports is the same for both directions.
func share(fds []int) error {
	if len(fds) < 2 {
		return nil
	}
	// The kernel makes up the group's number for the first socket; the others join that.
	group := unix.PACKET_FANOUT_HASH<<16 | unix.PACKET_FANOUT_FLAG_UNIQUEID<<16
	for _, fd := range fds {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT, group); err != nil {
			return fmt.Errorf("share the NIC's frames between %d sockets: %w", len(fds), err)
		}
		joined, err := unix.GetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT)
		if err != nil {
			return err
		}
		group = unix.PACKET_FANOUT_HASH<<16 | joined&0xffff
	}
	return nil
}

// dhcpSocket carries frames without a header before them and sees only what DHCP servers send to clients.
func dhcpSocket(index int) (int, error) {
	return packetSocket(index, unix.ETH_P_IP, func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
			return err
		}
		program, err := bpf.Assemble(dhcpFilter)
		if err != nil {
			return err
		}
		filter := make([]unix.SockFilter, len(program))
		for i, ins := range program {
			filter[i] = unix.SockFilter{Code: ins.Op, Jt: ins.Jt, Jf: ins.Jf, K: ins.K}
		}
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	})
}

// dhcpFilter takes unfragmented UDP from port 67 to port 68 in an Ethernet frame of IPv4.
var dhcpFilter = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 14 + 9, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 8},
	bpf.LoadAbsolute{Off: 14 + 6, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipTrue: 6},
	bpf.LoadMemShift{Off: 14},
	bpf.LoadIndirect{Off: 14, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 67, SkipTrue: 3},
	bpf.LoadIndirect{Off: 14 + 2, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 68, SkipTrue: 1},
	bpf.RetConstant{Val: 64 << 10},
	bpf.RetConstant{Val: 0},
}

// packetSocket opens a socket that receives nothing until prepare has set it up, and then only the protocol.
func packetSocket(index int, protocol uint16, prepare func(fd int) error) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("packet socket: %w", err)
	}
	err = forceBuffers(fd)
	if err == nil {
		err = prepare(fd)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol<<8 | protocol>>8, Ifindex: index})
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
