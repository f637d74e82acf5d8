package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What the worker's user plants in the folders of the namespaces leads root nowhere else.
func TestPlantedNamespaces(t *testing.T) {
	for name, plant := range map[string]func(t *testing.T, runDir, victim string){
		"link": func(t *testing.T, runDir, victim string) {
			mkdir(t, filepath.Join(runDir, "netns"), 0o700)
			symlink(t, filepath.Join(victim, "empty"), namespacePath(runDir, "hub"))
		},
		"dangling link": func(t *testing.T, runDir, victim string) {
			mkdir(t, filepath.Join(runDir, "netns"), 0o700)
			symlink(t, filepath.Join(victim, "made"), namespacePath(runDir, "hub"))
		},
		"link to a namespace": func(t *testing.T, runDir, victim string) {
			mkdir(t, filepath.Join(runDir, "netns"), 0o700)
			symlink(t, ownNamespace, namespacePath(runDir, "hub"))
		},
		"folder that is a link": func(t *testing.T, runDir, victim string) {
			write(t, filepath.Join(victim, "hub"), "")
			symlink(t, victim, filepath.Join(runDir, "netns"))
		},
		"run folder that is a link": func(t *testing.T, runDir, victim string) {
			mkdir(t, filepath.Join(victim, "netns"), 0o700)
			write(t, filepath.Join(victim, "netns", "hub"), "")
			if err := os.Remove(runDir); err != nil {
				t.Fatal(err)
			}
			symlink(t, victim, runDir)
		},
		"file with content": func(t *testing.T, runDir, victim string) {
			mkdir(t, filepath.Join(runDir, "netns"), 0o700)
			if err := os.Link(filepath.Join(victim, "full"), namespacePath(runDir, "hub")); err != nil {
				t.Fatal(err)
			}
		},
		"FIFO": func(t *testing.T, runDir, victim string) {
			mkdir(t, filepath.Join(runDir, "netns"), 0o700)
			if err := unix.Mkfifo(namespacePath(runDir, "hub"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"folder that all can write to": func(t *testing.T, runDir, victim string) {
			mkdir(t, filepath.Join(runDir, "netns"), 0o777)
			write(t, namespacePath(runDir, "hub"), "")
		},
		"run folder that the group can write to": func(t *testing.T, runDir, victim string) {
			mkdir(t, filepath.Join(runDir, "netns"), 0o700)
			write(t, namespacePath(runDir, "hub"), "")
			if err := os.Chmod(runDir, 0o775); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			runDir, victim := filepath.Join(dir, "run"), filepath.Join(dir, "victim")
			mkdir(t, runDir, 0o755)
			mkdir(t, victim, 0o755)
			write(t, filepath.Join(victim, "empty"), "")
			write(t, filepath.Join(victim, "full"), "content")
			plant(t, runDir, victim)
			before := len(mountsUnder(t, dir))
			if err := ensureNamespace(namespacePath(runDir, "hub")); err == nil {
				t.Error("a namespace was bound")
			}
			if err := Release(runDir, "hub"); err == nil {
				t.Error("released")
			}
			if got := mountsUnder(t, dir); len(got) != before {
				t.Errorf("mounted: %v", got)
				for _, at := range got {
					unix.Unmount(at, unix.MNT_DETACH)
				}
			}
			if got := read(t, "%s/full", victim); got != "content" {
				t.Errorf("the victim holds %q", got)
			}
			if _, err := os.Stat(filepath.Join(victim, "made")); err == nil {
				t.Error("a file was made behind the link")
			}
		})
	}
}

// Release takes down no mount but a namespace's.
func TestReleaseLeavesOtherMounts(t *testing.T) {
	runDir := t.TempDir()
	victim := filepath.Join(t.TempDir(), "mounted")
	for _, at := range []string{victim, namespacePath(runDir, "hub")} {
		mkdir(t, filepath.Dir(at), 0o700)
		write(t, at, "")
		if err := unix.Mount("/proc/self/status", at, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
	}
	symlink(t, victim, namespacePath(runDir, "spoke"))
	for _, vnet := range []string{"hub", "spoke"} {
		if err := Release(runDir, vnet); err == nil {
			t.Errorf("%s: released", vnet)
		}
	}
	if got := append(mountsUnder(t, filepath.Dir(victim)), mountsUnder(t, runDir)...); len(got) != 2 {
		t.Errorf("mounted are %v", got)
	}
}

func TestPlantedLock(t *testing.T) {
	runDir := t.TempDir()
	victim := filepath.Join(t.TempDir(), "made")
	symlink(t, victim, filepath.Join(runDir, "lock"))
	if f, err := lockRunDir(runDir); err == nil {
		f.Close()
		t.Error("locked behind a link")
	}
	if _, err := os.Stat(victim); err == nil {
		t.Error("a file was made behind the link")
	}
}

func mkdir(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(path, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // the umask took from it
		t.Fatal(err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

// mountsUnder are the mount points below a folder.
func mountsUnder(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	for line := range strings.Lines(read(t, "/proc/self/mountinfo")) {
		if fields := strings.Fields(line); strings.HasPrefix(fields[4], dir+"/") {
			all = append(all, fields[4])
		}
	}
	return all
}
