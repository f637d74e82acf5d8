package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// watchEvery is how long a change of a file may go unnoticed.
const watchEvery = time.Second

// watchFiles tells changed when a file's stamp changes, or somebody asks for it by a signal.
func watchFiles(ctx context.Context, asked <-chan os.Signal, files []string, changed chan<- struct{}) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	last := stamps(files)
	seen := last
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked:
		case <-tick.C:
			now := stamps(files)
			settled := now == seen
			if seen = now; !settled || now == last { // what is half written waits for the next tick
				continue
			}
			last = now
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	}
}

// stamps sums up what tells one version of the files from another.
func stamps(files []string) (sum string) {
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			continue
		}
		if info.IsDir() {
			var inside []string
			for _, pattern := range accessFiles {
				found, _ := filepath.Glob(filepath.Join(f, pattern))
				inside = append(inside, found...)
			}
			sum += fmt.Sprintln(inside) + stamps(inside)
			continue
		}
		sum += fmt.Sprintln(info.ModTime(), info.Mode(), info.Size())
	}
	return sum
}
