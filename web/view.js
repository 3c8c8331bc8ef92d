// What is on the screen. Text from outside reaches the page as text only, never as markup.

import { heardText } from "./conversation.js";
import { stages } from "./words.js";

const HINTS = {
  off: ["Press to talk", "Hold to talk"],
  asking: ["Allow the microphone…", "Allow the microphone…"],
  on: ["Listening: press to stop", "Hold to talk"],
  held: ["Listening", "Listening: let go when done"],
};

const at = (id) => document.getElementById(id);

export class View {
  constructor() {
    this.items = new Map();
    this.about = null;
    this.main = at("main");
  }

  state({ text, tone }, canRetry) {
    at("state").dataset.tone = tone;
    if (at("state-text").textContent !== text) at("state-text").textContent = text;
    at("retry").hidden = !canRetry;
  }

  /** `about`: what it is about; a notice about something else is left alone by `settled`. */
  notice(text, { about = null, tone = "calm", secureAddress = null } = {}) {
    this.about = about;
    at("notice").hidden = !text;
    at("notice").dataset.tone = tone;
    at("notice-text").textContent = text ?? "";
    at("secure-link").hidden = !secureAddress;
    if (secureAddress) at("secure-link").href = secureAddress;
  }

  /** The trouble is over. */
  settled(about) {
    if (this.about === about) this.notice(null);
  }

  /** `microphone`: off, asking, on or held (the button is down in hold-to-talk); `ready`: whether
   * the server hears what it hears. */
  microphone(microphone, hold, ready) {
    const open = hold ? microphone === "held" : microphone === "on";
    at("talk").dataset.microphone = open ? "on" : microphone === "asking" ? "asking" : "off";
    at("talk").setAttribute("aria-pressed", String(open));
    const hint = open && !ready ? "Not heard yet: waiting for the server" : HINTS[microphone][hold ? 1 : 0];
    if (at("talk-hint").textContent !== hint) at("talk-hint").textContent = hint;
  }

  level(level) {
    document.documentElement.style.setProperty("--level", level.toFixed(3));
    at("level").setAttribute("aria-valuenow", String(Math.round(level * 100)));
  }

  /** Loudness of the reply while it is heard; null when there is none. */
  voice(loudness) {
    if (loudness === this.loudness) return;
    this.loudness = loudness;
    document.querySelector("footer").dataset.speaking = String(loudness !== null);
    document.documentElement.style.setProperty("--voice", (loudness ?? 0).toFixed(3));
    at("stop").hidden = loudness === null;
  }

  /** Read out by a screen reader. Only what settles: a transcript that changes would be a stutter,
   * and a reply that is heard would be heard twice. */
  announce(text) {
    at("announcer").textContent = text;
  }

  conversation(entries) {
    this.items.clear();
    at("conversation").replaceChildren();
    for (const entry of entries) this.entry(entry);
    at("welcome").hidden = entries.length > 0;
  }

  entry(entry) {
    const follow = this.main.scrollHeight - this.main.scrollTop - this.main.clientHeight < 120;
    at("welcome").hidden = true;
    let item = this.items.get(entry.id);
    if (!item) {
      item = element("li", "turn");
      this.items.set(entry.id, item);
      at("conversation").append(item);
    }
    item.replaceChildren(...parts(entry, item));
    if (follow) this.main.scrollTop = this.main.scrollHeight;
  }
}

function parts(entry, item) {
  const shown = [];
  if (entry.said.pieces.length > 0) shown.push(said(entry));
  if (entry.reply) shown.push(...answer(entry, item));
  if (entry.problem) shown.push(element("p", "problem", entry.problem));
  if (entry.timeline) shown.push(timeline(entry));
  return shown;
}

function said({ said: { pieces } }) {
  const paragraph = element("p", "said");
  paragraph.append(element("span", "who", "You"));
  for (const { text, settled } of pieces) {
    paragraph.append(element("span", settled ? "settled" : "unsettled", text), " ");
  }
  return paragraph;
}

/** The words of the reply. Those that were there before keep their elements, so that only new ones
 * fade in. */
function answer(entry, item) {
  const text = heardText(entry);
  if (!text) return entry.reply.complete || entry.problem || entry.reply.cut ? [] : [thinking()];
  const { clauses, cut, unspoken } = entry.reply;
  let paragraph = item.querySelector(".answer");
  if (!paragraph) {
    paragraph = element("p", "answer");
    paragraph.append(element("span", "who", "WhisperFusion"));
  }
  const pieces = clauses.length > 0 && !unspoken ? clauses.map((clause) => clause.text) : [text];
  if (clauses.length > 0 && cut && !unspoken) pieces.push("—");
  const spans = paragraph.querySelectorAll(".clause");
  pieces.forEach((piece, index) => {
    if (!spans[index]) paragraph.append(element("span", "clause", piece), " ");
    else if (spans[index].textContent !== piece) spans[index].textContent = piece;
  });
  for (const span of [...spans].slice(pieces.length)) span.remove();
  return [paragraph];
}

function thinking() {
  const dots = element("p", "thinking");
  dots.append(element("span", "unseen", "Preparing the answer"), element("i"), element("i"), element("i"));
  return dots;
}

function timeline({ timeline: milliseconds, ahead }) {
  const list = element("dl", "timeline");
  for (const stage of stages(milliseconds)) {
    const pair = element("div");
    pair.append(element("dt", "", stage.label), element("dd", "", `${stage.milliseconds} ms`));
    list.append(pair);
  }
  if (ahead) {
    const pair = element("div");
    pair.append(element("dt", "", "prepared"), element("dd", "", "ahead"));
    list.append(pair);
  }
  return list;
}

function element(name, className = "", text = null) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== null) made.textContent = text;
  return made;
}
