package image

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sallyport/image/uki"
)

// A Key is what signs EFI programs for Secure Boot.
type Key struct {
	signer crypto.Signer
	cert   *x509.Certificate
}

// ReadKey reads a private key in PKCS #8 or PKCS #1 and its certificate, both in PEM: RSA with at least 2048 bits, which is
// what firmware takes.
func ReadKey(keyFile, certFile string) (Key, error) {
	der, err := pemBlock(keyFile, "PRIVATE KEY")
	if err != nil {
		return Key{}, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		parsed, err = x509.ParsePKCS1PrivateKey(der)
	}
	if err != nil {
		return Key{}, fmt.Errorf("%s: no private key in PKCS #8 or PKCS #1", keyFile)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok || key.N.BitLen() < 2048 {
		return Key{}, fmt.Errorf("%s: firmware takes RSA keys of 2048 bits and more", keyFile)
	}
	if der, err = pemBlock(certFile, "CERTIFICATE"); err != nil {
		return Key{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Key{}, fmt.Errorf("%s: %w", certFile, err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return Key{}, fmt.Errorf("%s is not the certificate of the key in %s", certFile, keyFile)
	}
	return Key{key, cert}, nil
}

// pemBlock returns the first block of the file whose type ends as kind says.
func pemBlock(name, kind string) ([]byte, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return nil, fmt.Errorf("%s: it has no %s in PEM", name, strings.ToLower(kind))
		}
		if strings.HasSuffix(block.Type, kind) {
			return block.Bytes, nil
		}
	}
}

// SignFile signs an EFI program; the signed one takes the place of the file out, which may be the same.
func SignFile(name, out string, k Key) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	signed, err := uki.Sign(b, k.signer, k.cert)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return replace(out, signed)
}

// replace writes a file so that there is either what was or what shall be.
func replace(name string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".sign-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// copied are the files of an image that signing leaves as they are.
func copied(o Options) []string { return []string{"vmlinuz", "initrd", o.file(".cdx.json")} }

// Sign makes a signed image in the folder o.Out of the unsigned one in dir: the boot loader and the unified kernel image
// get signatures, and the disks are written anew. Files of dir that are not what its manifest says are an error. Of o it
// takes Out and Step.
func Sign(ctx context.Context, dir string, k Key, o Options) (*Manifest, error) {
	had, err := ReadManifest(dir)
	if err != nil {
		return nil, err
	}
	if had.Signed != nil {
		return nil, fmt.Errorf("%s is signed already, by %s; sign the image that was built", dir, had.Signed.Subject)
	}
	o.Version, o.Flavour, o.Epoch = had.Version, had.Flavour, time.Unix(had.Epoch, 0).UTC()
	if o, err = o.withDefaults(); err != nil {
		return nil, err
	}
	o.Step("reading " + dir)
	for _, p := range had.Files {
		now, err := filePart(dir, p.Name)
		if err != nil {
			return nil, err
		}
		if now != p {
			return nil, fmt.Errorf("%s is not what %s says: it was changed after it was built",
				filepath.Join(dir, p.Name), manifestFile)
		}
	}
	loader, err := bootLoader(filepath.Join(dir, o.file(".raw")))
	if err != nil {
		return nil, err
	}
	o.Step("signing")
	b := &builder{Options: o, in: new(inputs), m: *had}
	if b.in.loader, err = uki.Sign(loader, k.signer, k.cert); err != nil {
		return nil, fmt.Errorf("%s: %w", loaderPath, err)
	}
	if err := os.MkdirAll(o.Out, 0o755); err != nil {
		return nil, err
	}
	efi := o.file(".efi")
	if err := SignFile(filepath.Join(dir, efi), filepath.Join(o.Out, efi), k); err != nil {
		return nil, err
	}
	unified, err := os.ReadFile(filepath.Join(o.Out, efi))
	if err != nil {
		return nil, err
	}
	same := copied(o)
	for _, name := range same {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(o.Out, name), content, 0o644); err != nil {
			return nil, err
		}
	}
	b.m.Files, b.m.Tools = nil, nil
	b.m.Signed = &Signed{k.cert.Subject.String(), sum(k.cert.Raw), had.Files}
	disks, err := b.disks(ctx, unified)
	if err != nil {
		return nil, err
	}
	return &b.m, b.finish(append(append(disks, same...), efi))
}
