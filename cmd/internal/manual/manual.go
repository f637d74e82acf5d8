// Package manual writes a program's manual pages from what its help says, so that both say the same.
//
//	pages := manual.Manual{App: app, Section: "1", Group: "User Commands", Split: true}.Pages()
//	os.WriteFile("sallyport.1", pages["sallyport.1"], 0o644)
//
// Pages are in the language of man(7), which groff, mandoc and heirloom troff read.
package manual

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// A Manual is a program's pages before they are written.
type Manual struct {
	App     *cli.App
	Section string // of the manual, such as "1"
	Group   string // what the section is called, such as "User Commands"
	Version string // of the program
	Date    time.Time

	// Split gives each command a page of its own, PROGRAM-COMMAND, as git has them; `man PROGRAM COMMAND` finds it. Else all
	// of them are on the program's page.
	Split bool

	More    []Part // stands on the program's page, after its options
	SeeAlso []string
}

// A Part is a list under a title of its own, such as EXIT STATUS.
type Part struct {
	Title string
	Items [][2]string // each a term and what it means
}

// Pages are the pages by the names of their files.
func (m Manual) Pages() map[string][]byte {
	pages := map[string][]byte{}
	p := m.begin(m.App.Name, m.App.Usage)
	p.section("SYNOPSIS")
	p.synopsis(m.App.Name, m.App.UsageText)
	if m.App.Description != "" {
		p.section("DESCRIPTION")
		p.prose(m.App.Description)
	}
	p.section("OPTIONS")
	p.flags(m.App.Flags)
	p.section("COMMANDS")
	also := slices.Clone(m.SeeAlso)
	for _, c := range visible(m.App.Commands) {
		name := m.App.Name + " " + c.Name
		if !m.Split {
			p.command(name, c)
			continue
		}
		page := strings.ReplaceAll(name, " ", "-")
		p.item(bold(page)+"("+m.Section+")", c.Usage)
		also = append(also, page+"("+m.Section+")")
		pages[page+"."+m.Section] = m.page(name, c)
	}
	for _, part := range m.More {
		p.section(part.Title)
		for _, item := range part.Items {
			p.item(bold(item[0]), item[1])
		}
	}
	p.seeAlso(also)
	pages[m.App.Name+"."+m.Section] = p.bytes()
	return pages
}

// page is that of one command, with the commands below it.
func (m Manual) page(name string, c *cli.Command) []byte {
	p := m.begin(strings.ReplaceAll(name, " ", "-"), c.Usage)
	p.section("SYNOPSIS")
	p.synopsis(name, c.UsageText)
	if c.Description != "" {
		p.section("DESCRIPTION")
		p.prose(c.Description)
	}
	p.section("OPTIONS")
	fmt.Fprintf(p, "Those for all commands are in\n.BR %s (%s).\n", roff(m.App.Name), m.Section)
	p.flags(c.Flags)
	if below := visible(c.Subcommands); len(below) > 0 {
		p.section("COMMANDS")
		for _, sub := range below {
			p.command(name+" "+sub.Name, sub)
		}
	}
	p.seeAlso([]string{m.App.Name + "(" + m.Section + ")"})
	return p.bytes()
}

func visible(commands []*cli.Command) []*cli.Command {
	return slices.DeleteFunc(slices.Clone(commands), func(c *cli.Command) bool { return c.Hidden })
}

// A page is one being written.
type page struct{ strings.Builder }

func (p *page) bytes() []byte { return []byte(p.String()) }

func (m Manual) begin(name, usage string) *page {
	p := &page{}
	date := ""
	if !m.Date.IsZero() {
		date = m.Date.UTC().Format(time.DateOnly)
	}
	// Neither hyphenation nor adjustment: commands are to be copied.
	fmt.Fprintf(p, ".TH %s %s \"%s\" \"%s\" \"%s\"\n.nh\n.ad l\n", roff(strings.ToUpper(name)), m.Section, date,
		roff(m.App.Name+" "+m.Version), roff(m.Group))
	p.section("NAME")
	fmt.Fprintf(p, "%s \\- %s\n", roff(name), roff(usage))
	return p
}

