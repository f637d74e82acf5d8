package uki

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	encoding "encoding/asn1"
	"encoding/binary"
	"errors"
	"math/big"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Signatures for Secure Boot, by Microsoft's "Windows Authenticode Portable Executable Signature Format" and, for the message
// around the digest, by PKCS #7 (RFC 2315). There is no time in a signature here: the same program, key and certificate give
// the same bytes.

var (
	signedData    = encoding.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	contentType   = encoding.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	messageDigest = encoding.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	rsaEncryption = encoding.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	sha256ID      = encoding.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	spcIndirect   = encoding.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 4}
	spcPEImage    = encoding.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 15}
)

// obsolete is the name of a file that was signed, which the format wants and nobody reads: "<<<Obsolete>>>" in UTF-16.
var obsolete = []byte("\x00<\x00<\x00<\x00O\x00b\x00s\x00o\x00l\x00e\x00t\x00e\x00>\x00>\x00>")

// Digest is what a signature of an EFI program is about: SHA-256 over the program without its checksum, and without the
// signatures and where they are.
func Digest(b []byte) ([]byte, error) {
	h, table, err := signed(b)
	if err != nil {
		return nil, err
	}
	end := len(b) - len(table)
	checksum, entry := h.optional+64, h.optional+112+8*certificates
	if int(h.headersSize) > end {
		return nil, errors.New("not an EFI program: its headers reach into its signatures")
	}
	d := sha256.New()
	d.Write(b[:checksum])
	d.Write(b[checksum+4 : entry])
	d.Write(b[entry+8 : h.headersSize])
	var sections []span
	for i := range h.sections {
		e, err := h.entry(b, i)
		if err != nil {
			return nil, err
		}
		if e.rawSize > 0 {
			sections = append(sections, span{int(e.raw), int(e.rawSize)})
		}
	}
	slices.SortFunc(sections, func(a, b span) int { return cmp.Compare(a.at, b.at) })
	done := int(h.headersSize)
	for _, s := range sections {
		if s.at+s.size > end {
			return nil, errors.New("not an EFI program: a section reaches into its signatures")
		}
		d.Write(b[s.at : s.at+s.size])
		done += s.size
	}
	if done < end {
		d.Write(b[done:end])
	}
	d.Write(make([]byte, align(end, certificateAlign)-end))
	return d.Sum(nil), nil
}

// span is a part of a file.
type span struct{ at, size int }

// Sign returns the program with one more signature behind those that it has. The key must be RSA.
func Sign(b []byte, key crypto.Signer, cert *x509.Certificate) ([]byte, error) {
	if _, ok := key.Public().(*rsa.PublicKey); !ok {
		return nil, errors.New("the key is not RSA, and firmware takes no other")
	}
	if _, err := Signatures(b); err != nil {
		return nil, err
	}
	digest, err := Digest(b)
	if err != nil {
		return nil, err
	}
	message, err := sign(digest, key, cert)
	if err != nil {
		return nil, err
	}
	h, table, err := signed(b)
	if err != nil {
		return nil, err
	}
	padded := func(b []byte) []byte { return append(b, make([]byte, align(len(b), certificateAlign)-len(b))...) }
	out := padded(slices.Clone(b[:len(b)-len(table)]))
	at := len(out)
	out = padded(append(out, table...))
	le := binary.LittleEndian
	out = le.AppendUint32(out, uint32(certificateHead+len(message)))
	out = le.AppendUint16(out, 0x0200) // WIN_CERT_REVISION_2_0
	out = le.AppendUint16(out, certificatePKCS7)
	out = padded(append(out, message...))
	entry := out[h.optional+112+8*certificates:]
	le.PutUint32(entry, uint32(at))
	le.PutUint32(entry[4:], uint32(len(out)-at))
	clear(out[h.optional+64:][:4]) // the checksum, which no firmware looks at
	return out, nil
}

