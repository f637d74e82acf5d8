package portal

import (
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestDist: what is committed of the application is what its sources build, to the byte, by the packages that its lock file
// names. It is built in another folder, whose path must not be in it.
func TestDist(t *testing.T) {
	t.Parallel()
	const web = "../../appliance/portal/web"
	dir := t.TempDir()
	for path, data := range filesOf(t, web, "node_modules", "dist") {
		to := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, command := range []string{"npm ci --ignore-scripts --no-audit --no-fund", "npm run check", "npm run build"} {
		words := strings.Fields(command)
		cmd := exec.CommandContext(t.Context(), words[0], words[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
	built, committed := filesOf(t, filepath.Join(dir, "dist")), filesOf(t, filepath.Join(web, "dist"))
	if len(built) < 10 {
		t.Fatalf("only %d files are built", len(built))
	}
	if names, want := slices.Sorted(maps.Keys(committed)), slices.Sorted(maps.Keys(built)); !slices.Equal(names, want) {
		t.Fatalf("committed are\n%s\nbuilt are\n%s\nrun: make web", strings.Join(names, "\n"), strings.Join(want, "\n"))
	}
	for name, data := range built {
		if committed[name] != data {
			t.Errorf("%s is not what is built of the sources; run: make web", name)
		}
		if strings.Contains(data, dir) {
			t.Errorf("%s has the folder's name in it that it was built in", name)
		}
	}
}

// filesOf are the files below a folder, but for some folders in it.
func filesOf(t *testing.T, root string, but ...string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains(but, rel):
			return filepath.SkipDir
		case d.IsDir():
			return nil
		}
		data, err := os.ReadFile(path)
		files[rel] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
