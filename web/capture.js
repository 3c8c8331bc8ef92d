// The microphone, as frames of 16 kHz int16 samples.

import { Resampler } from "./resample.js";

export const RATE = 16000;
export const FRAME = 512; // samples: 32 ms, what the server's speech detection works on

/** Load what `Microphone` needs. Throws DOMException when it cannot be had. */
export function prepareCapture(context) {
  return context.audioWorklet.addModule(new URL("capture-worklet.js", import.meta.url));
}

/** Why the microphone cannot be used. `kind`: insecure, refused, missing, busy or failed. */
export class MicrophoneError extends Error {
  constructor(kind) {
    super(kind);
    this.kind = kind;
  }
}

const KINDS = {
  NotAllowedError: "refused",
  SecurityError: "refused",
  NotFoundError: "missing",
  OverconstrainedError: "missing",
  NotReadableError: "busy",
  AbortError: "busy",
};

export class Microphone {
  /**
   * `context`: see `prepareCapture`.
   * `onFrame(Int16Array)` gets 512 samples; `onLevel(number)` the loudness, 0 to 1;
   * `onEnded()` is called when the device goes away.
   */
  constructor(context, { onFrame, onLevel, onEnded }) {
    this.context = context;
    this.onFrame = onFrame;
    this.onLevel = onLevel;
    this.onEnded = onEnded;
    this.stream = null;
    this.nodes = [];
  }

  /** Ask for the microphone and start. `id`: which one, if it is there. Throws MicrophoneError. */
  async open(id = "") {
    this.stream = await ask(id);
    this.frames = new Frames(this.context.sampleRate);
    const source = this.context.createMediaStreamSource(this.stream);
    const worklet = new AudioWorkletNode(this.context, "capture", {
      channelCount: 1,
      channelCountMode: "explicit",
    });
    worklet.port.onmessage = ({ data }) => this.take(data);
    // It puts out silence; only a node on the way to the loudspeaker is run by every browser.
    source.connect(worklet).connect(this.context.destination);
    this.nodes = [source, worklet];
    this.stream.getAudioTracks()[0].addEventListener("ended", () => {
      this.close();
      this.onEnded();
    });
  }

  /** While it is muted the browser gives out silence, whatever the device picks up. */
  set muted(muted) {
    for (const track of this.stream?.getTracks() ?? []) track.enabled = !muted;
  }

  close() {
    for (const node of this.nodes) node.disconnect();
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.nodes = [];
    this.stream = null;
    this.onLevel(0);
  }

  take(block) {
    if (!this.stream) return; // a block that was under way when the microphone was closed
    this.onLevel(loudness(block));
    for (const frame of this.frames.add(block)) this.onFrame(frame);
  }
}

/** Cuts sound at the device's rate into 16 kHz frames. */
export class Frames {
  constructor(rate) {
    this.resampler = new Resampler(rate, RATE);
    this.frame = new Int16Array(FRAME);
    this.filled = 0;
  }

  /** Take samples (Float32Array); returns the frames that they complete. */
  add(samples) {
    const complete = [];
    for (const sample of this.resampler.process(samples)) {
      this.frame[this.filled++] = Math.round(Math.max(-1, Math.min(1, sample)) * 32767);
      if (this.filled === FRAME) {
        complete.push(this.frame);
        this.frame = new Int16Array(FRAME);
        this.filled = 0;
      }
    }
    return complete;
  }
}

/** Root mean square on a scale of decibels: -60 dB and below is 0, full scale is 1. */
export function loudness(samples) {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  const decibels = 10 * Math.log10(sum / samples.length + 1e-12);
  return Math.max(0, Math.min(1, 1 + decibels / 60));
}

async function ask(id) {
  if (!navigator.mediaDevices?.getUserMedia) throw new MicrophoneError("insecure");
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: { deviceId: id ? { ideal: id } : undefined, echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    });
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    throw new MicrophoneError(KINDS[error.name] ?? "failed");
  }
}
