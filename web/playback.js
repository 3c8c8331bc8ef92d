// The reply's sound: from 24 kHz chunks to the loudspeaker, and word of what was really played.

import { Resampler } from "./resample.js";

export const SPEECH_RATE = 24000;
const KEPT_REPLIES = 10; // whose sound can be played again

export class Player {
  /**
   * `onHeard({kind, turn, text, time})`: the sound of a clause begins ("clause"), a reply was
   * played to its end ("end") or was cut off ("cut"). Times are in milliseconds since 1970.
   */
  constructor(context, onHeard) {
    this.context = context;
    this.onHeard = onHeard;
    this.resampler = new Resampler(SPEECH_RATE, context.sampleRate);
    this.counters = { played: 0, waiting: 0, underruns: 0, dropped: 0 };
    this.marks = new Map();
    this.nextMark = 0;
    this.turn = null; // whose sound comes in
    this.audible = null; // whose sound plays
    this.refused = null; // a turn that the person stopped: the rest of it is not played
    this.replaying = false;
    this.kept = new Map(); // the sound of the latest replies, by turn
  }

  async open(volume) {
    await this.context.audioWorklet.addModule(new URL("playback-worklet.js", import.meta.url));
    this.worklet = new AudioWorkletNode(this.context, "playback", { outputChannelCount: [1] });
    this.worklet.port.onmessage = ({ data }) => this.report(data);
    this.analyser = new AnalyserNode(this.context, { fftSize: 1024 });
    this.gain = new GainNode(this.context, { gain: volume });
    this.worklet.connect(this.analyser).connect(this.gain).connect(this.context.destination);
  }

  set volume(value) {
    this.gain.gain.setTargetAtTime(value, this.context.currentTime, 0.02);
  }

  /** Play on this loudspeaker, "" for the system's; where the browser cannot choose or it is gone, on
   * the one that plays now. */
  async playOn(id) {
    try {
      await this.context.setSinkId?.(id);
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
    }
  }

  /** The sound of this turn's reply follows. */
  begin(turn) {
    if (this.replaying) this.flush();
    this.turn = turn;
    this.keep(turn);
    this.resampler.reset();
    if (turn !== this.refused) this.refused = null;
  }

  /** The words whose sound comes next. */
  clause(turn, text) {
    this.mark("mark", { kind: "clause", turn, text });
  }

  /** A chunk of sound: an ArrayBuffer of float32 at 24 kHz. */
  sound(buffer) {
    if (this.turn === this.refused) return;
    this.kept.get(this.turn)?.push(buffer);
    this.post(this.resampler.process(new Float32Array(buffer)));
  }

  keep(turn) {
    if (!this.kept.has(turn)) this.kept.set(turn, []); // it may go on after a break
    const [oldest] = this.kept.keys();
    if (this.kept.size > KEPT_REPLIES) this.kept.delete(oldest);
  }

  /** Whether the sound of this turn's reply is at hand. */
  canReplay(turn) {
    return (this.kept.get(turn)?.length ?? 0) > 0;
  }

  /** Say a reply again, from its kept sound. */
  replay(turn) {
    this.playAside(turn, this.kept.get(turn));
  }

  /** Play sound that tells the conversation nothing. What plays gives way. */
  playAside(turn, buffers) {
    this.flush();
    this.replaying = true;
    this.refused = null;
    this.mark("mark", { kind: "replay", turn });
    for (const buffer of buffers) this.post(this.resampler.process(new Float32Array(buffer)));
    this.post(this.resampler.flush());
    this.resampler.reset();
    this.mark("end", { kind: "replayed", turn });
  }

  /** All of a reply's sound was sent. */
  end(turn) {
    if (turn !== this.refused) this.post(this.resampler.flush());
    this.mark("end", { kind: "end", turn });
  }

  /** Silence, now. What was not played is dropped. */
  flush() {
    this.worklet.port.postMessage({ flush: true });
    this.resampler.reset();
    this.marks.clear();
    if (this.replaying) this.audible = null; // nothing of the conversation was cut
    this.replaying = false;
    if (this.audible === null) return;
    this.onHeard({ kind: "cut", turn: this.audible, time: this.now() });
    this.audible = null;
  }

  /** The person wants no more of what is being said. */
  stop() {
    this.refused = this.turn;
    this.flush();
  }

  /** The session is over: the next one counts its turns from 1 again. */
  reset() {
    this.flush();
    this.turn = this.refused = null;
    this.kept.clear();
  }

  mark(type, payload) {
    if (payload.turn === this.refused) return;
    this.marks.set(++this.nextMark, payload);
    this.worklet.port.postMessage({ [type]: this.nextMark });
  }

  post(samples) {
    if (samples.length > 0) this.worklet.port.postMessage(samples);
  }

  report(message) {
    if (message.reached === undefined) {
      this.counters = message;
      return;
    }
    const payload = this.marks.get(message.reached);
    if (!payload) return; // flushed while the word was on its way
    this.marks.delete(message.reached);
    this.audible = ["clause", "replay"].includes(payload.kind) ? payload.turn : null;
    if (payload.kind === "replayed") this.replaying = false;
    if (payload.kind.startsWith("replay")) return; // nothing new was said
    this.onHeard({ ...payload, time: this.now() });
  }

  /** When what the worklet plays now reaches the ear. */
  now() {
    return Date.now() + 1000 * (this.context.outputLatency || this.context.baseLatency || 0);
  }
}
