// What the person chose, kept in the browser.

import { TOOLS } from "./tools.js";

export const DEFAULTS = Object.freeze({
  language: "en", // "" lets the server detect it
  reply: true, // false: transcribe only
  systemPrompt: "",
  voice: "",
  hold: false, // hold to talk, instead of hands-free
  volume: 1,
  token: "",
  microphone: "", // a device's identity; "" is the system's choice
  loudspeaker: "",
  interface: "", // the page's own language; "" is the browser's
  remember: true, // keep conversations in this browser
  tools: false, // let the language model use those of the page
});

// The languages of Whisper's multilingual models (https://github.com/openai/whisper, tokenizer.py).
export const LANGUAGES = (
  "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi " +
  "hr ht hu hy id is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn " +
  "no oc pa pl ps pt ro ru sa sd si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi " +
  "yi yo yue zh"
).split(" ");

/** The browser's storage; where the person forbids it, one that lasts as long as the page. */
export function storageOf(window, name) {
  try {
    return window[name];
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    return new Forgetful();
  }
}

/** The part of a Storage that the page uses, for as long as it is open. */
class Forgetful {
  #kept = new Map();

  get length() {
    return this.#kept.size;
  }

  key(index) {
    return [...this.#kept.keys()][index] ?? null;
  }

  getItem(key) {
    return this.#kept.get(key) ?? null;
  }

  setItem(key, value) {
    this.#kept.set(key, value);
  }

  removeItem(key) {
    this.#kept.delete(key);
  }
}

/** `host`: whose settings they are; a secret for one server must not be sent to another. */
export function storageKey(host) {
  return host === null ? "whisperfusion" : `whisperfusion@${host}`;
}

/** The first of the browser's languages that Whisper knows. */
export function languageOf(tags) {
  const codes = tags.map((tag) => tag.toLowerCase().split("-")[0]);
  return codes.find((code) => LANGUAGES.includes(code)) ?? DEFAULTS.language;
}

/** Read them; what is missing or of another type takes its default. `language`: the default one. */
export function load(storage, key, language = DEFAULTS.language) {
  const kept = parsed(storage.getItem(key));
  const known = Object.entries({ ...DEFAULTS, language }).map(([name, value]) => [
    name,
    typeof kept[name] === typeof value ? kept[name] : value,
  ]);
  return Object.fromEntries(known);
}

export function save(storage, key, settings) {
  storage.setItem(key, JSON.stringify(settings));
}

/** The handshake's fields that follow from the settings; see docs/protocol.md. */
export function handshake(settings, history) {
  const { language, reply, systemPrompt, voice, token, tools } = settings;
  const fields = {
    language: language || null,
    task: "transcribe",
    multilingual: language !== "en",
    audio_format: "int16",
    sample_rate: 16000,
    stream: true,
    reply,
    history,
  };
  const optional = { system_prompt: systemPrompt.trim(), voice: voice.trim(), token, tools: reply && tools && TOOLS };
  const given = Object.entries(optional).filter(([, value]) => value);
  return { ...fields, ...Object.fromEntries(given) };
}

/** Whether the change needs a new handshake. */
export function needsHandshake(before, after) {
  const fields = (settings) => JSON.stringify(handshake(settings, []));
  return fields(before) !== fields(after);
}

function parsed(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch (error) {
    if (error instanceof SyntaxError) return {};
    throw error;
  }
}
