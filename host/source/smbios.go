package source

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	oemKey     = "sallyport.config="
	maxOEM     = 64      // structures of type 11
	maxStrings = 4 << 20 // bytes of one
)

// smbios reads the OEM strings of the firmware's tables (DMTF DSP0134, type 11). Those that begin with the key are one
// document, in their order: base64, or the text itself.
func smbios(root string) (Document, error) {
	const from = "SMBIOS type 11"
	var text []byte
	found := false
	for i := range maxOEM {
		f, err := os.Open(filepath.Join(root, "sys/firmware/dmi/entries", fmt.Sprintf("11-%d", i), "raw"))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return Document{}, fmt.Errorf("%s: %w", from, err)
		}
		raw, err := readAll(f, from, maxStrings)
		f.Close()
		if err != nil {
			return Document{}, err
		}
		for _, s := range oemStrings(raw) {
			if part, ok := bytes.CutPrefix(s, []byte(oemKey)); ok {
				text, found = append(text, part...), true
			}
		}
	}
	if !found {
		return Document{}, ErrNone
	}
	if b, ok := fromBase64(text); ok {
		text = b
	}
	if len(text) > MaxDocument {
		return Document{}, &tooLarge{from, MaxDocument}
	}
	return Document{From: from, Config: text}, nil
}

// oemStrings are the strings of one structure of type 11: a header whose second byte is its length, and behind it
// strings that end with a zero byte each, the last with two.
func oemStrings(raw []byte) [][]byte {
	if len(raw) < 5 || raw[0] != 11 || int(raw[1]) < 5 || int(raw[1]) > len(raw) {
		return nil
	}
	count, rest := int(raw[4]), raw[raw[1]:]
	var list [][]byte
	for range count {
		end := bytes.IndexByte(rest, 0)
		if end <= 0 {
			break
		}
		list, rest = append(list, rest[:end]), rest[end+1:]
	}
	return list
}

// fromBase64 decodes text if it is base64, with line breaks or without. A configuration never is: it has a colon.
func fromBase64(text []byte) ([]byte, bool) {
	s := strings.Join(strings.Fields(string(text)), "")
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	return b, err == nil && len(b) > 0
}
