// Package transport carries frame sessions over QUIC and over HTTPS, from a client to an appliance.
//
//	client := &transport.Client{Address: "bastion.example:443", TLS: config, Signer: key}
//	session, err := client.Dial(ctx) // races QUIC and HTTPS
//	if err != nil {
//		return err
//	}
//	defer session.Close()
//	stream, opened, err := session.Open(ctx, frame.OpenRequest{Target: "db-1", Protocol: "ssh"}, frame.Options{})
//
// Over QUIC one connection carries everything: stream 0 is the control stream, every other stream is a flow. Over HTTPS
// each flow has a TLS connection of its own, so no flow waits behind another. So it is with browsers, whose flows come over
// WebSockets.
//
// # Cancellation
//
// Serve methods block until their context ends, then end every connection and return when all of them are gone.
package transport

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"time"

	"sallyport/frame"
)

const (
	// alpnQUIC is the QUIC application protocol; upgradeToken is HTTPS's word for the same.
	alpnQUIC     = "sallyport/1"
	alpnHTTPS    = "http/1.1"
	upgradeToken = "sallyport/1"
	flowPath     = "/v1/flow"

	// loginTimeout ends a connection that has not said who it is.
	loginTimeout = 5 * time.Second
)

// SPKI is SHA-256 of a certificate's SubjectPublicKeyInfo: the fingerprint that people compare and clients pin.
func SPKI(c *x509.Certificate) []byte {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return sum[:]
}

// secretOf exports what a flow's keys are derived from.
func secretOf(state *tls.ConnectionState) func(flow []byte) ([]byte, error) {
	return func(flow []byte) ([]byte, error) { return state.ExportKeyingMaterial(frame.ResumeLabel, flow, 32) }
}

// channelOf is what a TLS connection gives the handshake, as a client sees it.
func channelOf(state *tls.ConnectionState) (frame.Channel, error) {
	exporter, err := state.ExportKeyingMaterial(frame.ExporterLabel, nil, 32)
	if err != nil {
		return frame.Channel{}, err
	}
	ch := frame.Channel{Exporter: exporter, Secret: secretOf(state)}
	if len(state.PeerCertificates) > 0 {
		ch.ServerKeys = [][]byte{SPKI(state.PeerCertificates[0])}
	}
	return ch, nil
}
