import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Conversation, awaited, hasMore, heardText, saidText } from "../../web/conversation.js";
import { SampleClock } from "../../web/sample-clock.js";
import { asSrt, asText, asVtt } from "../../web/subtitles.js";

const START = new Date(2026, 0, 2, 14, 3, 0).getTime();
const timeOf = (seconds) => START + seconds * 1000;

let conversation;
let changes;

beforeEach(() => {
  changes = [];
  conversation = new Conversation((entry) => changes.push(entry));
  conversation.soundChanged(true);
});

const segment = (text, start, end, completed = true) => ({ text, completed, start: String(start), end: String(end) });
const hear = (turn, segments, eos = true) =>
  conversation.transcribed({ turn, segments, eos }, timeOf, START, true);
const answer = (turn, text, eos = true) => conversation.answered({ turn, llm_output: [text], eos });
const sound = (kind, turn, seconds, text) => conversation.sounded({ kind, turn, text, time: timeOf(seconds) });

function spokenTurn(turn, from) {
  hear(turn, [segment(" How old is it?", from, from + 1.5)]);
  answer(turn, "It is old. Very old & <b>.");
  sound("clause", turn, from + 2, "It is old.");
  sound("clause", turn, from + 3, " Very old & <b>.");
  sound("end", turn, from + 4.5);
}

test("a transcript becomes final", () => {
  hear(1, [segment(" How", 0, 0.5, false)], false);
  assert.equal(conversation.entries[0].live, true);
  hear(1, [segment(" How old", 0, 1, true), segment(" is it?", 1, 1.5, true)]);
  assert.equal(conversation.entries.length, 1);
  assert.equal(saidText(conversation.entries[0]), "How old is it?");
  assert.equal(conversation.entries[0].live, false);
});

test("a transcript that turns out to be nothing goes away", () => {
  hear(1, [segment(" Hm", 0, 0.5, false)], false);
  hear(1, [], false);
  assert.deepEqual(conversation.entries, []);
});

test("words show when they are played, not before", () => {
  hear(1, [segment(" How?", 0, 1)]);
  answer(1, "It is old. Very old.");
  assert.equal(heardText(conversation.entries[0]), "");
  sound("clause", 1, 2, "It is old.");
  assert.equal(heardText(conversation.entries[0]), "It is old.");
  sound("cut", 1, 2.5);
  assert.equal(heardText(conversation.entries[0]), "It is old. —");
});

test("an answer that is played before its question is there keeps its first words", () => {
  sound("clause", 1, 1.5, "It is old.");
  hear(1, [segment(" How?", 0, 1)]);
  answer(1, "It is old.");
  sound("end", 1, 2);
  const [entry] = conversation.entries;
  assert.deepEqual([saidText(entry), heardText(entry), entry.live], ["How?", "It is old.", false]);
});

test("the answer is awaited until it is played, though its text is complete", () => {
  const entry = () => conversation.entries[0];
  hear(1, [segment(" How?", 0, 1)]);
  assert.ok(awaited(entry()));
  answer(1, "It is old.");
  assert.ok(awaited(entry()));
  sound("clause", 1, 2, "It is old.");
  assert.ok(!awaited(entry()));
});

test("an answer that is stopped before it is played is awaited no more, nor shown later", () => {
  hear(1, [segment(" How?", 0, 1)]);
  answer(1, "It is old.");
  conversation.interrupted({ turn: 1, spoken: "" });
  assert.ok(!awaited(conversation.entries[0]));
  conversation.soundChanged(false);
  conversation.connectionEnded();
  assert.equal(heardText(conversation.entries[0]), "");
});

test("of an answer that is cut off those words are kept that were said", () => {
  hear(1, [segment(" How?", 0, 1)]);
  answer(1, "It is old. Very old, and then some.");
  sound("clause", 1, 2, "It is old.");
  sound("clause", 1, 3, " Very old, and then some.");
  sound("cut", 1, 3.5);
  conversation.interrupted({ turn: 1, spoken: "It is old.\n Very old," });
  assert.equal(heardText(conversation.entries[0]), "It is old. Very old, —");
  conversation.interrupted({ turn: 1, spoken: "It is" });
  assert.equal(heardText(conversation.entries[0]), "It is old. —");
  assert.match(asSrt(conversation.entries), /WhisperFusion: It is old. —\n$/);
});

test("without sound the text shows as it grows", () => {
  conversation.soundChanged(false);
  hear(1, [segment(" How?", 0, 1)]);
  answer(1, "It is", false);
  assert.equal(heardText(conversation.entries[0]), "It is");
});

