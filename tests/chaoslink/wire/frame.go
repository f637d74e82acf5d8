package wire

import (
	"encoding/binary"
	"slices"
)

const (
	etherSize = 14

	protoICMP   = 1
	protoIGMP   = 2
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
)

// headers are what the link has to know of a frame.
type headers struct {
	spared   bool  // not IP, or what IP needs to find its neighbours: the link does no more than delay it
	version  int   // of IP
	protocol uint8 // behind IPv6's extension headers
	end      int   // of the IP packet in the frame; Ethernet may have padded it
	body     int   // where protocol's header begins
	payload  int   // where what is behind TCP's or UDP's header begins; the same as body for the others
	later    bool  // not the first fragment: protocol's header is not there
}

// size is the IP packet's.
func (h headers) size() int { return h.end - etherSize }

func parse(f []byte) headers {
	if len(f) < etherSize {
		return headers{spared: true}
	}
	var h headers
	switch ip := f[etherSize:]; binary.BigEndian.Uint16(f[12:]) {
	case 0x0800:
		h = parseIPv4(ip)
	case 0x86dd:
		h = parseIPv6(ip)
	default:
		return headers{spared: true}
	}
	if h.body < etherSize+20 || h.body > h.end || h.end > len(f) {
		return headers{spared: true}
	}
	h.payload = h.body
	if h.later {
		return h
	}
	body := f[h.body:h.end]
	switch {
	case h.protocol == protoTCP && len(body) >= 20:
		h.payload += min(int(body[12]>>4)*4, len(body))
	case h.protocol == protoUDP && len(body) >= 8:
		h.payload += 8
	case h.protocol == protoICMPv6 && len(body) > 0:
		h.spared = isHousekeeping(body[0])
	case h.protocol == protoIGMP:
		h.spared = true
	}
	return h
}

// isHousekeeping says whether an ICMPv6 type is neighbour discovery or a report of groups: kernels send those when they
// see fit, and must not shift the other packets' numbers.
func isHousekeeping(kind byte) bool {
	return kind >= 133 && kind <= 137 || kind >= 130 && kind <= 132 || kind == 143
}

func parseIPv4(ip []byte) headers {
	if len(ip) < 20 {
		return headers{}
	}
	return headers{
		version:  4,
		protocol: ip[9],
		end:      etherSize + int(binary.BigEndian.Uint16(ip[2:])),
		body:     etherSize + int(ip[0]&0xf)*4,
		later:    binary.BigEndian.Uint16(ip[6:])&0x1fff != 0,
	}
}

func parseIPv6(ip []byte) headers {
	if len(ip) < 40 {
		return headers{}
	}
	h := headers{version: 6, protocol: ip[6], end: etherSize + 40 + int(binary.BigEndian.Uint16(ip[4:]))}
	at := 40
	for !h.later && at+8 <= len(ip) {
		size := int(ip[at+1])*8 + 8
		switch h.protocol {
		case 0, 43, 60: // hop-by-hop, routing, destination options
		case 44: // fragment
			size = 8
			h.later = binary.BigEndian.Uint16(ip[at+2:])&0xfff8 != 0
		default:
			h.body = etherSize + at
			return h
		}
		h.protocol = ip[at]
		at += size
	}
	h.body = etherSize + at
	return h
}

// swallows says whether h vanishes in the hole.
func (o Hole) swallows(h headers) bool {
	switch o {
	case UDP:
		return h.protocol == protoUDP
	case TCP:
		return h.protocol == protoTCP
	}
	return o == All
}

// flip inverts one bit of the payload, or of the header before it if there is none; chance chooses which.
func flip(f []byte, h headers, chance uint64) {
	from := h.payload
	if from == h.end {
		from = h.body
	}
	if from == h.end {
		from = etherSize
	}
	f[from+int(chance%uint64(h.end-from))] ^= 1 << (chance >> 61)
}

// How much of a packet that is too big comes back: as much as fits what every host takes.
const (
	quote4 = 576 - 20 - 8
	quote6 = 1280 - 40 - 8
)

// tooBig is the answer of a router whose next link has no room for f. The link has no address of its own to answer from;
// the destination's is one that the sender's routes lead here for. Frames to groups, later fragments and what reports an
// error itself have no answer: nil.
func tooBig(f []byte, h headers, mtu int) []byte {
	ip := f[etherSize:h.end]
	if f[0]&1 != 0 || h.later || h.reportsError(f) {
		return nil
	}
	b := append([]byte(nil), f[6:12]...)
	b = append(b, f[0:6]...)
	b = append(b, f[12:14]...)
	if h.version == 4 {
		return tooBig4(b, ip, mtu)
	}
	return tooBig6(b, ip, mtu)
}

func (h headers) reportsError(f []byte) bool {
	if h.body == h.end {
		return false
	}
	switch kind := f[h.body]; h.protocol {
	case protoICMP:
		return slices.Contains([]byte{3, 4, 5, 11, 12}, kind)
	case protoICMPv6:
		return kind < 128
	}
	return false
}

func tooBig4(b, ip []byte, mtu int) []byte {
	ip = ip[:min(len(ip), quote4)]
	head := len(b)
	b = append(b, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(20+8+len(ip)))
	b = append(b, 0, 0, 0, 0, 64, protoICMP, 0, 0)
	b = append(b, ip[16:20]...)
	b = append(b, ip[12:16]...)
	binary.BigEndian.PutUint16(b[head+10:], checksum(0, b[head:]))
	icmp := len(b)
	b = append(b, 3, 4, 0, 0, 0, 0) // destination unreachable: fragmentation needed
	b = binary.BigEndian.AppendUint16(b, uint16(mtu))
	b = append(b, ip...)
	binary.BigEndian.PutUint16(b[icmp+2:], checksum(0, b[icmp:]))
	return b
}

func tooBig6(b, ip []byte, mtu int) []byte {
	quote := ip[:min(len(ip), quote6)]
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(quote)))
	b = append(b, protoICMPv6, 64)
	b = append(b, ip[24:40]...)
	b = append(b, ip[8:24]...)
	icmp := len(b)
	b = append(b, 2, 0, 0, 0) // packet too big
	b = binary.BigEndian.AppendUint32(b, uint32(mtu))
	b = append(b, quote...)
	pseudo := uint32(len(b)-icmp) + protoICMPv6
	for at := icmp - 32; at < icmp; at += 2 {
		pseudo += uint32(binary.BigEndian.Uint16(b[at:]))
	}
	binary.BigEndian.PutUint16(b[icmp+2:], checksum(pseudo, b[icmp:]))
	return b
}

// checksum is the Internet's, begun with a sum.
func checksum(sum uint32, b []byte) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