// sign returns the PKCS #7 message about a digest.
func sign(digest []byte, key crypto.Signer, cert *x509.Certificate) ([]byte, error) {
	algorithm := func(id encoding.ObjectIdentifier) cryptobyte.BuilderContinuation {
		return func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(id)
			b.AddASN1NULL()
		}
	}
	explicit := func(n uint8) asn1.Tag { return asn1.Tag(n).ContextSpecific().Constructed() }

	// The digest of the message is about what is in this sequence, not about its head.
	var inner cryptobyte.Builder
	inner.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(spcPEImage)
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1BitString(nil)
			b.AddASN1(explicit(0), func(b *cryptobyte.Builder) {
				b.AddASN1(explicit(2), func(b *cryptobyte.Builder) {
					b.AddASN1(asn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(obsolete) })
				})
			})
		})
	})
	inner.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, algorithm(sha256ID))
		b.AddASN1OctetString(digest)
	})
	content, err := inner.Bytes()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(content)

	// A set's members stand in the order of their bytes: the shorter one is first.
	var set cryptobyte.Builder
	for _, attribute := range []struct {
		id    encoding.ObjectIdentifier
		value cryptobyte.BuilderContinuation
	}{
		{contentType, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(spcIndirect) }},
		{messageDigest, func(b *cryptobyte.Builder) { b.AddASN1OctetString(sum[:]) }},
	} {
		set.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(attribute.id)
			b.AddASN1(asn1.SET, attribute.value)
		})
	}
	attributes, err := set.Bytes()
	if err != nil {
		return nil, err
	}
	signature, err := key.Sign(rand.Reader, attributesDigest(attributes), crypto.SHA256)
	if err != nil {
		return nil, err
	}

	var message cryptobyte.Builder
	message.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(signedData)
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(1) // version
				b.AddASN1(asn1.SET, func(b *cryptobyte.Builder) { b.AddASN1(asn1.SEQUENCE, algorithm(sha256ID)) })
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(spcIndirect)
					b.AddASN1(explicit(0), func(b *cryptobyte.Builder) {
						b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(content) })
					})
				})
				b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddBytes(cert.Raw) })
				b.AddASN1(asn1.SET, func(b *cryptobyte.Builder) {
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1Int64(1) // version
						b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
							b.AddBytes(cert.RawIssuer)
							b.AddASN1BigInt(cert.SerialNumber)
						})
						b.AddASN1(asn1.SEQUENCE, algorithm(sha256ID))
						b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddBytes(attributes) })
						b.AddASN1(asn1.SEQUENCE, algorithm(rsaEncryption))
						b.AddASN1OctetString(signature)
					})
				})
			})
		})
	})
	return message.Bytes()
}

// attributesDigest is what is signed: the attributes as a set, though the message has them under another tag.
func attributesDigest(attributes []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SET, func(b *cryptobyte.Builder) { b.AddBytes(attributes) })
	sum := sha256.Sum256(b.BytesOrPanic()) // which is of what was read or built, and short
	return sum[:]
}

// A Signature is one that an EFI program carries.
type Signature struct {
	Cert  *x509.Certificate // the signer's; who trusts it is the firmware's question
	Holds bool              // the program is what was signed, and the key of Cert signed it
}

