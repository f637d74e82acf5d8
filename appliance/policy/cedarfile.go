package policy

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"sallyport/appliance/policy/spell"
	"sallyport/appliance/policy/yamlfile"
)

// Limits of policies. The time and the stack that Cedar's parser and validator take grow with the tokens of one policy,
// some of it with their square.
const (
	maxPolicies     = 10_000
	maxPolicySize   = 32 << 10
	maxPolicyTokens = 4096
	maxPolicyDepth  = 32 // of brackets
	maxHint         = 200
)

// A cedarFile is a *.cedar file that is being read.
type cedarFile struct {
	*yamlfile.File
	name  string
	names *names
}

// A policyText is one policy of a file, up to its semicolon.
type policyText struct {
	source string
	tokens []token
}

// read returns the statements of the file, of which one that has faults may be missing.
func (f *cedarFile) read(text string) (read []*statement) {
	tokens := tokenize(text)
	start := 0
	for i, t := range tokens {
		switch t.text {
		case "":
			f.Fault(t.at, "", "the text or comment that begins here does not end")
			return read
		case ";":
			chunk := policyText{text[tokens[start].offset : t.offset+1], tokens[start : i+1]}
			start = i + 1
			if s := f.statement(chunk, len(read)+1); s != nil {
				read = append(read, s)
			}
		}
		if len(read) > maxPolicies {
			f.Fault(t.at, "", "the file has more than %d policies", maxPolicies)
			return nil
		}
	}
	if start < len(tokens) {
		f.Fault(tokens[start].at, "add the ; after it", "the policy that begins here does not end")
	}
	return read
}

// statement reads one policy, the number-th of its file.
func (f *cedarFile) statement(chunk policyText, number int) *statement {
	if !f.checkSize(chunk) {
		return nil
	}
	parsed := f.parse(chunk)
	if parsed == nil {
		return nil
	}
	s := &statement{
		id: fmt.Sprintf("%s#%d", path.Base(f.name), number), word: "policy", file: f.name, at: chunk.effect(),
		zone: f.names.zone, parsed: parsed,
	}
	f.annotate(s, chunk)
	f.validate(s, chunk)
	return s
}

func (f *cedarFile) checkSize(chunk policyText) bool {
	at := chunk.tokens[0].at
	if len(chunk.source) > maxPolicySize || len(chunk.tokens) > maxPolicyTokens {
		f.Fault(at, "make several of it", "this policy has %d words in %d bytes; at most %d in %d are read",
			len(chunk.tokens), len(chunk.source), maxPolicyTokens, maxPolicySize)
		return false
	}
	depth := 0
	for _, t := range chunk.tokens {
		switch t.text {
		case "(", "[", "{":
			depth++
		case ")", "]", "}":
			depth--
		}
		if depth > maxPolicyDepth {
			f.Fault(t.at, "", "brackets stand more than %d deep in each other", maxPolicyDepth)
			return false
		}
	}
	return true
}

func (f *cedarFile) parse(chunk policyText) (parsed *ast.Policy) {
	// As with YAML: what the library cannot take is a fault of the file.
	defer func() {
		if p := recover(); p != nil {
			f.Fault(chunk.tokens[0].at, "", "this cannot be read as a policy: %v", p)
			parsed = nil
		}
	}()
	var p cedar.Policy
	if err := p.UnmarshalCedar([]byte(chunk.source)); err != nil {
		f.syntaxFault(chunk, err)
		return nil
	}
	return (*ast.Policy)(p.AST())
}

var (
	parseError = regexp.MustCompile(`(?s)^parse error at <input>:(\d+):(\d+) "(?:[^"\\]|\\.)*": (.*)$`)
	unexpected = regexp.MustCompile(`(?s)^exact got (.*) want (.*)$`)
	noEffect   = regexp.MustCompile(`(?s)^unexpected effect: (.*)$`)
)

// syntaxFault says in our words what the parser says in its own. Most of its errors have the place of the token after the
// wrong one.
func (f *cedarFile) syntaxFault(chunk policyText, err error) {
	m := parseError.FindStringSubmatch(err.Error())
	if m == nil {
		f.Fault(chunk.tokens[0].at, "", "this is not a policy: %v", err)
		return
	}
	line, _ := strconv.Atoi(m[1])
	column, _ := strconv.Atoi(m[2])
	culprit, message := chunk.before(line, column), m[3]
	hint := ""
	switch {
	case culprit.text == "=":
		message, hint = "a single = compares nothing", "write =="
	case unexpected.MatchString(message):
		words := unexpected.FindStringSubmatch(message)
		message = fmt.Sprintf("%q stands where %q belongs", words[1], words[2])
	case noEffect.MatchString(message):
		word := noEffect.FindStringSubmatch(message)[1]
		message = fmt.Sprintf("%q stands where a policy begins", word)
		hint = spell.DidYouMean(word, []string{"permit", "forbid"}, "write permit or forbid")
	case message == "invalid primary":
		message = fmt.Sprintf("%q does not belong here", culprit.text)
	}
	f.Fault(culprit.at, hint, "%s", message)
}

// before returns the token before the one that stands at a place of the policy's own text, or the last.
func (c policyText) before(line, column int) token {
	first := c.tokens[0].at
	at := yamlfile.Position{Line: first.Line + line - 1, Column: column}
	if line == 1 {
		at.Column += first.Column - 1
	}
	for i, t := range c.tokens {
		if t.at == at {
			return c.tokens[max(0, i-1)]
		}
	}
	return c.tokens[len(c.tokens)-1]
}

// effect is the place of permit or forbid.
func (c policyText) effect() yamlfile.Position {
	for _, t := range c.tokens {
		if t.text == "permit" || t.text == "forbid" {
			return t.at
		}
	}
	return c.tokens[0].at
}

// annotation is the place of an annotation.
func (c policyText) annotation(key string) yamlfile.Position {
	for i, t := range c.tokens[:len(c.tokens)-1] {
		if t.text == "@" && c.tokens[i+1].text == key {
			return t.at
		}
	}
	return c.tokens[0].at
}

// conditions splits off the tokens of the scope, and those of each condition.
func (c policyText) conditions() (scope policyText, conditions []policyText) {
	scope = c
	depth, start := 0, -1
	for i, t := range c.tokens {
		switch t.text {
		case "(", "[", "{":
			depth++
		case ")", "]", "}":
			depth--
		case "when", "unless", ";":
			if depth != 0 {
				continue
			}
			if start < 0 {
				scope = policyText{tokens: c.tokens[:i]}
			} else {
				conditions = append(conditions, policyText{tokens: c.tokens[start:i]})
			}
			start = i
		}
	}
	return scope, conditions
}

// find is the place of the first token that is one of the texts, or else of the first of all.
func (c policyText) find(texts ...string) yamlfile.Position {
	for _, text := range texts {
		for _, t := range c.tokens {
			if t.text == text {
				return t.at
			}
		}
	}
	return c.tokens[0].at
}

// isID reports whether s can be a statement's id.
func isID(s string) bool { return isPlain(s, 64) && !strings.Contains(s, `"`) }
