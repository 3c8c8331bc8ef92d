// The big button: opens the microphone, sends what it hears, and in hold-to-talk ends the turn.

import { Microphone, MicrophoneError, RATE } from "./capture.js";
import { SampleClock } from "./sample-clock.js";

const HELD_BACK = 94; // frames, 3 s: spoken while the connection was still being made
const SLOW_FRAMES = 30; // frames in a row that could not be sent, after which the person is told

export class Talk {
  constructor(app) {
    this.app = app;
    this.microphone = "off"; // off, asking, on, held
    this.device = null;
    this.clock = new SampleClock(RATE);
    this.waiting = [];
    this.unsent = 0;
    this.muted = false;
    this.button = document.getElementById("talk");
    this.listen();
  }

  listen() {
    this.button.addEventListener("click", ({ detail }) => {
      const again = detail > 1; // who double-clicks wants it once
      if (!this.app.settings.hold && !again) this.toggle();
    });
    this.button.addEventListener("pointerdown", (event) => {
      if (this.app.settings.hold && event.button === 0) this.press();
    });
    document.getElementById("mute").addEventListener("click", () => this.mute(!this.muted));
    for (const event of ["pointerup", "pointercancel", "blur"]) {
      window.addEventListener(event, () => this.release());
    }
    this.button.addEventListener("contextmenu", (event) => event.preventDefault());
    document.addEventListener("keydown", (event) => {
      if (!this.app.settings.hold || !this.talks(event)) return;
      event.preventDefault();
      if (!event.repeat) this.press();
    });
    document.addEventListener("visibilitychange", () => this.stayAwake());
    document.addEventListener("keyup", (event) => {
      if (this.app.settings.hold && this.talks(event)) this.release();
    });
  }

  /** The space bar, unless it belongs to a field or another button. */
  talks({ key, target }) {
    return key === " " && (target === this.button || !target.closest("input, textarea, select, button, a, dialog"));
  }

  /** Whether what the microphone hears is meant for the server. */
  get listening() {
    return !this.muted && this.microphone === (this.app.settings.hold ? "held" : "on");
  }

  /** Whether there is something to mute: held down, the button itself says when to listen. */
  get canMute() {
    return this.microphone === "on" && !this.app.settings.hold;
  }

  /** Hear nothing until told otherwise; the answers go on. What was said so far is answered. */
  mute(muted) {
    if (muted === this.muted || !this.canMute) return;
    this.muted = muted;
    this.device.muted = muted;
    if (muted) {
      this.waiting = [];
      this.app.connection.command("end_turn");
    }
    this.app.showState();
  }

  toggle() {
    if (this.microphone === "off") this.open("on");
    else this.close();
  }

  press() {
    this.pressed = true;
    this.app.hush();
    if (this.device) this.become("held");
    else this.open("held");
  }

  release() {
    this.pressed = false;
    if (this.microphone !== "held") return;
    this.become("on");
    this.app.connection.command("end_turn");
  }

  async open(state) {
    if (this.microphone === "asking") return;
    if (!this.app.hasSound) {
      this.app.tellMicrophone("insecure");
      return;
    }
    this.become("asking");
    this.app.connection.open();
    const sound = await this.app.openSound();
    if (this.microphone !== "asking") return; // the person thought better of it
    if (!sound) {
      this.lost("failed");
      return;
    }
    const device = new Microphone(this.app.context, {
      onFrame: (frame) => this.captured(frame),
      onLevel: (level) => this.app.view.level(this.listening ? level : 0),
      onEnded: () => this.lost("gone"),
    });
    this.device = device;
    try {
      await device.open(this.app.settings.microphone);
    } catch (error) {
      if (!(error instanceof MicrophoneError)) throw error;
      if (this.device === device) this.lost(error.kind);
      return;
    }
    if (this.device !== device) {
      device.close(); // the person thought better of it
      return;
    }
    this.app.view.resolved("microphone");
    this.become(state === "held" && !this.pressed ? "on" : state);
  }

  close() {
    this.device?.close();
    this.device = null;
    this.waiting = [];
    this.muted = false;
    this.become("off");
    this.app.connection.command("end_turn");
  }

  lost(kind) {
    this.close();
    this.app.tellMicrophone(kind);
  }

  /** The way of talking has changed. */
  changed() {
    if (this.device) this.close();
    this.app.showState();
  }

  become(microphone) {
    this.microphone = microphone;
    this.app.showState();
    this.stayAwake();
  }

  /** Keep the screen on while the microphone is open, where the browser can. */
  async stayAwake() {
    const wanted = this.device !== null && document.visibilityState === "visible";
    if (!wanted) {
      this.awake?.release();
      this.awake = null;
      return;
    }
    if ((this.awake && !this.awake.released) || !navigator.wakeLock) return;
    try {
      this.awake = await navigator.wakeLock.request("screen");
    } catch (error) {
      if (!(error instanceof DOMException)) throw error; // a low battery, for example
    }
    if (!this.device) this.stayAwake(); // closed meanwhile
  }

  captured(frame) {
    if (!this.listening) return;
    if (this.app.connection.state.name === "ready") this.send(frame, Date.now());
    else this.waiting = [...this.waiting, frame].slice(-HELD_BACK);
  }

  send(frame, now) {
    const sent = this.app.connection.sendSound(frame);
    if (sent) this.clock.sent(frame.length, now);
    this.unsent = sent ? 0 : this.unsent + 1;
    if (this.unsent === SLOW_FRAMES) this.app.tellSlow();
  }

  /** A new session counts its samples from 0. What was said meanwhile goes first. */
  connected({ resumed, position }) {
    if (resumed) this.clock.count = Math.round(position * RATE);
    else this.clock = new SampleClock(RATE);
    this.unsent = 0;
    const now = Date.now();
    const frames = this.waiting.splice(0);
    frames.forEach((frame, index) => {
      const age = frames.slice(index + 1).reduce((sum, later) => sum + later.length, 0);
      this.send(frame, now - (age / RATE) * 1000);
    });
    if (frames.length > 0 && !this.listening) this.app.connection.command("end_turn"); // let go meanwhile
  }
}
