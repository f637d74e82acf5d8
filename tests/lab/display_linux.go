package lab

import (
	"bufio"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A Display is a screen that nobody looks at but tests: an X server with a window manager, so that windows get the
// keyboard.
type Display struct {
	Name string // ":1"

	t       testing.TB
	ns      *Namespace
	dir     string
	pending int // number of the next picture
}

// Xvfb starts a display, such as "1024x768", for programs in a namespace.
func (l *Lab) Xvfb(n *Namespace, size string) *Display {
	l.t.Helper()
	number, theirs, err := os.Pipe()
	if err != nil {
		l.t.Fatal(err)
	}
	defer number.Close()
	cmd := n.Command(context.Background(), "Xvfb", "-displayfd", "3", "-screen", "0", size+"x24", "-nolisten", "tcp", "-noreset", "-ac")
	cmd.ExtraFiles = []*os.File{theirs}
	server := Start(l.t, cmd)
	l.t.Cleanup(func() { server.Terminate(5 * time.Second) }) // then it removes its lock and its socket
	theirs.Close()
	number.SetReadDeadline(time.Now().Add(20 * time.Second))
	line, err := bufio.NewReader(number).ReadString('\n')
	if err != nil {
		l.t.Fatalf("Xvfb does not say its number: %v", err)
	}
	d := &Display{Name: ":" + strings.TrimSpace(line), t: l.t, ns: n, dir: l.dir("display")}
	Start(l.t, d.Command(context.Background(), "openbox"))
	waitFor(l.t, 20*time.Second, "window manager", func(ctx context.Context) bool {
		out, err := d.Command(ctx, "xprop", "-root", "_NET_SUPPORTING_WM_CHECK").Output()
		return err == nil && strings.Contains(string(out), "window id")
	})
	return d
}

// Command is Namespace.Command with the display in the environment.
func (d *Display) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := d.ns.Command(ctx, name, args...)
	cmd.Env = append(os.Environ(), "DISPLAY="+d.Name, "HOME="+d.dir)
	return cmd
}

func (d *Display) run(name string, args ...string) {
	d.t.Helper()
	if out, err := d.Command(d.t.Context(), name, args...).CombinedOutput(); err != nil {
		d.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// Screenshot writes what the display shows to a PNG file and returns its path.
func (d *Display) Screenshot() string {
	d.t.Helper()
	d.pending++
	path := filepath.Join(d.dir, fmt.Sprintf("%d.png", d.pending))
	d.run("import", "-window", "root", path)
	return path
}

// Image is what the display shows.
func (d *Display) Image() image.Image {
	d.t.Helper()
	return readPNG(d.t, d.Screenshot())
}

func readPNG(t testing.TB, path string) image.Image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := png.Decode(f)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return m
}

// Pixel is the colour of one point of the display.
func (d *Display) Pixel(x, y int) color.RGBA {
	d.t.Helper()
	return color.RGBAModel.Convert(d.Image().At(x, y)).(color.RGBA)
}

// Type types text into the window that has the keyboard.
func (d *Display) Type(text string) {
	d.t.Helper()
	d.run("xdotool", "type", "--delay", "30", "--", text)
}

// Key presses keys by their X names, such as "Return" or "ctrl+c".
func (d *Display) Key(keys ...string) {
	d.t.Helper()
	d.run("xdotool", append([]string{"key", "--delay", "30", "--"}, keys...)...)
}

// Click presses the left button at a point.
func (d *Display) Click(x, y int) {
	d.t.Helper()
	d.run("xdotool", "mousemove", fmt.Sprint(x), fmt.Sprint(y), "click", "1")
}

// WaitText waits until the display shows the text, as far as OCR can read it: choose words of plain capitals and digits.
// It returns all that it read.
func (d *Display) WaitText(text string, limit time.Duration) string {
	d.t.Helper()
	var seen string
	defer func() {
		if d.t.Failed() {
			d.t.Logf("display %s shows:\n%s", d.Name, seen)
		}
	}()
	waitFor(d.t, limit, fmt.Sprintf("%q on display %s", text, d.Name), func(context.Context) bool {
		seen = OCR(d.t, d.Screenshot())
		return strings.Contains(seen, text)
	})
	return seen
}

// OCR reads the text in a picture.
func OCR(t testing.TB, path string) string {
	t.Helper()
	grey := path + ".grey.png" // letters of a screen are too small for tesseract, and thin when coloured
	if out, err := exec.CommandContext(t.Context(), "convert", path, "-colorspace", "Gray", "-resize", "200%", grey).CombinedOutput(); err != nil {
		t.Fatalf("convert: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), "tesseract", grey, "-", "--psm", "11")
	cmd.Env = append(os.Environ(), "OMP_THREAD_LIMIT=1") // its threads only get into each other's way
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tesseract: %v", err)
	}
	return string(out)
}
