package portal

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/tests/lab"
)

// attacks are a hundred names that would do something if they were taken for what they look like: set window.pwned, load
// something, or lead elsewhere. They have no more than the 64 bytes that the shortest of names may have.
func attacks() (all []string) {
	tags := []string{`<script>X</script>`, `<img src=x onerror=X>`, `<svg onload=X>`, `<svg><script>X</script></svg>`, `<iframe src="javascript:X">`, `<body onload=X>`, `<details open ontoggle=X>`, `<input autofocus onfocus=X>`,
		`<video><source onerror=X>`, `<a href="javascript:X">n</a>`, `<math><mi xlink:href="javascript:X">`, `<object data="javascript:X">`, `<embed src="javascript:X">`, `<form action="javascript:X"><button>`,
		`<meta http-equiv=refresh content=0;//evil.example>`, `<link rel=stylesheet href="//evil.example/x">`, `<base href="//evil.example/">`, `<style>@import "//evil.example"</style>`, `<template><script>X</script></template>`,
		`<noscript><img src=x onerror=X></noscript>`}
	for _, tag := range tags {
		for _, around := range []string{"%s", `">%s`, "'>%s", "</p></script>%s", "{@html %s}"} {
			all = append(all, strings.ReplaceAll(fmt.Sprintf(around, tag), "X", "pwned=1"))
		}
	}
	return all
}

// hostileAccess has a target for each attack, in a label's name, a label's value, a rule's name and a key's comment.
func hostileAccess(attacks []string) string {
	var targets, rules, asked []string
	for i, a := range attacks {
		targets = append(targets, fmt.Sprintf("  - {name: n-%02d, vnet: hub, address: 10.99.0.10, protocols: {ssh: 2201}, labels: {%q: %q}, host_keys: [%q]}\n", i, a, a,
			"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDC1UqnIswGkqzhFTijssa9YUeB2H7R71zAX64MyBSRx "+a))
		rules = append(rules, fmt.Sprintf("  - {name: %q, who: [ann], targets: [n-%02d], protocols: [ssh]}\n", strings.ReplaceAll(a, `"`, "`"), i)) // which a rule's name has not
	}
	for i := range 32 {
		targets = append(targets, fmt.Sprintf("  - {name: a-%02d, vnet: hub, address: 10.99.0.10, protocols: {ssh: 22}}\n", i))
		asked = append(asked, fmt.Sprintf("a-%02d", i))
	}
	return "admins: [ann]\ngroups: {dba: [ann]}\ntargets:\n" + strings.Join(targets, "") + fmt.Sprintf(`
  - {name: honest, vnet: hub, address: 10.99.0.10, protocols: {ssh: 2201}}
  - {name: liar, vnet: hub, address: 10.99.0.10, protocols: {ssh: 2202}}
  - {name: mute, vnet: hub, address: 10.99.0.10, protocols: {ssh: 2203}}
rules:
  - {name: asked, who: [bob, fay], targets: [%s], protocols: [ssh], approval: dba}
  - {name: %q, who: [ann], targets: [honest, liar, mute], protocols: [ssh], principals: [root]}
`, strings.Join(asked, ", "), "the rule "+attacks[0]) + strings.Join(rules, "")
}

// A liar is an SSH server whose every word is an attack.
type liar struct {
	attacks []string
	key     ssh.Signer
}

