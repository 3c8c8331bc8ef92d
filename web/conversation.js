// What was said: one entry a turn, from the messages of both sockets and from what was really played.
// No I/O. Times are milliseconds since 1970.
//
// An entry: {id, connection, turn, live, said: {segments: [{text, final, start, end}], typed},
//   reply: null or {text, complete, silent, unspoken, cut, leftOut, clauses: [{text, start, end}]},
//   problem: null or a sentence, timeline: null or the milliseconds of docs/protocol.md, ahead}

import { BROKEN } from "./words.js";

const HISTORY_TURNS = 20;

export class Conversation {
  /** `onChange(entry)` is called for every change; with null when all entries changed. */
  constructor(onChange, entries = []) {
    this.onChange = onChange;
    this.entries = entries;
    this.connection = 0;
    this.sounding = false; // whether the replies' sound comes in
    this.#close();
  }

  clear() {
    this.restore([]);
  }

  /** Show these turns instead; nothing more comes of them. */
  restore(entries) {
    this.entries = entries;
    this.#close();
    this.onChange(null);
  }

  /** Show all that was written of a reply, or again only what was played. */
  toggleAll(id) {
    const entry = this.entries.find((one) => one.id === id);
    if (!entry?.reply) return;
    entry.reply.all = !entry.reply.all;
    this.onChange(entry);
  }

  connectionEnded() {
    this.#close();
    this.onChange(null);
  }

  /** The server that was to answer is gone: take back the question that waits for it, "" if none. */
  takeUnanswered() {
    const entry = this.entries.find((one) => this.#waits(one));
    if (!entry) return "";
    this.entries = this.entries.filter((other) => other !== entry);
    return saidText(entry);
  }

  /** Whether it is the latest question and nothing of its answer was played. */
  #waits(entry) {
    const asked = this.entries.filter(({ live, said }) => !live && said.segments.length > 0);
    const { reply } = entry;
    const answered = !reply || reply.complete || entry.problem || reply.clauses.length > 0;
    return entry === asked.at(-1) && entry.connection === this.connection && !answered;
  }

