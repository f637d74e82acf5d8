// What the pages do with script: passkeys, and the code that stands behind # in the address. It reaches no server and no
// log there; between two pages it is kept for this tab alone, as is where the person goes on when they are signed in.
"use strict";

const codeKey = "sallyport-code";
const nextKey = "sallyport-next";

// A browser that keeps nothing has no cookies either, and is told so by what comes after the sign-in.
const tab = {
  get(key) {
    try {
      return sessionStorage.getItem(key);
    } catch {
      return null;
    }
  },
  set(key, value) {
    try {
      sessionStorage.setItem(key, value);
    } catch {
      // There is no place.
    }
  },
};

function takeNext() {
  const next = new URLSearchParams(location.search).get("next");
  if (location.pathname !== "/login" || next === null) return;
  tab.set(nextKey, next);
}

function takeCode() {
  const code = location.hash.slice(1);
  if (code === "") return;
  history.replaceState(null, "", location.pathname);
  if (location.pathname === "/setup") {
    const field = document.getElementById("setup-code");
    if (field) {
      field.value = decodeURIComponent(code);
      document.getElementById("setup-form").submit();
    }
    return;
  }
  tab.set(codeKey, code);
}

function offerCode() {
  const field = document.getElementById("device-code");
  const code = tab.get(codeKey);
  if (document.getElementById("decided")) tab.set(codeKey, "");
  if (field && code && field.value === "") field.value = decodeURIComponent(code);
}

async function post(path, body) {
  let answer;
  let text;
  try {
    answer = await fetch(path, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)});
    text = await answer.text();
  } catch {
    throw Object.assign(new Error("the appliance does not answer"), {hint: "look at your network, then try again"});
  }
  let said;
  try {
    said = JSON.parse(text);
  } catch {
    said = {error: text.trim() || "the appliance does not answer"};
  }
  if (!answer.ok) throw Object.assign(new Error(said.error), {hint: said.hint});
  return said;
}

// able says whether the browser reads what the appliance asks of passkeys.
function able() {
  if (window.PublicKeyCredential?.parseRequestOptionsFromJSON) return;
  throw Object.assign(new Error("this browser is too old for passkeys here"), {hint: "take a newer one, or another way to sign in"});
}

function complain(err) {
  const at = document.getElementById("passkey-error");
  const [sentence, hint] = at.children;
  sentence.textContent = {NotAllowedError: "no passkey was used", InvalidStateError: "there is a passkey of yours in it already"}[err.name] ?? err.message;
  hint.textContent = err.hint || "";
  at.hidden = false;
}

async function usePasskey(button) {
  able();
  const visit = button.dataset.visit === "yes";
  const ask = await post("/login/passkey", {visit});
  const options = PublicKeyCredential.parseRequestOptionsFromJSON(ask.options.publicKey);
  const made = await navigator.credentials.get({publicKey: options});
  const done = await post("/login/passkey/answer", {id: ask.id, visit, for: button.dataset.for, response: made.toJSON()});
  location.assign(done.to);
}

async function makePasskey(path, body) {
  able();
  const ask = await post(path, body);
  const options = PublicKeyCredential.parseCreationOptionsFromJSON(ask.options.publicKey);
  const made = await navigator.credentials.create({publicKey: options});
  document.getElementById("passkey-answer").value = JSON.stringify({id: ask.id, response: made.toJSON()});
}

async function newPasskey(button) {
  await makePasskey("/setup/passkey", {code: button.dataset.code});
  document.getElementById("passkey-made").hidden = false;
  document.getElementById("totp").required = false;
}

async function addPasskey(button) {
  if (!button.form.reportValidity()) return;
  await makePasskey("/login/account/passkey", {});
  button.form.submit();
}

function onClick(id, act) {
  const button = document.getElementById(id);
  if (!button) return;
  button.addEventListener("click", async (event) => {
    event.preventDefault();
    document.getElementById("passkey-error").hidden = true;
    button.disabled = true;
    try {
      await act(button);
    } catch (err) {
      complain(err);
    } finally {
      button.disabled = false;
    }
  });
}

takeNext();
takeCode();
offerCode();
onClick("passkey", usePasskey);
onClick("new-passkey", newPasskey);
onClick("add-passkey", addPasskey);
