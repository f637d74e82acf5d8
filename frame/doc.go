// Package frame is Sallyport's wire format and the flows that it carries. PROTOCOL.md beside this file is the
// specification; its examples are this package's test vectors.
//
//	s, err := frame.Open(ctx, carrier, frame.OpenRequest{Target: "db-1", Protocol: "ssh"}, frame.Options{})
//	if err != nil {
//		return err // a *frame.StreamError when the appliance refused: code, sentence, next step
//	}
//	defer s.Close()
//	io.Copy(s, os.Stdin)
//
// # A flow's three roles
//
// The reader takes frames from the carrier and offers their bytes to the next hop; it never writes. The pump fills
// slabs from a source through Reserve and Commit. The writer sends what is due (ACK and PONG first, then slabs, then
// FIN); it is a goroutine that exists only while there is something to send. An idle flow is a parked reader and a
// parked pump, and holds no buffer.
//
// # Ownership
//
// A committed slab is the replay buffer: it is freed when the peer has acknowledged all of it and no write of it is
// under way, and not before. What the next hop does not take at once stays in the slab that it arrived in, out of
// room that was granted for it, so a carrier is always read to its end.
//
// # Losing a carrier
//
// A flow that both ends keep outlives its carrier. What is on one is an attachment; to lose it is to detach, and nobody
// reads, writes or takes for it any more once it is fenced. The client's end comes back by Resume (resume.go), the
// appliance's by Attach (attach.go), with the keys of bond.go; vitals.go says when a peer has gone silent.
//
// # Cancellation
//
// Every blocking call takes a context or obeys a deadline. The reason that ended a flow is the error of every later call.
package frame
