// Command chaoslink spoils what passes between a client and a server: streams, which it relays, as package chaos says,
// or packets, which it carries between two NICs, as package wire says.
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
Without a script bytes pass in odd sizes, and nothing else happens. The same seed spoils in the same way.

"chaoslink packet" spoils packets between two NICs instead; "chaoslink packet -h" says how.

`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	mode, args := relay, os.Args[1:]
	if len(args) > 0 && args[0] == "packet" {
		mode, args = packet, args[1:]
	}
	if err := mode(ctx, args); err != nil {
		fmt.Fprintln(os.Stderr, "chaoslink:", err)
		os.Exit(1)
	}
}

// script is what both modes are told.
type script struct {
	text *string
	loop *bool
	seed *uint64
}

func scriptFlags(f *flag.FlagSet, help string) script {
	f.Usage = func() {
		fmt.Fprint(f.Output(), help)
		f.PrintDefaults()
	}
	return script{
		text: f.String("script", "", "what happens when"),
		loop: f.Bool("loop", false, "begin again when the script has ended"),
		seed: f.Uint64("seed", 1, "of all that is left to chance"),
	}
}

// run does the script, and waits for the end of ctx. Each time round has the next seed.
func (s script) run(ctx context.Context, once func(text string, seed uint64) error) error {
	seed := *s.seed
	for again := *s.text != ""; again && ctx.Err() == nil; again = *s.loop {
		if err := once(*s.text, seed); err != nil && ctx.Err() == nil {
			return err
		}
		seed++
	}
	<-ctx.Done()
	return nil
}

func wrong(f *flag.FlagSet) {
	f.Usage()
	os.Exit(2)
}

func relay(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("chaoslink", flag.ExitOnError)
	listen := f.String("listen", "127.0.0.1:0", "relay what comes to this `address`")
	to := f.String("to", "", "relay it to this `address`")
	s := scriptFlags(f, help)
	f.Parse(args)
	if *to == "" || f.NArg() > 0 {
		wrong(f)
	}
	link := &chaos.Link{To: *to, Seed: *s.seed, Log: log.Printf}
	defer link.Close()
	address, err := link.ListenTCP(*listen)
	if err != nil {
		return err
	}
	if _, err := link.ListenUDP(address.String()); err != nil {
		return err
	}
	log.Printf("%v leads to %s, seed %d", address, *to, *s.seed)
	return s.run(ctx, func(text string, seed uint64) error {
		steps, err := chaos.Parse(text, seed)
		if err != nil {
			return err
		}
		return link.Run(ctx, steps)
	})
}
