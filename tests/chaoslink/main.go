// Command chaoslink relays TCP and UDP between a client and a server, and spoils what passes; package chaos says how.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"

	"sallyport/tests/chaoslink/chaos"
)

const help = `chaoslink relays TCP and UDP on one port to a server, and spoils what passes.

  go run ./tests/chaoslink -listen 127.0.0.1:8443 -to bastion.example:443 -script "10s cut, 2s pass" -loop

A script is steps divided by commas: a time to wait (10s, or 5s-20s), and what happens then:
  pass  cut  half-open  blackhole  drip  rebind
A number of bytes may follow, as in cut@100000: then it happens to each connection when so many have passed.
The same seed spoils in the same way.

`

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "relay what comes to this `address`")
	to := flag.String("to", "", "relay it to this `address`")
	script := flag.String("script", "", "what happens when; empty: bytes pass in odd sizes, nothing else")
	loop := flag.Bool("loop", false, "begin again when the script has ended")
	seed := flag.Uint64("seed", 1, "of sizes and times")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), help)
		flag.PrintDefaults()
	}
	flag.Parse()
	if *to == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *listen, *to, *script, *seed, *loop); err != nil {
		fmt.Fprintln(os.Stderr, "chaoslink:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, listen, to, script string, seed uint64, loop bool) error {
	link := &chaos.Link{To: to, Seed: seed, Log: log.Printf}
	defer link.Close()
	address, err := link.ListenTCP(listen)
	if err != nil {
		return err
	}
	if _, err := link.ListenUDP(address.String()); err != nil {
		return err
	}
	log.Printf("%v leads to %s, seed %d", address, to, seed)
	for again := script != ""; again; again = loop && ctx.Err() == nil {
		steps, err := chaos.Parse(script, seed)
		if err != nil {
			return err
		}
		link.Run(ctx, steps)
		seed++
	}
	<-ctx.Done()
	return nil
}