// Signers returns the signatures of an EFI program. Those that are not RSA over SHA-256 do not hold here.
func Signers(b []byte) ([]Signature, error) {
	messages, err := Signatures(b)
	if err != nil || len(messages) == 0 {
		return nil, err
	}
	digest, err := Digest(b)
	if err != nil {
		return nil, err
	}
	var all []Signature
	for _, m := range messages {
		s, err := read(m, digest)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

var errMessage = errors.New("a signature is not PKCS #7 of the form that EFI programs have")

// read reads one message and compares it with the program's digest.
func read(message, digest []byte) (Signature, error) {
	explicit := func(n uint8) asn1.Tag { return asn1.Tag(n).ContextSpecific().Constructed() }
	var (
		outer, data, info, content, certs, signers, signer, name, attributes cryptobyte.String
		id                                                                   encoding.ObjectIdentifier
		serial                                                               = new(big.Int)
		signature                                                            []byte
	)
	in := cryptobyte.String(message)
	ok := in.ReadASN1(&outer, asn1.SEQUENCE) &&
		outer.ReadASN1ObjectIdentifier(&id) && id.Equal(signedData) &&
		outer.ReadASN1(&data, explicit(0)) && data.ReadASN1(&data, asn1.SEQUENCE) &&
		data.SkipASN1(asn1.INTEGER) && data.SkipASN1(asn1.SET) &&
		data.ReadASN1(&info, asn1.SEQUENCE) && info.ReadASN1ObjectIdentifier(&id) && id.Equal(spcIndirect) &&
		info.ReadASN1(&content, explicit(0)) && content.ReadASN1(&content, asn1.SEQUENCE) &&
		data.ReadASN1(&certs, explicit(0)) && data.SkipOptionalASN1(explicit(1)) &&
		data.ReadASN1(&signers, asn1.SET) && signers.ReadASN1(&signer, asn1.SEQUENCE) &&
		signer.SkipASN1(asn1.INTEGER) && signer.ReadASN1(&name, asn1.SEQUENCE)
	var issuer cryptobyte.String
	ok = ok && name.ReadASN1Element(&issuer, asn1.SEQUENCE) && name.ReadASN1Integer(serial) &&
		signer.SkipASN1(asn1.SEQUENCE) && signer.ReadASN1(&attributes, explicit(0)) &&
		signer.SkipASN1(asn1.SEQUENCE) && signer.ReadASN1Bytes(&signature, asn1.OCTET_STRING)
	if !ok {
		return Signature{}, errMessage
	}
	cert, err := find(certs, issuer, serial)
	if err != nil {
		return Signature{}, err
	}
	s := Signature{Cert: cert}
	key, isRSA := cert.PublicKey.(*rsa.PublicKey)
	if !isRSA || rsa.VerifyPKCS1v15(key, crypto.SHA256, attributesDigest(attributes), signature) != nil {
		return s, nil
	}
	sum := sha256.Sum256(content)
	var signed cryptobyte.String
	if !content.SkipASN1(asn1.SEQUENCE) || !content.ReadASN1(&content, asn1.SEQUENCE) || !content.SkipASN1(asn1.SEQUENCE) ||
		!content.ReadASN1(&signed, asn1.OCTET_STRING) {
		return s, errMessage
	}
	s.Holds = bytes.Equal(signed, digest) && about(attributes, sum[:])
	return s, nil
}

// find returns the certificate that a signer's name and number mean.
func find(certs, issuer cryptobyte.String, serial *big.Int) (*x509.Certificate, error) {
	for !certs.Empty() {
		var der cryptobyte.String
		if !certs.ReadASN1Element(&der, asn1.SEQUENCE) {
			return nil, errMessage
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		if bytes.Equal(c.RawIssuer, issuer) && c.SerialNumber.Cmp(serial) == 0 {
			return c, nil
		}
	}
	return nil, errors.New("a signature lacks its signer's certificate")
}

// about says whether the attributes are those of a message with this digest.
func about(attributes cryptobyte.String, sum []byte) bool {
	for !attributes.Empty() {
		var attribute, values, value cryptobyte.String
		var id encoding.ObjectIdentifier
		if !attributes.ReadASN1(&attribute, asn1.SEQUENCE) || !attribute.ReadASN1ObjectIdentifier(&id) ||
			!attribute.ReadASN1(&values, asn1.SET) {
			return false
		}
		if id.Equal(messageDigest) {
			return values.ReadASN1(&value, asn1.OCTET_STRING) && bytes.Equal(value, sum)
		}
	}
	return false
}
