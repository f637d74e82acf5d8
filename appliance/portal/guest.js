// What a guest link does in a browser. Its secret stands behind # in the address, and reaches no server and no log there; it
// is kept for this tab alone, for who has to sign in between. The key that the browser makes never leaves it: it lies in
// IndexedDB as an object that signs, and whose private half no script can read.
"use strict";

const secretKey = "sallyport-guest";

// Where the browser's device key is, in the form in which the pages of the application read it: web/src/lib/device.ts.
const keyDatabase = {name: "sallyport", version: 1, store: "device", record: "key"};

function takeSecret() {
  const secret = location.hash.slice(1);
  if (secret !== "") {
    history.replaceState(null, "", location.pathname);
    sessionStorage.setItem(secretKey, secret);
  }
  return sessionStorage.getItem(secretKey) || "";
}

async function post(path, body) {
  let answer;
  let text;
  try {
    answer = await fetch(path, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)});
    text = await answer.text();
  } catch {
    throw new Error("the appliance does not answer; look at your network, then load this page again");
  }
  let said;
  try {
    said = JSON.parse(text);
  } catch {
    said = {error: text.trim() || "the appliance does not answer"};
  }
  if (answer.ok) return said;
  throw Object.assign(new Error(said.error), {code: said.code, hint: said.hint});
}

const at = (id) => document.getElementById(id);

function complain(err) {
  at("guest-wait").hidden = true;
  const [sentence, hint] = at("guest-error").children;
  sentence.textContent = err.message;
  hint.textContent = err.hint || "";
  at("guest-error").hidden = false;
}

const protocols = {ssh: "terminal (SSH)", rdp: "remote desktop (RDP)"};

function ask(view) {
  at("guest-wait").hidden = true;
  at("guest-maker").textContent = view.maker;
  at("guest-target").textContent = view.target;
  at("guest-protocol").textContent = protocols[view.protocol] || view.protocol;
  at("guest-until").textContent = new Date(view.expires).toLocaleString(undefined, {dateStyle: "medium", timeStyle: "short"});
  at("guest-group").textContent = view.approval || "";
  at("guest-approval").hidden = !view.approval;
  at("guest-instead").hidden = !view.instead;
  at("guest-ask").hidden = false;
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.addEventListener("success", () => resolve(request.result));
    request.addEventListener("error", () => reject(request.error));
  });
}

// keep does something with what is kept of keys.
async function keep(change) {
  const opening = indexedDB.open(keyDatabase.name, keyDatabase.version);
  opening.addEventListener("upgradeneeded", () => opening.result.createObjectStore(keyDatabase.store));
  const db = await done(opening);
  try {
    await done(change(db.transaction(keyDatabase.store, "readwrite").objectStore(keyDatabase.store)));
  } finally {
    db.close();
  }
}

function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function octets(text) {
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
}

// make makes a key and keeps it: who cannot has used nothing of the link.
async function make() {
  if (!navigator.cookieEnabled) throw new Error("this browser keeps no cookies for this page; allow them for this address, then load it again");
  let pair;
  try {
    [pair] = await Promise.all([crypto.subtle.generateKey("Ed25519", false, ["sign", "verify"]), crypto.subtle.generateKey("X25519", false, ["deriveBits"])]);
  } catch {
    throw new Error("this browser is too old to make the keys that it needs; take a newer one: Chromium 137, Firefox 130, Safari 17.4 or later");
  }
  const made = {publicKey: new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey)), privateKey: pair.privateKey};
  try {
    await keep((keys) => keys.put(made, "guest"));
  } catch {
    throw new Error("this browser keeps nothing for this page; a private window may be the reason, or a setting that blocks cookies and site data");
  }
  return made;
}

async function open(secret) {
  const {publicKey, privateKey} = await make();
  const view = await post("/guest/open", {secret, key: base64url(publicKey), name: "a guest's browser", platform: "browser"});
  // In the place of another key, which the cookie is not for any more.
  await keep((keys) => keys.put({id: view.device, user: view.user, publicKey, privateKey, identity: (view.identity || []).map(octets)}, keyDatabase.record));
  await keep((keys) => keys.delete("guest"));
  sessionStorage.removeItem(secretKey);
  location.replace("/connect/" + encodeURIComponent(view.target));
}

async function begin() {
  let secret;
  try {
    secret = takeSecret();
  } catch {
    complain(new Error("this browser keeps nothing for this page; allow cookies and site data for this address, then open the link again"));
    return;
  }
  if (secret === "") {
    complain(Object.assign(new Error("this link is not whole"), {hint: "ask who gave it to you for all of it"}));
    return;
  }
  try {
    ask(await post("/guest/look", {secret}));
  } catch (err) {
    complain(err);
    return;
  }
  const button = at("guest-open");
  button.addEventListener("click", async () => {
    at("guest-error").hidden = true;
    button.disabled = true;
    try {
      await open(secret);
    } catch (err) {
      if (err.code === "E_LOGIN_AGAIN") at("guest-sign-in").hidden = false;
      else complain(err);
      button.disabled = false;
    }
  });
}

addEventListener("hashchange", () => location.reload()); // another link, in the tab of this one
begin();