func (p *page) section(title string) { fmt.Fprintf(p, ".SH %s\n", roff(title)) }

// synopsis has what is typed as it stands in bold.
func (p *page) synopsis(name, usage string) {
	usage = strings.TrimSpace(strings.TrimPrefix(usage, name))
	fmt.Fprintln(p, strings.TrimSpace(bold(name)+" "+roff(usage)))
}

// command is a command on the page of another.
func (p *page) command(name string, c *cli.Command) {
	fmt.Fprintf(p, ".SS %s\n", roff(name))
	fmt.Fprintf(p, "%s\n.PP\n", roff(sentence(c.Usage)))
	p.synopsis(name, c.UsageText)
	if c.Description != "" {
		fmt.Fprint(p, ".PP\n")
		p.prose(c.Description)
	}
	p.flags(slices.DeleteFunc(slices.Clone(c.Flags), func(f cli.Flag) bool { return f == cli.HelpFlag }))
	for _, sub := range visible(c.Subcommands) {
		p.command(name+" "+sub.Name, sub)
	}
}

// sentence is a usage line as a sentence.
func sentence(usage string) string {
	if usage == "" {
		return ""
	}
	return strings.ToUpper(usage[:1]) + usage[1:] + "."
}

// prose is a description: paragraphs parted by empty lines. What is indented, or set with spaces, keeps its lines.
func (p *page) prose(text string) {
	for i, paragraph := range strings.Split(strings.Trim(text, "\n"), "\n\n") {
		lines := strings.Split(paragraph, "\n")
		asItIs := strings.HasPrefix(paragraph, "  ") ||
			slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(strings.TrimSpace(line), "  ") })
		if i > 0 {
			fmt.Fprint(p, ".PP\n")
		}
		if asItIs {
			fmt.Fprint(p, ".RS 4\n.nf\n")
		}
		for _, line := range lines {
			fmt.Fprintln(p, roff(strings.TrimPrefix(line, "  ")))
		}
		if asItIs {
			fmt.Fprint(p, ".fi\n.RE\n")
		}
	}
}

// flags are told as the help tells them, with what a flag takes in italics.
func (p *page) flags(flags []cli.Flag) {
	for _, f := range flags {
		if v, ok := f.(cli.VisibleFlag); ok && !v.IsVisible() {
			continue
		}
		names, meaning, _ := strings.Cut(f.String(), "\t")
		words := strings.Fields(names)
		for i, word := range words {
			plain := strings.TrimSuffix(word, ",")
			set := italic(plain)
			if strings.HasPrefix(word, "-") {
				set = bold(plain)
			}
			words[i] = set + word[len(plain):]
		}
		p.item(strings.Join(words, " "), strings.TrimSpace(meaning))
	}
}

// item is a term, set already, and what it means.
func (p *page) item(term, meaning string) { fmt.Fprintf(p, ".TP\n%s\n%s\n", term, roff(meaning)) }

func (p *page) seeAlso(pages []string) {
	if len(pages) == 0 {
		return
	}
	p.section("SEE ALSO")
	for i, other := range pages {
		name, section, _ := strings.Cut(other, "(")
		end := ","
		if i == len(pages)-1 {
			end = ""
		}
		fmt.Fprintf(p, ".BR %s (%s%s\n", roff(name), section, end)
	}
}

func bold(text string) string   { return `\fB` + roff(text) + `\fR` }
func italic(text string) string { return `\fI` + roff(text) + `\fR` }

// roff is text that means nothing to the formatter. A hyphen stays one that can be copied into a shell.
func roff(text string) string {
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '-':
			b.WriteString(`\-`)
		case r == '"':
			b.WriteString(`\(dq`)
		case r == '\'':
			b.WriteString(`\(aq`)
		case r == '`':
			b.WriteString(`\(ga`)
		case r == '^':
			b.WriteString(`\(ha`)
		case r == '~':
			b.WriteString(`\(ti`)
		case r == '.' && (i == 0 || text[i-1] == '\n'):
			b.WriteString(`\&.`)
		case r > '~':
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