  /** The turns of a new connection count from 1 again, and what was open will get no answer. */
  #close() {
    const used = this.entries.map(({ connection }) => connection);
    this.connection = Math.max(this.connection, ...used) + 1;
    this.entries = this.entries.filter((entry) => !entry.live);
    for (const entry of this.entries) {
      const { reply } = entry;
      if (awaited(entry)) reply.silent = true;
      if (reply?.clauses.at(-1)?.end === null) reply.cut = true; // the page was left meanwhile
      if (reply && !reply.complete && !entry.problem) entry.problem = BROKEN;
    }
  }

  /** Without sound, what was not played yet can be read. */
  soundChanged(open) {
    this.sounding = open;
    if (open) return;
    for (const entry of this.entries.filter(awaited)) {
      entry.reply.silent = true;
      this.onChange(entry);
    }
  }

  /** A `segments` message. `timeOf(seconds)`: when that place of the connection's sound was spoken. */
  transcribed({ turn, segments, eos }, timeOf, now, expectsReply) {
    if (segments.length === 0) {
      this.#remove(turn);
      return null;
    }
    const entry = this.#entry(turn);
    const typed = segments.every(({ start, end }) => start === end);
    entry.live = !eos;
    entry.said = {
      typed,
      segments: segments.map(({ text, completed, start, end }) => ({
        text: text.trim(),
        final: completed,
        start: (typed ? null : timeOf(Number(start))) ?? now,
        end: (typed ? null : timeOf(Number(end))) ?? now,
      })),
    };
    if (eos && expectsReply) this.#reply(entry);
    this.onChange(entry);
    return entry;
  }

  /** An `llm_output` message: all text of the reply so far, or of what an interruption left. */
  answered({ turn, llm_output: output, eos, interrupted = false }) {
    const entry = this.#entry(turn);
    const reply = this.#reply(entry);
    reply.text = output.join(" ").trim();
    if (!interrupted) reply.written = reply.text;
    reply.complete = eos;
    this.onChange(entry);
    return entry;
  }

  /** A `thinking` event: the model thinks before it answers. */
  thinks({ turn }) {
    const entry = this.#entry(turn);
    this.#reply(entry).thinks = true;
    this.onChange(entry);
  }

  /** A reply was interrupted. The player knows the clause, the server in `spoken` also the word. */
  interrupted({ turn, spoken }) {
    const entry = this.#find(turn);
    if (!entry?.reply) return;
    const { clauses } = entry.reply;
    const last = clauses.pop();
    if (last) {
      const before = clauses.flatMap(({ text }) => words(text));
      const played = Math.max(0, words(spoken).length - before.length);
      last.text = words(last.text).slice(0, played).join(" ");
      if (last.text) clauses.push(last);
    }
    if (awaited(entry)) entry.reply.cut = true;
    this.onChange(entry);
  }

  failed(turn, sentence) {
    const entry = this.#entry(turn);
    entry.live = false;
    entry.problem = sentence;
    this.onChange(entry);
  }

  /** The voice failed: what was not played of the reply can be read. */
  unspoken(turn, sentence) {
    const entry = this.#entry(turn);
    this.#reply(entry).unspoken = true;
    entry.problem = sentence;
    this.onChange(entry);
  }

  /** The voice cannot say all of a reply: why, in a sentence. */
  leftOut(turn, sentence) {
    const entry = this.#entry(turn);
    this.#reply(entry).leftOut = sentence;
    this.onChange(entry);
  }

  timed({ turn, milliseconds, used_ahead: ahead }) {
    const entry = this.#find(turn);
    if (!entry) return;
    entry.timeline = milliseconds;
    entry.ahead = ahead;
    if (milliseconds.first_sound === null && entry.reply) entry.reply.silent = true;
    this.onChange(entry);
  }

  /** Word from the loudspeaker: see Player. */
  sounded({ kind, turn, text, time }) {
    // The sound may overtake, on its own socket, the transcript that it answers.
    const entry = kind === "clause" ? this.#entry(turn) : this.#find(turn);
    if (!entry) return;
    const { clauses } = this.#reply(entry);
    const last = clauses.at(-1);
    if (last && last.end === null) last.end = time;
    if (kind === "clause") clauses.push({ text: text.trim(), start: time, end: null });
    if (kind === "cut") entry.reply.cut = true;
    this.onChange(entry);
  }

  /**
   * Earlier turns for a new handshake: what was said, and what was played in answer. What waits for
   * an answer is no part of it: it is asked again.
   */
  history() {
    const turns = this.entries.filter(
      (entry) => !entry.live && entry.said.segments.length > 0 && !this.#waits(entry),
    );
    return turns.slice(-HISTORY_TURNS).flatMap((entry) => {
      const messages = [{ role: "user", content: saidText(entry) }];
      const answer = heardText(entry);
      return answer ? [...messages, { role: "assistant", content: answer }] : messages;
    });
  }

  #find(turn) {
    return this.entries.findLast(
      (entry) => entry.connection === this.connection && entry.turn === turn,
    );
  }

  #entry(turn) {
    const found = this.#find(turn);
    if (found) return found;
    const entry = {
      id: `${this.connection}-${turn}`,
      connection: this.connection,
      turn,
      live: true,
      said: { segments: [], typed: false },
      reply: null,
      problem: null,
      timeline: null,
      ahead: false,
    };
    this.entries.push(entry);
    return entry;
  }

  #reply(entry) {
    entry.reply ??= {
      text: "",
      complete: false,
      written: "", // all text that came, played or not
      all: false, // whether the person wants to see it
      silent: !this.sounding,
      unspoken: false,
      cut: false,
      clauses: [],
    };
    return entry.reply;
  }

  #remove(turn) {
    const entry = this.#find(turn);
    if (!entry) return;
    this.entries = this.entries.filter((other) => other !== entry);
    this.onChange(null);
  }
}

function words(text) {
  return text.split(/\s+/).filter(Boolean);
}

export function saidText(entry) {
  return entry.said.segments.map(({ text }) => text).join(" ");
}

/** Whether a reply is on its way of which nothing was played yet. */
export function awaited({ reply, problem }) {
  if (!reply || problem || reply.cut || reply.clauses.length > 0) return false;
  return !reply.complete || (!reply.silent && reply.text !== "");
}

/** Whether more of an interrupted reply was written than was played. */
export function hasMore({ reply }) {
  if (!reply?.cut || !reply.written) return false;
  const played = reply.clauses.map(({ text }) => text).join(" ");
  return words(reply.written).length > words(played).length;
}

/** The reply as far as it was played; as it was written where there was no sound. */
export function heardText(entry) {
  const { reply } = entry;
  if (!reply) return "";
  if (reply.unspoken) return reply.text;
  if (reply.clauses.length === 0) return reply.silent ? reply.text : "";
  const spoken = reply.clauses.map(({ text }) => text).join(" ");
  return reply.cut ? `${spoken} —` : spoken;
}
