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
	// zsh runs the file for the first question, where it is among its functions; sourced, it only says who answers.
	"zsh": `#compdef sallyport
_sallyport() {
    local -a answers
    answers=("${(@f)$(sallyport __complete -- "${(@)words[2,CURRENT-1]}" 2>/dev/null)}")
    compadd -a answers
}
if [[ "${funcstack[1]}" == _sallyport ]]; then
    _sallyport "$@"
else
    compdef _sallyport sallyport
fi
`,
	"fish": `complete -c sallyport -f -a '(set -l words (commandline -opc); sallyport __complete -- $words[2..] 2>/dev/null)'
`,
	// A cursor within a word counts as one behind it. Answers are names: see typeable.
	"powershell": `Register-ArgumentCompleter -Native -CommandName sallyport, sallyport.exe -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements |
        Where-Object { $_.Extent.EndOffset -lt $cursorPosition } |
        Select-Object -Skip 1 |
        ForEach-Object { $_.Extent.Text })
    & sallyport __complete -- @words 2>$null |
        Where-Object { $_.StartsWith($wordToComplete) } |
        ForEach-Object { [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_) }
}
`,
}

func (c *command) completion() *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "print a script that completes commands and targets", ArgsUsage: "bash|zsh|fish|powershell",
		Description: "  source <(sallyport completion bash)\n" +
			"  sallyport completion powershell | Out-String | Invoke-Expression",
		Action: func(x *cli.Context) error {
			shell, err := only(x, "shell")
			if err != nil {
				return err
			}
			script, ok := completions[shell]
			if !ok {
				return usage("there is no completion for "+shell, "use bash, zsh, fish or powershell")
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
			targets := false
			for _, w := range words {
				for _, command := range commands {
					if command.HasName(w) {
						commands, targets = command.Subcommands, takesTarget(w)
						break
					}
				}
			}
			for _, command := range commands {
				fmt.Fprintln(c.Stdout, command.Name)
			}
			if targets {
				return c.completeTargets(x.Context)
			}
			return nil
		},
	}
}

func takesTarget(command string) bool {
	switch command {
	case "ssh", "rdp", "tunnel", "proxy", "bench", "known-hosts", "share":
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