func newLiar(t *testing.T, w *site, attacks []string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	l := &liar{attacks: attacks}
	if l.key, err = ssh.NewSignerFromSigner(private); err != nil {
		t.Fatal(err)
	}
	for port, serve := range map[int]func(net.Conn){2202: l.serve, 2203: l.leave} {
		listener, err := w.VNet.Namespace.Listen("tcp", fmt.Sprintf("%v:%d", lab.TargetAddr4, port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { listener.Close() })
		go func() {
			for {
				c, err := listener.Accept()
				if err != nil {
					return
				}
				go serve(c)
			}
		}()
	}
}

// serve asks questions, and lets in who answers them. What a user is called says how that ends.
func (l *liar) serve(c net.Conn) {
	defer c.Close()
	config := &ssh.ServerConfig{
		BannerCallback: func(ssh.ConnMetadata) string { return strings.Join(l.attacks[:50], "\n") + "\n" },
		KeyboardInteractiveCallback: func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			if _, err := ask(l.attacks[1], l.attacks[2], nil, nil); err != nil { // something to read
				return nil, err
			}
			var questions []string
			for some := range slices.Chunk(l.attacks, 10) {
				questions = append(questions, strings.Join(some, " "))
			}
			_, err := ask(strings.Join(l.attacks[:50], " "), strings.Join(l.attacks[50:], "\n"), questions, make([]bool, len(questions)))
			return nil, err
		},
	}
	config.AddHostKey(l.key)
	conn, channels, requests, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for one := range channels {
		if conn.User() == "refuse" {
			one.Reject(ssh.ResourceShortage, l.attacks[3])
			continue
		}
		channel, asked, err := one.Accept()
		if err != nil {
			return
		}
		go l.shell(channel, asked)
	}
}

// shell ends with a signal that there is not.
func (l *liar) shell(c ssh.Channel, asked <-chan *ssh.Request) {
	for r := range asked {
		r.Reply(true, nil)
		if r.Type == "shell" {
			io.WriteString(c, l.attacks[4])
			c.SendRequest("exit-signal", false, ssh.Marshal(struct {
				Signal string
				Core   bool
				Error  string
				Lang   string
			}{l.attacks[5], false, l.attacks[5], l.attacks[5]}))
			c.Close()
		}
	}
}

// leave says why it does not want anybody, before there is a key.
func (l *liar) leave(c net.Conn) {
	defer c.Close()
	io.WriteString(c, l.attacks[6]+"\r\nSSH-2.0-x\r\n")
	body := ssh.Marshal(struct {
		Reason uint32 `sshtype:"1"`
		Why    string
		Lang   string
	}{2, l.attacks[7], ""})
	padding := 16 - (5+len(body))%8 // at least 4, and all of it a multiple of 8
	packet := binary.BigEndian.AppendUint32(nil, uint32(1+len(body)+padding))
	packet = append(append(append(packet, byte(padding)), body...), make([]byte, padding)...)
	c.Write(packet)
	io.Copy(io.Discard, c)
}

// TestHostileNames: a hundred attacks through every name that a target, a person, a file, a terminal and a clipboard can carry:
// they are shown, all of them, and none is more than text.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	all := attacks()
	w := start(t, settings{access: hostileAccess(all)})
	trusted := filepath.Join(w.Dir, "trusted")
	if err := os.WriteFile(trusted, []byte(w.Appliance.Run(w.bin+"/sallyportd", "ca-key", "--config", filepath.Join(w.dir, "sallyport.yaml"))), 0o644); err != nil {
		t.Fatal(err)
	}
	honest := w.SSHD(w.VNet.Namespace, lab.SSHDOptions{Port: 2201, Config: []string{"TrustedUserCAKeys " + trusted}, Password: true})
	home := filepath.Join(w.Dir, honest.PasswordUser)
	var terminal strings.Builder
	var files []string
	for i, a := range all {
		fmt.Fprintf(&terminal, "\x1b]0;%s\x07\x1b]2;%s\x1b\\\x1b]52;c;%s\x07\x1b]8;;javascript:pwned=1//%d\x1b\\%s\x1b]8;;\x1b\\\r\n", a, a, base64.StdEncoding.EncodeToString([]byte(a)), i, a)
		name := strings.ReplaceAll(a, "/", "|") // which no name has
		files = append(files, name)
		at := filepath.Join(home, name)
		err := error(nil)
		switch i % 3 {
		case 0:
			err = os.WriteFile(at, []byte(a), 0o644)
		case 1:
			err = os.Mkdir(at, 0o755)
		case 2:
			err = os.Symlink(a, at)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(w.Dir, "attacks"), []byte(terminal.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	newLiar(t, w, all)
	w.browse("hostile.mjs", map[string]any{"link": w.link("ann"), "others": []string{w.link("bob"), w.link("fay")}, "attacks": all, "files": files,
		"attacks_file": filepath.Join(w.Dir, "attacks"), "user": honest.PasswordUser, "password": honest.Password})
}
