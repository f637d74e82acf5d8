package desktops

import (
	"fmt"
	"strings"
	"time"
)

// Keys that are not letters and digits, by what they type.
var keys = map[rune]string{' ': "Space", '\n': "Enter", '-': "Minus", '.': "Period", ',': "Comma", '/': "Slash"}

// Modifiers as the DevTools protocol has them.
const (
	alt     = 1
	control = 2
	shift   = 8
)

// key presses a key of a US keyboard and lets it go.
func (b *bastion) key(code string, modifiers int) {
	b.t.Helper()
	for _, kind := range []string{"rawKeyDown", "keyUp"} {
		b.browser.Call("Input.dispatchKeyEvent", event(kind, code, modifiers))
	}
}

// event is one of a key, as a real keyboard would make it.
func event(kind, code string, modifiers int) map[string]any {
	key, virtual := code, 0
	switch {
	case strings.HasPrefix(code, "Key"):
		key = strings.ToLower(code[3:])
		virtual = int(code[3])
	case strings.HasPrefix(code, "Digit"):
		key, virtual = code[5:], int(code[5])
	case code == "ControlLeft":
		key, virtual = "Control", 17
	case code == "ShiftLeft":
		key, virtual = "Shift", 16
	case code == "AltLeft":
		key, virtual = "Alt", 18
	case code == "Enter":
		virtual = 13
	case code == "Space":
		key, virtual = " ", 32
	}
	return map[string]any{"type": kind, "code": code, "key": key, "modifiers": modifiers, "windowsVirtualKeyCode": virtual, "nativeVirtualKeyCode": virtual}
}

// swiss presses the key of a Swiss keyboard that has Y on others.
func (b *bastion) swiss() {
	b.t.Helper()
	for _, kind := range []string{"rawKeyDown", "keyUp"} {
		e := event(kind, "KeyY", 0)
		e["key"] = "z"
		b.browser.Call("Input.dispatchKeyEvent", e)
	}
}

// locked has the page see a key of a letter while locks are on or off, which only the keyboard itself can say.
func (b *bastion) locked(code string, caps bool) {
	b.t.Helper()
	b.browser.Run(fmt.Sprintf("for (const kind of ['keydown', 'keyup']) document.querySelector('canvas').dispatchEvent(new KeyboardEvent(kind, { code: %q, key: %q, modifierCapsLock: %v, bubbles: true, cancelable: true }))",
		code, strings.ToLower(code[3:]), caps))
}

// touch puts fingers on places of the desktop, and takes them away when they have moved and stayed. The page has heard of it
// in the end: a touch may be slower than a key.
func (b *bastion) touch(stay time.Duration, moves ...[]map[string]any) {
	b.t.Helper()
	b.browser.Run("window.lifted = 0; document.addEventListener('pointerup', () => window.lifted++)")
	kind := "touchStart"
	for _, fingers := range moves {
		b.browser.Call("Input.dispatchTouchEvent", map[string]any{"type": kind, "touchPoints": fingers})
		kind = "touchMove"
		time.Sleep(30 * time.Millisecond)
	}
	time.Sleep(stay)
	b.browser.Call("Input.dispatchTouchEvent", map[string]any{"type": "touchEnd", "touchPoints": []any{}})
	b.browser.Until("window.lifted > 0", time.Minute)
}

// finger is one on a place in the window.
func finger(id, x, y int) map[string]any { return map[string]any{"id": id, "x": x, "y": y} }

// types types a text, in small letters.
func (b *bastion) types(text string) {
	b.t.Helper()
	for _, r := range text {
		code, ok := keys[r]
		switch {
		case ok:
		case '0' <= r && r <= '9':
			code = "Digit" + string(r)
		default:
			code = "Key" + strings.ToUpper(string(r))
		}
		b.key(code, 0)
		time.Sleep(15 * time.Millisecond)
	}
}

// chord holds a key while it presses another.
func (b *bastion) chord(held string, modifier int, code string) {
	b.t.Helper()
	b.browser.Call("Input.dispatchKeyEvent", event("rawKeyDown", held, modifier))
	b.key(code, modifier)
	b.browser.Call("Input.dispatchKeyEvent", event("keyUp", held, 0))
}

// click clicks where the desktop is so many of its pixels from its corner.
func (b *bastion) click(x, y int) {
	b.t.Helper()
	at := b.browser.Run(fmt.Sprintf("(c => { const r = c.getBoundingClientRect(); return (r.left + %d * r.width / c.width) + ' ' + (r.top + %d * r.height / c.height); })(document.querySelector('canvas'))", x, y))
	var left, top float64
	fmt.Sscan(at, &left, &top)
	b.mouse(left, top)
}

// point clicks in the middle of a button, as only a person does: that is what browsers go by.
func (b *bastion) point(button string) {
	b.t.Helper()
	at := b.browser.Run(fmt.Sprintf("(r => (r.left + r.width / 2) + ' ' + (r.top + r.height / 2))([...document.querySelectorAll('button')].find(x => x.textContent === %q).getBoundingClientRect())", button))
	var x, y float64
	fmt.Sscan(at, &x, &y)
	b.mouse(x, y)
}

// mouse moves to a place in the window, and clicks.
func (b *bastion) mouse(x, y float64) {
	b.t.Helper()
	for _, e := range []struct {
		kind, button string
		buttons      int
	}{{"mouseMoved", "none", 0}, {"mousePressed", "left", 1}, {"mouseReleased", "left", 0}} {
		b.browser.Call("Input.dispatchMouseEvent", map[string]any{"type": e.kind, "x": x, "y": y, "button": e.button, "buttons": e.buttons, "clickCount": 1})
		time.Sleep(30 * time.Millisecond)
	}
}

// wheel turns the wheel over the desktop, down by so many CSS pixels.
func (b *bastion) wheel(pixels int) {
	b.t.Helper()
	b.browser.Call("Input.dispatchMouseEvent", map[string]any{"type": "mouseWheel", "x": 400, "y": 400, "deltaX": 0, "deltaY": pixels})
}
