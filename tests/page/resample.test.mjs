import assert from "node:assert/strict";
import { test } from "node:test";

import { FRAME, Frames, loudness } from "../../web/capture.js";
import { Resampler } from "../../web/resample.js";

const sine = (pitch, rate, seconds) =>
  Float32Array.from({ length: Math.round(rate * seconds) }, (_, i) => Math.sin((2 * Math.PI * pitch * i) / rate));

const strength = (samples) => Math.sqrt(samples.reduce((sum, x) => sum + x * x, 0) / samples.length);

const decibels = (ratio) => 20 * Math.log10(ratio);

function inChunks(resampler, samples, size) {
  const out = [];
  for (let i = 0; i < samples.length; i += size) out.push(...resampler.process(samples.subarray(i, i + size)));
  out.push(...resampler.flush());
  return Float32Array.from(out);
}

for (const [from, to] of [[48000, 16000], [44100, 16000], [16000, 16000], [8000, 16000], [24000, 48000], [24000, 44100], [24000, 22050]]) {
  test(`a voice keeps its pitch, strength and length from ${from} to ${to} Hz`, () => {
    const out = inChunks(new Resampler(from, to), sine(1000, from, 0.5), 997);
    assert.ok(Math.abs(out.length - to * 0.5) <= 1, `${out.length} samples`);
    const expected = sine(1000, to, 0.5);
    const inner = Math.round(to * 0.05); // the edges hold the filter's start and end
    const error = out.slice(inner, -inner).map((x, i) => x - expected[i + inner]);
    assert.ok(decibels(strength(error)) < -60, `error ${decibels(strength(error))} dB`);
  });
}

for (const from of [48000, 44100, 96000]) {
  test(`what 16 kHz cannot hold is gone, not folded back, from ${from} Hz`, () => {
    for (const pitch of [8600, 9500, 12000, 15000]) {
      const out = inChunks(new Resampler(from, 16000), sine(pitch, from, 0.3), 1024);
      const left = decibels(strength(out.slice(800, -800)) / Math.SQRT1_2);
      assert.ok(left < -70, `${pitch} Hz is left with ${left} dB`);
    }
  });
}

test("pitches that speech needs pass through", () => {
  const out = inChunks(new Resampler(48000, 16000), sine(6500, 48000, 0.3), 1024);
  assert.ok(Math.abs(decibels(strength(out.slice(800, -800)) / Math.SQRT1_2)) < 0.1);
});

test("where the sound is cut into chunks makes no difference", () => {
  const noise = Float32Array.from({ length: 9000 }, (_, i) => Math.sin(i * i * 0.001));
  const whole = inChunks(new Resampler(44100, 16000), noise, noise.length);
  for (const size of [1, 7, 128, 1000]) {
    assert.deepEqual(inChunks(new Resampler(44100, 16000), noise, size), whole);
  }
});

test("after a flush the next sound starts fresh", () => {
  const resampler = new Resampler(24000, 48000);
  const first = inChunks(resampler, sine(300, 24000, 0.1), 500);
  assert.deepEqual(inChunks(resampler, sine(300, 24000, 0.1), 500), first);
});

test("frames have 512 samples and full scale does not wrap around", () => {
  const frames = new Frames(16000);
  const made = frames.add(new Float32Array(1300).fill(2));
  assert.deepEqual(made.map((frame) => frame.length), [FRAME, FRAME]);
  assert.ok(made.every((frame) => frame.every((sample) => sample === 32767)));
  assert.equal(frames.add(new Float32Array(FRAME * 3 - 1300).fill(-2)).length, 1);
});

test("the level meter goes from silence to full scale", () => {
  assert.equal(loudness(new Float32Array(100)), 0);
  assert.ok(Math.abs(loudness(new Float32Array(100).fill(1)) - 1) < 1e-6);
  assert.ok(Math.abs(loudness(new Float32Array(100).fill(0.0316)) - 0.5) < 0.01); // -30 dB
});
