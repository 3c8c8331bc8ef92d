// The player and the real worklet, joined by a port as in the browser; each step plays 128 samples.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Player } from "../../web/playback.js";

const RATE = 24000; // also the device's, so that samples come out as they went in
const CUSHION = 0.06 * RATE;
const STEP = 128;

let Worklet;
globalThis.sampleRate = RATE;
globalThis.AudioWorkletProcessor = class {
  constructor() {
    this.port = { postMessage: (message) => this.sent.push(message) };
    this.sent = [];
  }
};
globalThis.registerProcessor = (name, made) => (Worklet = made);
await import("../../web/playback-worklet.js");

let worklet;
let player;
let played;
let out;

beforeEach(() => {
  worklet = new Worklet();
  played = [];
  out = [];
  player = new Player({ sampleRate: RATE }, (event) => played.push(event));
  player.worklet = { port: { postMessage: (data) => worklet.port.onmessage({ data }) } };
});

function play(samples) {
  for (let played = 0; played < samples; played += STEP) {
    const output = new Float32Array(STEP);
    worklet.process([], [[output]]);
    out.push(...output);
    for (const message of worklet.sent.splice(0)) player.report(message);
  }
}

const ramp = (count, first = 1) => Float32Array.from({ length: count }, (_, i) => (first + i) / 1e6);
const kinds = () => played.map(({ kind, turn, text }) => [kind, turn, ...(text ? [text] : [])]);
const near = (a, b) => a.length === b.length && a.every((x, i) => Math.abs(x - b[i]) < 1e-7);

test("chunks come out in order and without a gap, around the ring's end too", () => {
  const total = 32 * RATE; // more than the ring holds
  player.begin(1);
  let sent = 0;
  while (sent < total) {
    const chunk = ramp(2400, sent + 1);
    player.sound(chunk.buffer);
    sent += chunk.length;
    play(2400 - (2400 % STEP));
  }
  player.end(1);
  play(total);
  assert.ok(near(out.slice(0, total), [...ramp(total)]));
  assert.equal(player.counters.underruns, 0);
  assert.equal(player.counters.dropped, 0);
  assert.equal(player.counters.played, total);
});

test("it waits for a cushion, but not when the reply is complete", () => {
  player.begin(1);
  player.sound(ramp(CUSHION / 2).buffer);
  play(1000);
  assert.ok(out.every((x) => x === 0));
  player.end(1);
  play(CUSHION);
  assert.ok(out.some((x) => x > 0));
  assert.equal(player.counters.underruns, 0);
});

test("the words are told when their sound begins, the end when it is over", () => {
  player.begin(1);
  player.clause(1, "One.");
  player.sound(ramp(4000).buffer);
  player.clause(1, "Two.");
  player.sound(ramp(4000).buffer);
  play(3900);
  assert.deepEqual(kinds(), [["clause", 1, "One."]]);
  play(256);
  assert.deepEqual(kinds().at(-1), ["clause", 1, "Two."]);
  assert.equal(player.audible, 1);
  player.end(1);
  play(4200);
  assert.deepEqual(kinds().at(-1), ["end", 1]);
  assert.equal(player.audible, null);
});

test("a flush is silent within 5 ms, drops the rest and tells that the reply was cut", () => {
  player.begin(1);
  player.clause(1, "One.");
  player.sound(new Float32Array(RATE).fill(0.5).buffer);
  player.clause(1, "Two.");
  player.sound(new Float32Array(RATE).fill(0.5).buffer);
  play(2560);
  assert.equal(out.at(-1), 0.5);
  out = [];
  player.flush();
  play(RATE);
  const jumps = out.map((x, i) => Math.abs(x - (i ? out[i - 1] : 0.5)));
  assert.ok(Math.max(...jumps) < 0.05, "it does not click");
  assert.ok(Math.max(...out.slice(0.005 * RATE * 2)) < 0.01);
  assert.deepEqual(kinds(), [["clause", 1, "One."], ["cut", 1]]);
});

test("when the person stops a reply, the rest of it stays silent and the next one is played", () => {
  player.begin(1);
  player.clause(1, "One.");
  player.sound(new Float32Array(4000).fill(0.5).buffer);
  play(2560);
  player.stop();
  player.clause(1, "Two.");
  player.sound(new Float32Array(4000).fill(0.5).buffer);
  player.end(1);
  play(1280);
  out = [];
  play(4000);
  assert.ok(Math.max(...out) < 0.01);
  player.begin(2);
  player.clause(2, "Three.");
  player.sound(new Float32Array(4000).fill(0.5).buffer);
  play(2560);
  assert.equal(out.at(-1), 0.5);
  assert.deepEqual(kinds(), [["clause", 1, "One."], ["cut", 1], ["clause", 2, "Three."]]);
});

test("the first turn of a new session is played, although one of the same number was stopped", () => {
  player.begin(1);
  player.sound(new Float32Array(4000).fill(0.5).buffer);
  play(2560);
  player.stop();
  player.reset();
  player.begin(1);
  player.clause(1, "New.");
  player.sound(new Float32Array(4000).fill(0.5).buffer);
  play(2560);
  assert.equal(out.at(-1), 0.5);
  assert.deepEqual(kinds(), [["clause", 1, "New."]]);
});

test("a gap in what comes in is counted", () => {
  player.begin(1);
  player.sound(ramp(CUSHION).buffer);
  play(CUSHION + 5000);
  assert.equal(player.counters.underruns, 1);
  player.sound(ramp(CUSHION).buffer);
  player.end(1);
  play(CUSHION + 5000);
  assert.equal(player.counters.underruns, 1);
});

test("a clause without sound is told at its place, also at a reply's end", () => {
  player.begin(1);
  player.clause(1, "Shown.");
  player.end(1);
  play(1280);
  assert.deepEqual(kinds(), [["clause", 1, "Shown."], ["end", 1]]);
});

test("a reply can be played again, which is nothing new to the conversation, and stopped", () => {
  const sound = new Float32Array(RATE / 2).fill(0.25);
  player.begin(1);
  player.clause(1, "One.");
  player.sound(sound.buffer);
  player.end(1);
  play(RATE);
  assert.equal(player.canReplay(1), true);
  assert.equal(player.canReplay(2), false);
  const before = played.length;
  out = [];
  player.replay(1);
  play(RATE);
  assert.ok(out.filter((sample) => sample > 0.2).length > RATE / 2.2);
  player.replay(1);
  player.stop();
  out = [];
  play(RATE);
  assert.equal(Math.max(...out), 0);
  assert.equal(played.length, before);
});
