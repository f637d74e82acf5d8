package manual

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"
)

// hostile says everything that a formatter could take for its own.
const hostile = `.TH is no macro here, nor 'is this, nor \fBthis\fR; "quoted", ~/.ssh, a^b, ` + "`id`" + `, 3f9a…`

func example(split bool) Manual {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "read `FILE`\n.so is no macro,", Value: "a-b"},
		&cli.BoolFlag{Name: "secret", Hidden: true},
	}
	app := &cli.App{
		Name: "probe", Usage: "measure depths", UsageText: "probe [--file FILE] COMMAND …", Flags: flags,
		Description: "One paragraph.\n\n" + hostile + "\n\n  probe --file x dive \\\n    deeper\n\nBegin:  here\nEnd:    there",
		Commands: []*cli.Command{
			{Name: "dive", Usage: "go down", UsageText: "probe dive [options] DEPTH", Description: "  probe dive 3", Flags: flags,
				Subcommands: []*cli.Command{{Name: "deeper", Usage: "go further down", UsageText: "probe dive deeper", Description: hostile}}},
			{Name: "__inner", Hidden: true},
		},
	}
	return Manual{App: app, Section: "1", Group: "User Commands", Version: "1.2.3", Date: time.Unix(1700000000, 0), Split: split,
		More:    []Part{{"EXIT STATUS", [][2]string{{"0", "It is done."}}}},
		SeeAlso: []string{"ssh(1)"}}
}

func TestPages(t *testing.T) {
	pages := example(true).Pages()
	if len(pages) != 2 {
		t.Fatalf("%d pages", len(pages))
	}
	for name, wants := range map[string][]string{
		"probe.1":      {".TH PROBE 1 \"2023-11-14\" \"probe 1.2.3\"", "probe \\- measure depths", `\fB\-\-file\fR \fIFILE\fR, \fB\-f\fR \fIFILE\fR`, `\fBprobe\-dive\fR(1)`, ".SH EXIT STATUS", ".BR ssh (1),\n.BR probe\\-dive (1)\n"},
		"probe-dive.1": {"probe\\-dive \\- go down", `\fBprobe dive\fR [options] DEPTH`, ".SS probe dive deeper", ".BR probe (1)"},
	} {
		for _, want := range wants {
			if !strings.Contains(string(pages[name]), want) {
				t.Errorf("%s lacks %q:\n%s", name, want, pages[name])
			}
		}
		for _, hidden := range []string{"secret", "inner"} {
			if strings.Contains(string(pages[name]), hidden) {
				t.Errorf("%s tells of %s", name, hidden)
			}
		}
	}
	if pages := example(false).Pages(); len(pages) != 1 || !strings.Contains(string(pages["probe.1"]), ".SS probe dive deeper") {
		t.Errorf("unsplit: %d pages\n%s", len(pages), pages["probe.1"])
	}
}

// TestRenders has man, and groff behind it, show what was meant.
func TestRenders(t *testing.T) {
	reader, err := exec.LookPath("man")
	if err != nil {
		if os.Geteuid() == 0 {
			t.Fatal(err) // tests/packages.sh installs it
		}
		t.Skip(err)
	}
	page := filepath.Join(t.TempDir(), "probe.1")
	if err := os.WriteFile(page, example(true).Pages()["probe.1"], 0o644); err != nil {
		t.Fatal(err)
	}
	man := exec.Command(reader, "--warnings", "-E", "UTF-8", "-l", page)
	man.Env = append(os.Environ(), "MANWIDTH=500", "LC_ALL=C.UTF-8", "MANPAGER=cat")
	var shown, said bytes.Buffer
	man.Stdout, man.Stderr = &shown, &said
	if err := man.Run(); err != nil || said.Len() > 0 {
		t.Errorf("%v: %s", err, said.String())
	}
	text := plain(shown.String())
	for _, want := range []string{hostile, "    probe --file x dive \\\n", "    Begin:  here\n", "--file FILE, -f FILE\n", `read FILE .so is no macro, (default: "a-b")`} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %q:\n%s", want, text)
		}
	}
}

// plain is text without the backspaces by which a terminal of old prints bold and underlined.
func plain(text string) string {
	var kept []rune
	for _, r := range text {
		if r == '\b' {
			kept = kept[:len(kept)-1]
			continue
		}
		kept = append(kept, r)
	}
	return string(kept)
}

func TestWrite(t *testing.T) {
	for epoch, want := range map[string]string{"1700000000": `"2023-11-14"`, "": `""`} {
		folder := t.TempDir()
		m := example(false)
		m.Date = time.Time{}
		if err := m.Write(folder, func(string) string { return epoch }); err != nil {
			t.Fatal(err)
		}
		if page, err := os.ReadFile(filepath.Join(folder, "probe.1")); err != nil || !strings.Contains(string(page), ".TH PROBE 1 "+want) {
			t.Errorf("%q: %v\n%s", epoch, err, page)
		}
	}
	if err := example(false).Write(t.TempDir(), func(string) string { return "yesterday" }); err == nil {
		t.Error("a date that is none is taken")
	}
}