test("a reply whose sound never came shows its text once that is known", () => {
  hear(1, [segment(" How?", 0, 1)]);
  answer(1, "It is old.");
  conversation.timed({ turn: 1, milliseconds: { first_sound: null }, used_ahead: false });
  assert.equal(heardText(conversation.entries[0]), "It is old.");
});

test("a reply that the voice fails on shows whole, and why", () => {
  hear(1, [segment(" How?", 0, 1)]);
  answer(1, "It is old.", false);
  sound("clause", 1, 2, "It is old.");
  conversation.unspoken(1, "The voice failed.");
  answer(1, "It is old. Very old.");
  sound("end", 1, 3);
  assert.equal(heardText(conversation.entries[0]), "It is old. Very old.");
  assert.equal(conversation.entries[0].problem, "The voice failed.");
});

test("a broken connection ends what was open, and its turns are not mixed up with later ones", () => {
  hear(1, [segment(" How?", 0, 1)]);
  hear(2, [segment(" And", 3, 4, false)], false);
  conversation.connectionEnded();
  assert.deepEqual(conversation.entries.map((entry) => entry.turn), [1]);
  assert.match(conversation.entries[0].problem, /connection broke/);
  hear(1, [segment(" Again?", 0, 1)]);
  assert.deepEqual(conversation.entries.map(saidText), ["How?", "Again?"]);
});

test("the history for a new handshake holds what was said and what was played", () => {
  spokenTurn(1, 0);
  hear(2, [segment(" And you?", 6, 7)]);
  answer(2, "I am new. Quite new.");
  sound("clause", 2, 8, "I am new.");
  sound("cut", 2, 8.5);
  hear(3, [segment(" unfinis", 10, 11, false)], false);
  assert.deepEqual(conversation.history(), [
    { role: "user", content: "How old is it?" },
    { role: "assistant", content: "It is old. Very old & <b>." },
    { role: "user", content: "And you?" },
    { role: "assistant", content: "I am new. —" },
  ]);
});

test("a question whose server is lost is taken back, to be asked again", () => {
  spokenTurn(1, 0);
  hear(2, [segment(" And now?", 5, 6)]);
  answer(2, "Now", false);
  hear(3, [segment(" Er", 7, 8, false)], false);
  assert.deepEqual(conversation.history().map(({ content }) => content), [
    "How old is it?",
    "It is old. Very old & <b>.",
  ]);
  assert.equal(conversation.takeUnanswered(), "And now?");
  conversation.connectionEnded();
  assert.deepEqual(conversation.entries.map(saidText), ["How old is it?"]);
  assert.equal(conversation.takeUnanswered(), "");
});

test("what was answered, refused or partly played is not asked again", () => {
  hear(1, [segment(" How?", 0, 1)]);
  answer(1, "So.", false);
  sound("clause", 1, 2, "So.");
  assert.equal(conversation.takeUnanswered(), "");
  hear(2, [segment(" And now?", 5, 6)]);
  conversation.failed(2, "It failed.");
  assert.equal(conversation.takeUnanswered(), "");
  hear(3, [segment(" Again?", 7, 8)]);
  answer(3, "Yes.");
  assert.equal(conversation.takeUnanswered(), "");
});

test("the history stays below what a handshake may hold", () => {
  for (let turn = 1; turn <= 70; turn++) spokenTurn(turn, turn * 10);
  const history = conversation.history();
  assert.ok(history.length <= 100);
  assert.equal(history.length, 40);
});

test("a page that is left while it speaks keeps what was played until then", () => {
  hear(1, [segment(" How?", 0, 1)]);
  answer(1, "It is old. Very old.");
  sound("clause", 1, 2, "It is old.");
  const again = new Conversation(() => {}, JSON.parse(JSON.stringify(conversation.entries)));
  assert.equal(heardText(again.entries[0]), "It is old. —");
  assert.equal(again.entries[0].problem, null);
});

test("a conversation survives being stored", () => {
  spokenTurn(1, 0);
  const stored = JSON.parse(JSON.stringify(conversation.entries));
  const again = new Conversation(() => {}, stored);
  assert.deepEqual(again.history(), conversation.history());
  again.transcribed({ turn: 1, segments: [segment(" New?", 0, 1)], eos: true }, timeOf, START, true);
  assert.equal(again.entries.length, 2);
});

