// What is on the screen. Text from outside reaches the page as text only, never as markup.

import { awaited, hasMore, heardText } from "./conversation.js";
import { runs } from "./markdown.js";
import { number, t } from "./texts.js";
import { HINTS, stages } from "./words.js";

const at = (id) => document.getElementById(id);

export class View {
  constructor() {
    this.items = new Map();
    this.about = null;
    this.main = at("main");
    this.action = null; // of the notice
    this.canReplay = () => false; // of an entry: whether its sound is at hand
    at("notice-action").addEventListener("click", () => this.act());
    at("latest").addEventListener("click", () => {
      this.follow();
      at("talk").focus();
    });
    this.main.addEventListener("scroll", () => this.showLatest());
  }

  /** Whether the newest words are in sight. */
  get following() {
    return this.main.scrollHeight - this.main.scrollTop - this.main.clientHeight < 120;
  }

  act() {
    const action = this.action;
    this.notice(null);
    action?.run();
  }

  /** Which language model answers, and which is on its way; "": nobody said. `detail`: why. */
  mind(text, detail) {
    show(at("mind"), Boolean(text));
    at("mind").textContent = at("mind").title = text;
    at("mind-detail").textContent = detail || text;
  }

  /** Say something for a moment under the button. */
  hint(text) {
    this.passing = { text, until: Date.now() + 3000 };
    at("talk-hint").textContent = text;
  }

  state({ text, tone }, canRetry) {
    at("state").dataset.tone = tone;
    if (at("state-text").textContent !== text) at("state-text").textContent = text;
    show(at("retry"), canRetry);
  }

  /** `about`: what it is about; a notice about something else is left alone by `resolved`. */
  notice(text, { about = null, tone = "calm", secureAddress = null, action = null, token = false } = {}) {
    this.about = about;
    show(at("notice"), Boolean(text));
    at("notice").dataset.tone = tone;
    at("notice-text").textContent = text ?? "";
    at("secure-link").hidden = !secureAddress;
    if (secureAddress) at("secure-link").href = secureAddress;
    this.action = action;
    show(at("notice-action"), Boolean(action));
    at("notice-action").textContent = action?.label ?? "";
    show(at("notice-token"), token);
  }

  /** The trouble is over. */
  resolved(about) {
    if (this.about === about) this.notice(null);
  }

  /** `microphone`: off, asking, on or held (the button is down in hold-to-talk); `ready`: whether
   * the server hears what it hears; `muted`; `canMute`: whether there is something to mute. */
  microphone({ microphone, hold, ready, muted, canMute }) {
    const open = hold ? microphone === "held" : microphone === "on";
    const shown = muted ? "muted" : open ? "on" : microphone === "asking" ? "asking" : "off";
    at("talk").dataset.microphone = shown;
    at("talk").setAttribute("aria-pressed", String(open));
    show(at("mute"), canMute);
    at("mute").setAttribute("aria-pressed", String(muted));
    const state = muted ? "muted" : open && !ready ? "early" : microphone;
    const hint = t(HINTS[state][hold ? 1 : 0]);
    if (this.passing?.until > Date.now()) return;
    if (at("talk-hint").textContent !== hint) at("talk-hint").textContent = hint;
  }

  level(level) {
    document.documentElement.style.setProperty("--level", level.toFixed(3));
    at("level").setAttribute("aria-valuenow", String(Math.round(level * 100)));
  }

  /** Loudness of the reply while it plays; null when there is none. */
  voice(loudness) {
    if (loudness === this.loudness) return;
    this.loudness = loudness;
    document.querySelector("footer").dataset.speaking = String(loudness !== null);
    document.documentElement.style.setProperty("--voice", (loudness ?? 0).toFixed(3));
    show(at("stop"), loudness !== null);
  }

  /** Read out by a screen reader. Only what is final: a transcript that changes would be a stutter,
   * and a reply that plays would come twice. */
  announce(text) {
    at("announcer").textContent = text;
  }

  /** In which language screen readers are to read the conversation; "": nobody knows. */
  language(code) {
    at("conversation").lang = at("typed").lang = code;
  }

  conversation(entries) {
    this.items.clear();
    at("conversation").replaceChildren();
    for (const entry of entries) this.entry(entry);
    this.showIntroduction();
  }

  /** What was typed and could not be sent yet. */
  waiting(texts) {
    const lines = texts.map((text) => said([{ text, final: false }]));
    at("waiting").replaceChildren(...lines);
    this.showIntroduction();
    this.follow();
  }

  showIntroduction() {
    show(at("introduction"), this.items.size === 0 && !at("waiting").hasChildNodes());
    show(at("new"), this.items.size > 0);
    this.showLatest();
  }

  /** The way back to the newest words, where there are any. */
  showLatest() {
    show(at("latest"), at("introduction").hidden && !this.following);
  }

  /** Show the newest words; the introduction is read from its beginning. */
  follow() {
    this.main.scrollTop = at("introduction").hidden ? this.main.scrollHeight : 0;
  }

  entry(entry) {
    const { following } = this;
    let item = this.items.get(entry.id);
    if (!item) {
      item = element("li", "turn");
      item.dataset.entry = entry.id;
      this.items.set(entry.id, item);
      at("conversation").append(item);
    }
    fill(item, parts(entry, item, this.canReplay(entry)));
    this.showIntroduction();
    if (following) this.follow();
  }
}

