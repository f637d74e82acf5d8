package link

import (
	"cmp"
	"net"
)

// Options describes the NIC or TAP behind a descriptor.
type Options struct {
	MAC net.HardwareAddr // ours on that network; for Packet, the NIC's
	MTU int              // default 1500
}

func (o Options) withDefaults() Options {
	o.MTU = cmp.Or(o.MTU, defaultMTU)
	return o
}
