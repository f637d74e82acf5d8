// The least that a page needs to show a desktop: what a test asks for is in window.desk.
import { Backend, enableCredssp, init } from './iron.js';

const canvas = document.querySelector('canvas');
const desk = { state: 'idle', remote: '', broken: [], width: 0, height: 0 };
window.desk = desk;
document.addEventListener('securitypolicyviolation', (e) => desk.broken.push(`${e.violatedDirective} ${e.blockedURI}`));
addEventListener('error', (e) => { desk.state = `broken: ${e.message}`; });
addEventListener('unhandledrejection', (e) => { desk.state = `broken: ${e.reason}`; });

let session;
let local = '';

function why(e) {
  return typeof e?.kind === 'function' ? `${e.kind()} ${JSON.stringify(e.rdcleanpathDetails() ?? null)} ${e.backtrace()}` : String(e);
}

function clip(text) {
  const data = new Backend.ClipboardData();
  data.addText('text/plain', text);
  return data;
}

desk.begin = async (width, height, user, password, credssp) => {
  desk.state = 'connecting';
  try {
    await init('WARN');
    const builder = new Backend.SessionBuilder()
      .username(user).password(password).destination('target:3389').authToken('flow')
      .proxyAddress(`ws://${location.host}/flow`).desktopSize(new Backend.DesktopSize(width, height))
      .renderCanvas(canvas).setCursorStyleCallback(() => {}).setCursorStyleCallbackContext(null)
      .remoteClipboardChangedCallback((data) => {
        for (const item of data.items()) if (item.mimeType() === 'text/plain') desk.remote = item.value();
      })
      .forceClipboardUpdateCallback(() => session?.onClipboardPaste(clip(local)))
      .extension(enableCredssp(credssp));
    session = await builder.connect();
    const size = session.desktopSize();
    canvas.width = desk.width = size.width;
    canvas.height = desk.height = size.height;
    desk.state = 'open';
    session.run().then((end) => { desk.state = `ended: ${end.reason()}`; }, (e) => { desk.state = `ended: ${why(e)}`; });
  } catch (e) {
    desk.state = `failed: ${why(e)}`;
  }
};

// Scancodes of set 1.
const rows = [['1234567890', 0x02], ['qwertyuiop', 0x10], ['asdfghjkl', 0x1e], ['zxcvbnm', 0x2c], [' ', 0x39], ['\n', 0x1c]];

function scancode(key) {
  for (const [keys, first] of rows) if (keys.includes(key)) return first + keys.indexOf(key);
  throw new Error(`no key ${key}`);
}

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

desk.type = async (text) => {
  for (const key of text) {
    for (const event of [Backend.DeviceEvent.keyPressed(scancode(key)), Backend.DeviceEvent.keyReleased(scancode(key))]) {
      const input = new Backend.InputTransaction();
      input.addEvent(event);
      session.applyInputs(input);
      await pause(15);
    }
  }
};

desk.click = async (x, y) => {
  for (const event of [Backend.DeviceEvent.mouseMove(x, y), Backend.DeviceEvent.mouseButtonPressed(0), Backend.DeviceEvent.mouseButtonReleased(0)]) {
    const input = new Backend.InputTransaction();
    input.addEvent(event);
    session.applyInputs(input);
    await pause(30);
  }
};

desk.copy = (text) => {
  local = text;
  return session.onClipboardPaste(clip(text));
};

desk.shutdown = () => session.shutdown();

// How many colours the desktop has.
desk.colours = () => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return new Set(new Uint32Array(data.buffer)).size;
};

desk.picture = () => canvas.toDataURL('image/png').split(',')[1];
desk.ready = true;
