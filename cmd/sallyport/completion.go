package main

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"sallyport/appliance/api"
	"sallyport/client"
)

// The scripts ask the program itself, with the words before the one that is being typed. Targets' names come from the
// appliance: no script may let the shell expand an answer, as bash's compgen -W would.
var completions = map[string]string{
	"bash": `_sallyport() {
    local answer word="${COMP_WORDS[COMP_CWORD]}"
    COMPREPLY=()
    while IFS= read -r answer; do
        [[ "$answer" == "$word"* ]] && COMPREPLY+=("$(printf %q "$answer")")
    done < <(sallyport __complete -- "${COMP_WORDS[@]:1:COMP_CWORD-1}" 2>/dev/null)
}
complete -o default -F _sallyport sallyport
`,
	"zsh": `#compdef sallyport
_sallyport() {
    local -a answers
    answers=("${(@f)$(sallyport __complete -- "${(@)words[2,CURRENT-1]}" 2>/dev/null)}")
    compadd -a answers
}
compdef _sallyport sallyport
`,
	"fish": `complete -c sallyport -f -a '(set -l words (commandline -opc); sallyport __complete -- $words[2..] 2>/dev/null)'
`,
}

func (c *command) completion() *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "print a script that completes commands and targets", ArgsUsage: "bash|zsh|fish",
		Description: "  source <(sallyport completion bash)",
		Action: func(x *cli.Context) error {
			shell, err := only(x, "shell")
			if err != nil {
				return err
			}
			script, ok := completions[shell]
			if !ok {
				return usage("there is no completion for "+shell, "use bash, zsh or fish")
			}
			_, err = fmt.Fprint(c.Stdout, script)
			return err
		},
	}
}

// complete prints what may follow the words typed so far, one a line.
func (c *command) complete() *cli.Command {
	return &cli.Command{
		Name: "__complete", Hidden: true,
		Action: func(x *cli.Context) error {
			words := x.Args().Slice()
			commands := visible(x.App.Commands)
			for _, w := range words {
				for _, command := range commands {
					if command.HasName(w) {
						if takesTarget(w) {
							return c.completeTargets(x.Context)
						}
						commands = command.Subcommands
						break
					}
				}
			}
			for _, command := range commands {
				fmt.Fprintln(c.Stdout, command.Name)
			}
			return nil
		},
	}
}

func takesTarget(command string) bool {
	switch command {
	case "ssh", "rdp", "tunnel", "proxy", "bench", "known-hosts":
		return true
	}
	return false
}

func (c *command) completeTargets(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return c.ask(func(api *client.API) error {
		targets, err := api.Targets(ctx)
		for _, name := range typeable(targets) {
			fmt.Fprintln(c.Stdout, name)
		}
		return err
	})
}

// typeable are the names that mean their target on a command line, and nothing to a shell.
func typeable(targets []api.Target) []string {
	var names []string
	for _, t := range targets {
		if name, _, err := client.ParseTarget(t.Name); err == nil && name == t.Name {
			names = append(names, name)
		}
	}
	return names
}
