#!/bin/sh
# Runs every fuzz target of the module for a while, one after the other.
set -eu
time=${1:-60s}
go list ./... | while read -r package; do
	dir=$(go list -f '{{.Dir}}' "$package")
	grep -hoE '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go 2>/dev/null | sed 's/^func //' | while read -r target; do
		echo "== $package $target"
		go test "$package" -run '^$' -fuzz "^$target\$" -fuzztime "$time"
	done
done
