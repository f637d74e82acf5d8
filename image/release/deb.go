package release

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"
)

// A deb is a Debian package: deb(5), and the Debian Policy Manual for what is in it.
type deb struct {
	name, arch string
	version    string      // in Debian's form: see debianVersion
	fields     [][2]string // of the control file, after Package, Version, Architecture and Installed-Size
	files      []entry
	conffiles  []string          // those of files that dpkg lets an administrator change, from the root on
	scripts    map[string][]byte // of a maintainer: postinst and its kin
}

// debianVersion is a semantic version as Debian orders it: what stands after a tilde is before what stands alone
// (Debian Policy §5.6.12).
func debianVersion(version string) string { return strings.Replace(version, "-", "~", 1) }

// encode is the package's file. Its members are compressed by gzip, which all of Debian's and Ubuntu's dpkg read and which
// costs no dependency: xz would make the daemon's package a quarter smaller.
func (d deb) encode(modified time.Time) ([]byte, error) {
	root := entry{mode: fs.ModeDir | 0o755}
	files := append([]entry{root}, withFolders(d.files)...)
	control, err := d.control(files)
	if err != nil {
		return nil, err
	}
	controlTar, err := tarGz("./", append([]entry{root}, control...), modified)
	if err != nil {
		return nil, err
	}
	dataTar, err := tarGz("./", files, modified)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	for _, member := range []struct {
		name string
		data []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar.gz", controlTar}, {"data.tar.gz", dataTar}} {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", member.name, modified.Unix(), 0, 0, "100644", len(member.data))
		b.Write(member.data)
		if len(member.data)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes(), nil
}

// control has what dpkg reads before it unpacks files.
func (d deb) control(files []entry) ([]entry, error) {
	var kib int64 // as dpkg-gencontrol counts: files in blocks, and each folder as one
	var sums strings.Builder
	for _, f := range files {
		if f.mode.IsDir() {
			kib++
			continue
		}
		kib += (int64(len(f.data)) + 1023) / 1024
		if path := "/" + f.name; !slices.Contains(d.conffiles, path) {
			fmt.Fprintf(&sums, "%x  %s\n", md5.Sum(f.data), f.name)
		}
	}
	fields := append([][2]string{
		{"Package", d.name}, {"Version", d.version}, {"Architecture", d.arch}, {"Installed-Size", fmt.Sprint(kib)},
	}, d.fields...)
	var text strings.Builder
	for _, f := range fields {
		if strings.Contains(strings.ReplaceAll(f[1], "\n ", ""), "\n") {
			return nil, fmt.Errorf("%s of the control file begins another field", f[0])
		}
		fmt.Fprintf(&text, "%s: %s\n", f[0], f[1])
	}
	control := []entry{file("control", []byte(text.String())), file("md5sums", []byte(sums.String()))}
	if len(d.conffiles) > 0 {
		control = append(control, file("conffiles", []byte(strings.Join(d.conffiles, "\n")+"\n")))
	}
	for name, script := range d.scripts {
		control = append(control, entry{name, 0o755, script})
	}
	return withFolders(control), nil
}
