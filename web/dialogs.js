// The two dialogs: settings, and keeping the conversation.

import { LANGUAGES } from "./settings.js";
import { asSrt, asText, asVtt } from "./subtitles.js";
import { INTERFACE, currentLanguage, languageName, t } from "./texts.js";
import { unvoicedWords } from "./words.js";

const at = (id) => document.getElementById(id);
const radio = (name, yes) => document.querySelector(`input[name=${name}][value=${yes ? "yes" : "no"}]`);

export class Dialogs {
  constructor(app) {
    this.app = app;
    this.met = false; // whether the server has told what it speaks
    this.speakers = []; // {name, language}
    this.spoken = []; // codes of what the voices speak; empty where nobody knows
    this.languages = LANGUAGES; // codes of what the server's model knows
    this.translate();
    at("open-settings").addEventListener("click", () => this.openSettings());
    // Closed with Escape there is no submit; after Done, close comes too late for a quick space bar.
    for (const event of ["submit", "close"]) {
      at("settings").addEventListener(event, () => app.change(this.chosen()));
    }
    at("language").addEventListener("change", () => this.showVoices(""));
    at("preview").addEventListener("click", () => this.preview());
    at("volume").addEventListener("input", () => {
      if (app.player) app.player.volume = Number(at("volume").value);
    });
    at("open-keep").addEventListener("click", () => this.openKeep());
    at("copy").addEventListener("click", () => this.copy());
    at("save-text").addEventListener("click", () => this.download(asText, "txt", "text/plain"));
    at("save-srt").addEventListener("click", () => this.download(asSrt, "srt", "application/x-subrip"));
    at("save-vtt").addEventListener("click", () => this.download(asVtt, "vtt", "text/vtt"));
  }

  /** Offer all choices anew, in the page's language. */
  translate() {
    this.offerLanguages(this.languages);
    const chosen = at("interface").value;
    const options = Object.entries(INTERFACE).map(([code, name]) => {
      const option = new Option(name, code);
      option.lang = code;
      return option;
    });
    at("interface").replaceChildren(new Option(t("The browser’s"), ""), ...options);
    at("interface").value = chosen;
    this.showVoices(at("voice").value);
  }

  /** Codes of the languages that the server's model knows. */
  offerLanguages(codes) {
    this.languages = codes;
    const named = codes.map((code) => ({ code, name: languageName(code) }));
    named.sort((a, b) => a.name.localeCompare(b.name, currentLanguage()));
    const chosen = at("language").value; // the dialog may be open
    const options = named.map(({ code, name }) => new Option(name, code));
    at("language").replaceChildren(new Option(t("Detect"), ""), ...options);
    at("language").value = chosen;
  }

  /** The `voices` event of docs/protocol.md. */
  offerVoices({ voices, languages = [], speakers }) {
    this.met = true;
    this.spoken = languages;
    this.speakers = speakers ?? voices.map((name) => ({ name, language: "" }));
    this.showVoices(at("voice").value);
  }

  /** Whether answers in this language, "" for whatever is spoken, are shown and not said. */
  isUnvoiced(language) {
    return language !== "" && this.spoken.length > 0 && !this.spoken.includes(language);
  }

  /** The voices of the language that is chosen, and a word where there is none. */
  showVoices(chosen) {
    const language = at("language").value;
    const fitting = this.speakers.filter((one) => !language || !one.language || one.language === language);
    const kept = fitting.some(({ name }) => name === chosen) || !chosen ? [] : [{ name: chosen }];
    const options = [...fitting, ...kept].map(({ name }) => new Option(name, name));
    at("voice").replaceChildren(new Option(t("The server’s own"), ""), ...options);
    at("voice").value = chosen;
    const unvoiced = this.isUnvoiced(language);
    at("unvoiced").textContent = unvoiced ? unvoicedWords(languageName(language)) : "";
    at("preview").disabled = unvoiced || !this.met;
  }

  /** Play a sample of the voice that is chosen. */
  async preview() {
    const tell = (text) => (at("preview-state").textContent = text);
    tell(t("One moment…"));
    const played = await this.app.playSample(at("voice").value, at("language").value);
    tell(played ? "" : t("This voice cannot be played now."));
  }

  async showDevices() {
    const { microphone, loudspeaker } = this.app.settings;
    const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    const offer = (id, kind, chosen) => {
      const there = devices.filter((one) => one.kind === kind && one.deviceId && one.label);
      const options = there.map((one) => new Option(one.label, one.deviceId));
      at(id).replaceChildren(new Option(t("The system’s choice"), ""), ...options);
      at(id).value = there.some((one) => one.deviceId === chosen) ? chosen : "";
    };
    offer("input-device", "audioinput", microphone);
    offer("output-device", "audiooutput", loudspeaker);
    at("output-device").parentElement.hidden = !("setSinkId" in AudioContext.prototype);
  }

  openSettings() {
    const { language, reply, systemPrompt, voice, hold, volume, token } = this.app.settings;
    this.app.meetVoices();
    at("language").value = language;
    at("interface").value = this.app.settings.interface;
    at("remember").checked = this.app.settings.remember;
    at("tools").checked = this.app.settings.tools;
    at("preview-state").textContent = "";
    radio("reply", reply).checked = true;
    radio("hold", hold).checked = true;
    at("system-prompt").value = systemPrompt;
    this.showVoices(voice);
    this.showDevices();
    at("volume").value = String(volume);
    at("token").value = token;
    // Where the focus goes back to: the space bar is to talk, not to open this again.
    at("talk").focus();
    at("settings").showModal();
  }

  chosen() {
    return {
      language: at("language").value,
      reply: radio("reply", true).checked,
      hold: radio("hold", true).checked,
      systemPrompt: at("system-prompt").value,
      voice: at("voice").value,
      volume: Number(at("volume").value),
      token: at("token").value,
      microphone: at("input-device").value,
      loudspeaker: at("output-device").value,
      interface: at("interface").value,
      remember: at("remember").checked,
      tools: at("tools").checked,
    };
  }

  openKeep() {
    const empty = this.app.conversation.entries.length === 0;
    for (const button of document.querySelectorAll("#keep button[type=button]")) button.disabled = empty;
    at("kept").textContent = empty ? t("Nothing has been said yet.") : "";
    at("keep").showModal();
  }

  async copy() {
    const copied = await copyText(asText(this.app.conversation.entries));
    at("kept").textContent = copied
      ? t("Copied.")
      : t("This browser does not let the page copy: save it as text instead.");
  }

  download(format, ending, type) {
    const file = new Blob([format(this.app.conversation.entries)], { type: `${type};charset=utf-8` });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(file);
    link.download = `conversation.${ending}`;
    link.click();
    // Not at once: the browser reads it after this returns.
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    at("kept").textContent = t("Saved as {name}.", { name: link.download });
  }
}

/** Whether it could be copied: not without a secure context (TypeError), or where it is forbidden. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof DOMException)) throw error;
    return false;
  }
}
