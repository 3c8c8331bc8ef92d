// Runs on the audio thread: plays what comes in without a gap, from a ring buffer.
//
// In: a Float32Array at the device's rate, {mark: id} (tell when what follows is played), {end: id}
// (tell when what came before was played; nothing is missing then), {flush: true} (silence, now).
// Out: {reached: id}, and about ten times a second {played, waiting, underruns, dropped} in samples.

const CAPACITY_SECONDS = 30; // the server sends less than a second ahead
const CUSHION_SECONDS = 0.06; // waited for before the first sound: chunks come unevenly
const REPORT_SECONDS = 0.1;
const FADE = 0.97; // a sample; from full scale to inaudible in 5 ms, so that a cut does not click

class Playback extends AudioWorkletProcessor {
  constructor() {
    super();
    this.ring = new Float32Array(CAPACITY_SECONDS * sampleRate);
    this.written = 0; // samples since the start, as is `played`
    this.played = 0;
    this.marks = [];
    this.complete = false;
    this.playing = false;
    this.last = 0;
    this.underruns = 0;
    this.dropped = 0;
    this.reportIn = 0;
    this.port.onmessage = ({ data }) => this.take(data);
  }

  take(message) {
    if (message instanceof Float32Array) this.write(message);
    else if (message.flush) this.flush();
    else if (message.mark !== undefined) this.marks.push({ id: message.mark, at: this.written + 1 });
    else if (message.end !== undefined) {
      // What is shown without a sound of its own must not wait for the next reply's.
      for (const mark of this.marks) mark.at = Math.min(mark.at, this.written);
      this.marks.push({ id: message.end, at: this.written });
      this.complete = true;
    }
  }

  write(samples) {
    const room = this.ring.length - (this.written - this.played);
    const part = samples.subarray(0, room);
    this.dropped += samples.length - part.length;
    const start = this.written % this.ring.length;
    const untilWrap = part.subarray(0, this.ring.length - start);
    this.ring.set(untilWrap, start);
    this.ring.set(part.subarray(untilWrap.length), 0);
    this.written += part.length;
    this.complete = false;
  }

  flush() {
    this.written = this.played;
    this.marks = [];
    this.complete = false;
    this.playing = false;
  }

  process(inputs, outputs) {
    const output = outputs[0][0];
    const waiting = this.written - this.played;
    if (waiting >= CUSHION_SECONDS * sampleRate || (this.complete && waiting > 0)) this.playing = true;
    const count = this.playing ? Math.min(waiting, output.length) : 0;
    for (let i = 0; i < count; i++) output[i] = this.ring[(this.played + i) % this.ring.length];
    if (count > 0) this.last = output[count - 1];
    for (let i = count; i < output.length; i++) output[i] = this.last *= FADE;
    this.played += count;
    if (this.playing && count < output.length) {
      this.playing = false;
      if (!this.complete) this.underruns++;
    }
    this.report(output.length);
    return true;
  }

  report(samples) {
    while (this.marks.length > 0 && this.marks[0].at <= this.played) {
      this.port.postMessage({ reached: this.marks.shift().id });
    }
    this.reportIn -= samples;
    if (this.reportIn > 0) return;
    this.reportIn = REPORT_SECONDS * sampleRate;
    const { played, underruns, dropped } = this;
    this.port.postMessage({ played, waiting: this.written - played, underruns, dropped });
  }
}

registerProcessor("playback", Playback);
