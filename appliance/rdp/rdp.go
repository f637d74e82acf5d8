// Package rdp is what stands between a browser's RDP client and a target: the wire formats of their handshake, a framer
// that cuts the stream into PDUs, and a filter that lets pass what a person may use and puts right what would break.
//
//	request, err := rdp.ParseCleanPathRequest(message)
//	confirm, err := rdp.ParseConfirm(answer)
//	…
//	filter := rdp.NewFilter(rdp.Rules{Selected: confirm.Selected, Clipboard: rdp.Clipboard{Out: true}}, shown, input)
//	frames := rdp.NewFramer(tls, rdp.TLS, true)
//	pdu, err := frames.Next()
//	on, back, err := filter.Through(false, pdu)
//
// # Where it stands
//
// The browser's client speaks RDCleanPath: it sends the X.224 request that an RDP connection begins with in an envelope,
// the appliance makes the connection, TLS included, and from there on the browser speaks the inside of it. So everything
// that passes is in the clear here, in both directions.
//
// # Channels
//
// Of static channels cliprdr passes where a clipboard may be used, and drdynvc where the target's profile lets the
// client ask for another size. All others get a name that no server knows, before the server sees it: they keep their
// place, so that the ids that the server gives fit, and nobody speaks on them. Data on an id that is not one of an
// allowed channel is dropped, whichever side it comes from: a tampered client cannot have what a good one is not offered.
//
// # What is put right
//
// The client asks for 16 bits of colour; 32 make servers use RemoteFX, whose picture is exact. xrdp's bitmaps are wider
// than their rectangles, which the client does not expect (see widen). Compression is turned off.
//
// # Trust
//
// Neither side is trusted. Every length is checked before it is used, what does not parse is an error, and an error ends
// the connection: nothing passes that has not been understood as far as it has to be.
package rdp
