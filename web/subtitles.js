// The conversation as a file: plain text, SubRip (SRT) and WebVTT.

import { heardText, saidText } from "./conversation.js";
import { plain, plainPieces } from "./markdown.js";

const YOU = "You";
const MACHINE = "WhisperFusion";
const SHORTEST = 800; // ms: what was typed, or was only read, has no length of its own
const READING = 60; // ms a character

/** Plain text: a line each, with the time of day. */
export function asText(entries) {
  return lines(entries)
    .map(({ who, text, start }) => `[${timeOfDay(start)}] ${who}: ${text}\n`)
    .join("");
}

export function asSrt(entries) {
  return cues(entries)
    .map(
      ({ who, text, from, to }, index) =>
        `${index + 1}\n${stamp(from, ",")} --> ${stamp(to, ",")}\n${who}: ${text}\n`,
    )
    .join("\n");
}

export function asVtt(entries) {
  const blocks = cues(entries).map(
    ({ who, text, from, to }) =>
      `${stamp(from, ".")} --> ${stamp(to, ".")}\n<v ${who}>${escaped(text)}\n`,
  );
  return ["WEBVTT\n", ...blocks].join("\n");
}

function lines(entries) {
  return entries.flatMap((entry) => {
    const start = entry.said.segments[0]?.start;
    const said = { who: YOU, text: saidText(entry), start };
    const answer = plain(heardText(entry));
    const end = entry.said.segments.at(-1)?.end;
    const reply = { who: MACHINE, text: answer, start: entry.reply?.clauses[0]?.start ?? end };
    return [said, reply].filter(({ text }) => text).map(onOneLine);
  });
}

/** A model may write paragraphs; an empty line would end the subtitle. */
function onOneLine(part) {
  return { ...part, text: part.text.replace(/\s+/g, " ") };
}

/** Pieces of speech in the order of time, from the first word on. */
function cues(entries) {
  const all = entries.flatMap((entry) => [...saidCues(entry), ...replyCues(entry)]);
  all.sort((a, b) => a.start - b.start);
  const origin = all[0]?.start ?? 0;
  return all.map(onOneLine).map(({ who, text, start, end }) => ({
    who,
    text,
    from: start - origin,
    to: Math.max(end, start + SHORTEST) - origin,
  }));
}

function saidCues({ said }) {
  return said.segments
    .filter(({ text }) => text)
    .map(({ text, start, end }) => ({ who: YOU, text, start, end: said.typed ? start : end }));
}

function replyCues(entry) {
  const { reply, said } = entry;
  if (!reply) return [];
  if (reply.clauses.length === 0) {
    const text = plain(heardText(entry));
    const start = said.segments.at(-1)?.end;
    return text ? [{ who: MACHINE, text, start, end: start + text.length * READING }] : [];
  }
  const texts = plainPieces(reply.clauses.map(({ text }) => text));
  return reply.clauses.map(({ start, end }, index) => {
    const text = texts[index];
    const last = index === reply.clauses.length - 1;
    return { who: MACHINE, text: last && reply.cut ? `${text} —` : text, start, end: end ?? start };
  });
}

function stamp(milliseconds, point) {
  const whole = Math.max(0, Math.round(milliseconds));
  const part = (divisor, modulus) => String(Math.floor(whole / divisor) % modulus).padStart(2, "0");
  const fraction = String(whole % 1000).padStart(3, "0");
  return `${part(3600000, 100)}:${part(60000, 60)}:${part(1000, 60)}${point}${fraction}`;
}

function timeOfDay(time) {
  const date = new Date(time);
  return [date.getHours(), date.getMinutes(), date.getSeconds()]
    .map((number) => String(number).padStart(2, "0"))
    .join(":");
}

function escaped(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