test("plain text says who said what and when", () => {
  spokenTurn(1, 0);
  assert.equal(
    asText(conversation.entries),
    "[14:03:00] You: How old is it?\n[14:03:02] WhisperFusion: It is old. Very old & <b>.\n",
  );
});

test("SRT and WebVTT hold each clause at the time it was played", () => {
  spokenTurn(1, 3600);
  assert.equal(
    asSrt(conversation.entries),
    "1\n00:00:00,000 --> 00:00:01,500\nYou: How old is it?\n\n" +
      "2\n00:00:02,000 --> 00:00:03,000\nWhisperFusion: It is old.\n\n" +
      "3\n00:00:03,000 --> 00:00:04,500\nWhisperFusion: Very old & <b>.\n",
  );
  assert.equal(
    asVtt(conversation.entries),
    "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\n<v You>How old is it?\n\n" +
      "00:00:02.000 --> 00:00:03.000\n<v WhisperFusion>It is old.\n\n" +
      "00:00:03.000 --> 00:00:04.500\n<v WhisperFusion>Very old &amp; &lt;b&gt;.\n",
  );
});

test("typed turns have a place in the subtitles, and paragraphs do not break them", () => {
  conversation.soundChanged(false);
  hear(1, [segment(" Typed?", 0, 0)]);
  answer(1, "Read.\n\nAll of it.");
  const srt = asSrt(conversation.entries);
  assert.match(srt, /00:00:00,000 --> 00:00:00,800\nYou: Typed\?\n\n2\n/);
  assert.match(srt, /\nWhisperFusion: Read. All of it.\n$/);
});

test("a model that thinks is said to think until its answer comes", () => {
  hear(1, [segment(" Why?", 0, 1)]);
  conversation.thinks({ turn: 1 });
  const entry = conversation.entries.at(-1);
  assert.equal(entry.reply.thinks, true);
  assert.equal(heardText(entry), "");
  answer(1, "So.");
  assert.equal(entry.reply.text, "So.");
});

test("an empty conversation is an empty file", () => {
  assert.equal(asText([]), "");
  assert.equal(asSrt([]), "");
  assert.equal(asVtt([]), "WEBVTT\n");
});

test("the sample clock knows pauses between what was sent", () => {
  const clock = new SampleClock(16000);
  assert.equal(clock.timeOf(0), null);
  for (let second = 1; second <= 3; second++) clock.sent(16000, START + second * 1000 + (second % 2) * 50);
  clock.sent(16000, START + 60000);
  assert.equal(clock.timeOf(0), START + 50);
  assert.equal(clock.timeOf(2.5), START + 2550);
  assert.equal(clock.timeOf(3.5), START + 59500);
});

test("why a part of a reply is not spoken is kept with it", () => {
  spokenTurn(1, 0);
  conversation.leftOut(1, "This voice cannot say Chinese writing.");
  assert.equal(conversation.entries[0].reply.leftOut, "This voice cannot say Chinese writing.");
  assert.equal(heardText(conversation.entries[0]), "It is old. Very old & <b>.");
});

test("files of the conversation hold words, not the marks around them", () => {
  hear(1, [segment(" How?", 0, 1)]);
  answer(1, "It is **very old** indeed.");
  sound("clause", 1, 2, "It is **very");
  sound("clause", 1, 3, "old** indeed.");
  sound("end", 1, 4);
  for (const file of [asText, asSrt, asVtt]) assert.doesNotMatch(file(conversation.entries), /\*/);
  assert.match(asText(conversation.entries), /It is very old indeed\./);
});

test("what was written of an interrupted reply is kept, and shown only when asked for", () => {
  hear(1, [segment("How old?", 0, 1)]);
  answer(1, "It is old. Very old.");
  sound("clause", 1, 2, "It is old.");
  sound("cut", 1, 2.5);
  conversation.answered({ turn: 1, llm_output: ["It is"], eos: true, interrupted: true });
  const [entry] = conversation.entries;
  assert.equal(hasMore(entry), true);
  assert.equal(entry.reply.written, "It is old. Very old.");
  conversation.toggleAll(entry.id);
  assert.equal(entry.reply.all, true);
  assert.equal(heardText(entry), "It is old. —");
});

test("a conversation that was cleared can be had back", () => {
  spokenTurn(1, 0);
  const { entries } = conversation;
  conversation.clear();
  assert.equal(conversation.entries.length, 0);
  conversation.restore(entries);
  assert.equal(saidText(conversation.entries[0]), "How old is it?");
  hear(1, [segment("And now?", 9, 10)]);
  assert.equal(conversation.entries.length, 2);
});
