// The two dialogs: settings, and keeping the conversation.

import { LANGUAGES } from "./settings.js";
import { asSrt, asText, asVtt } from "./subtitles.js";

const at = (id) => document.getElementById(id);
const radio = (name, yes) => document.querySelector(`input[name=${name}][value=${yes ? "yes" : "no"}]`);

export class Dialogs {
  constructor(app) {
    this.app = app;
    this.offerLanguages(LANGUAGES);
    at("open-settings").addEventListener("click", () => this.openSettings());
    // Closed with Escape there is no submit; after Done, close comes too late for a quick space bar.
    for (const event of ["submit", "close"]) {
      at("settings").addEventListener(event, () => app.change(this.chosen()));
    }
    at("volume").addEventListener("input", () => {
      if (app.player) app.player.volume = Number(at("volume").value);
    });
    at("open-keep").addEventListener("click", () => this.openKeep());
    at("copy").addEventListener("click", () => this.copy());
    at("save-text").addEventListener("click", () => this.download(asText, "txt", "text/plain"));
    at("save-srt").addEventListener("click", () => this.download(asSrt, "srt", "application/x-subrip"));
    at("save-vtt").addEventListener("click", () => this.download(asVtt, "vtt", "text/vtt"));
    at("clear").addEventListener("click", () => this.clear());
  }

  /** Codes of the languages that the server's model knows. */
  offerLanguages(codes) {
    const names = new Intl.DisplayNames(["en"], { type: "language" });
    const named = codes.map((code) => ({ code, name: names.of(code) }));
    named.sort((a, b) => a.name.localeCompare(b.name));
    const chosen = at("language").value; // the dialog may be open
    const options = named.map(({ code, name }) => new Option(name, code));
    at("language").replaceChildren(new Option("Detect", ""), ...options);
    at("language").value = chosen;
  }

  offerVoices(voices) {
    at("voices").replaceChildren(...voices.map((voice) => new Option(voice, voice)));
  }

  openSettings() {
    const { language, reply, systemPrompt, voice, hold, volume, token } = this.app.settings;
    at("language").value = language;
    radio("reply", reply).checked = true;
    radio("hold", hold).checked = true;
    at("system-prompt").value = systemPrompt;
    at("voice").value = voice;
    at("volume").value = String(volume);
    at("token").value = token;
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
    };
  }

  openKeep() {
    const empty = this.app.conversation.entries.length === 0;
    for (const button of document.querySelectorAll("#keep button[type=button]")) button.disabled = empty;
    at("kept").textContent = empty ? "Nothing has been said yet." : "";
    at("keep").showModal();
  }

  async copy() {
    const text = asText(this.app.conversation.entries);
    try {
      await navigator.clipboard.writeText(text);
      at("kept").textContent = "Copied.";
    } catch (error) {
      // No clipboard without a secure context (TypeError), or not allowed.
      if (!(error instanceof TypeError || error instanceof DOMException)) throw error;
      at("kept").textContent = "This browser does not let the page copy: save it as text instead.";
    }
  }

  download(format, ending, type) {
    const file = new Blob([format(this.app.conversation.entries)], { type: `${type};charset=utf-8` });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(file);
    link.download = `conversation.${ending}`;
    link.click();
    // Not at once: the browser reads it after this returns.
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    at("kept").textContent = `Saved as ${link.download}.`;
  }

  clear() {
    this.app.hush();
    this.app.conversation.clear();
    this.app.connection.renew(); // the server forgets it as well
    at("keep").close();
  }
}
