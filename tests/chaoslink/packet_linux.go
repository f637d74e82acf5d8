package main

import (
	"context"
	"flag"
	"log"

	"sallyport/tests/chaoslink/wire"
)

const packetHelp = `chaoslink packet carries packets between two NICs, and spoils what passes. It needs root.

  go run ./tests/chaoslink packet -first left -second right -script "delay=40ms loss=1%, 10s up hole=udp, 5s pass" -loop

Up leads from the first NIC to the second, down back. Both NICs are up, and have no other use where the command runs,
which is best a network namespace of its own:

  ip netns add middle
  ip link add eth0 netns CLIENT type veth peer name left netns middle
  ip link add eth0 netns SERVER type veth peer name right netns middle
  ip -n middle link set left up; ip -n middle link set right up
  ip netns exec middle sysctl -q net.ipv6.conf.all.disable_ipv6=1
  ip netns exec CLIENT ethtool -K eth0 tx off tso off gso off gro off
  ip netns exec SERVER ethtool -K eth0 tx off tso off gso off gro off
  ip netns exec middle chaoslink packet -first left -second right

The two lines with ethtool keep the far ends from sending more than a packet at a time, and without its checksum. The
command's own two NICs it treats so itself, and leaves them so.

A script is steps divided by commas: a time to wait (10s, or 5s-20s), and what happens then, in the place of what
happened before:
` + wire.Words + `
The same seed does the same to the same packets. At the end it prints what has happened to how many.

`

// packet is the mode that package wire is for.
func packet(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("chaoslink packet", flag.ExitOnError)
	first := f.String("first", "", "the `NIC` from which up leads")
	second := f.String("second", "", "the `NIC` to which up leads")
	s := scriptFlags(f, packetHelp)
	f.Parse(args)
	if *first == "" || *second == "" || f.NArg() > 0 {
		wrong(f)
	}
	link, err := wire.Open(*first, *second, wire.Options{Seed: *s.seed, Log: log.Printf})
	if err != nil {
		return err
	}
	defer link.Close()
	log.Printf("up leads from %s to %s, seed %d", *first, *second, *s.seed)
	err = s.run(ctx, func(text string, seed uint64) error {
		steps, err := wire.Parse(text, seed)
		if err != nil {
			return err
		}
		return link.Run(ctx, steps)
	})
	for _, d := range []wire.Direction{wire.Up, wire.Down} {
		log.Printf("%v: %+v", d, link.Stats(d))
	}
	return err
}