/** Put elements in their places. One that stays is not touched: its words would fade in again. */
function fill(item, shown) {
  for (const child of [...item.children]) if (!shown.includes(child)) child.remove();
  shown.forEach((child, index) => {
    if (item.children[index] !== child) item.insertBefore(child, item.children[index] ?? null);
  });
}

function parts(entry, item, canReplay) {
  const shown = [];
  if (entry.said.segments.length > 0) shown.push(said(entry.said.segments));
  if (entry.reply) shown.push(...answer(entry, item));
  if (entry.reply?.leftOut) shown.push(element("p", "left-out", entry.reply.leftOut));
  if (entry.problem) shown.push(element("p", "problem", t(entry.problem)));
  const below = [];
  if (entry.reply?.complete && heardText(entry)) below.push(...tools(entry, item, canReplay));
  if (entry.timeline) below.push(timeline(entry, item));
  if (below.length > 0) {
    const row = item.querySelector(".below") ?? element("div", "below");
    fill(row, below);
    shown.push(row);
  }
  return shown;
}

function said(segments) {
  const paragraph = element("p", "said");
  paragraph.append(element("span", "who", t("You")));
  for (const { text, final } of segments) {
    paragraph.append(element("span", final ? "final" : "interim", text), " ");
  }
  return paragraph;
}

/** The words of the reply. Those that were there before keep their elements, so that only new ones
 * fade in. */
function answer(entry, item) {
  const { reply } = entry;
  const text = reply.all ? reply.written : heardText(entry);
  if (!text) return awaited(entry) ? [thinking(entry.reply.thinks)] : [];
  const { clauses, cut, unspoken } = entry.reply;
  let paragraph = item.querySelector(".answer");
  if (!paragraph) {
    paragraph = element("p", "answer");
    paragraph.append(element("span", "who", "WhisperFusion"));
  }
  const aloud = clauses.length > 0 && !unspoken && !reply.all;
  const segments = aloud ? clauses.map((clause) => clause.text) : [text];
  if (aloud && cut) segments.push("—");
  const spans = [...paragraph.querySelectorAll(".clause")];
  for (const span of spans.slice(segments.length)) span.remove();
  runs(segments).forEach((looks, index) => {
    const key = JSON.stringify(looks);
    if (spans[index]?.dataset.key === key) return;
    const span = spans[index] ?? element("span", "clause");
    span.dataset.key = key;
    span.replaceChildren(...looks.map(formatted));
    if (!spans[index]) paragraph.append(span, " ");
  });
  return [paragraph];
}

/** A run of a reply's text with its looks, which are names of elements. */
function formatted({ text, looks }) {
  return looks.reduceRight((inner, look) => {
    const outer = element(look);
    outer.append(inner);
    return outer;
  }, document.createTextNode(text));
}

/** The sign of an answer in the making; `thinks`: the model said that it thinks first. */
function thinking(thinks) {
  const dots = element("p", "thinking");
  const words = thinks ? element("span", "", t("Thinking…")) : element("span", "unseen", t("Preparing the answer"));
  dots.append(words, element("i"), element("i"), element("i"));
  return dots;
}

/** What can be done with a reply. */
function tools(entry, item, canReplay) {
  const made = (act, label) => {
    const button = item.querySelector(`[data-act=${act}]`) ?? element("button", "link");
    button.type = "button";
    button.dataset.act = act;
    if (button.textContent !== label) button.textContent = label;
    return button;
  };
  const copy = [made("copy", t("Copy"))];
  if (canReplay) copy.push(made("again", t("Play again")));
  if (!hasMore(entry)) return copy;
  const all = made("all", entry.reply.all ? t("Show what was played") : t("Show all"));
  return [...copy, all];
}

/** How long it took, and on demand what took how long. */
function timeline({ timeline: milliseconds, ahead }, item) {
  const seconds = (value) => t("{seconds} s", { seconds: number(value / 1000, 1) });
  const key = JSON.stringify([milliseconds, ahead, t("prepared")]);
  const before = item.querySelector(".timeline");
  if (before?.dataset.key === key) return before;
  const details = element("details", "timeline");
  details.dataset.key = key;
  const list = element("dl");
  for (const stage of stages(milliseconds)) {
    const pair = element("div");
    pair.append(element("dt", "", stage.label), element("dd", "", `${number(stage.milliseconds)} ms`));
    list.append(pair);
  }
  if (ahead) {
    const pair = element("div");
    pair.append(element("dt", "", t("prepared")), element("dd", "", t("ahead")));
    list.append(pair);
  }
  const latest = milliseconds.first_sound ?? milliseconds.first_token ?? milliseconds.commit ?? 0;
  const summary = element("summary", "", seconds(latest));
  summary.title = t("From your last sound to the answer");
  details.append(summary, list);
  return details;
}

/** A focus that would be lost with its element goes to the big button. */
function show(element, shown) {
  if (!shown && element.contains(document.activeElement)) at("talk").focus();
  element.hidden = !shown;
}

function element(name, className = "", text = null) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== null) made.textContent = text;
  return made;
}
