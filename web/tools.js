// What the language model may do in the page, where the person allows it: tell the time, ring, hang up.

import { t } from "./texts.js";

const MOST_TIMERS = 10;
const LONGEST_TIMER = 24 * 3600; // seconds
const LONGEST_LABEL = 100;
const BEEPS = 12;

/** As the handshake of docs/protocol.md offers them. */
export const TOOLS = [
  {
    name: "get_time",
    description: "Tell the current time and date where the person is.",
    parameters: { type: "object", properties: {} },
  },
  {
    name: "set_timer",
    description: "Set a timer that rings after so many seconds.",
    parameters: {
      type: "object",
      properties: {
        seconds: { type: "number", description: "how long, in seconds" },
        label: { type: "string", description: "what it is for" },
      },
      required: ["seconds"],
    },
  },
  {
    name: "end_conversation",
    description: "End the conversation, when the person says goodbye or wants to stop.",
    parameters: { type: "object", properties: {} },
  },
];

export class Tools {
  /** `ring(text)` tells that a timer is up, `hangUp()` ends the conversation. */
  constructor({ ring, hangUp }, { now = () => new Date(), later = (run, ms) => setTimeout(run, ms) } = {}) {
    this.ring = ring;
    this.hangUp = hangUp;
    this.now = now;
    this.later = later;
    this.timers = 0;
    this.lastTurn = null; // after whose reply the conversation ends
  }

  /** What a `tool_call` event comes to: the fields of `tool_result`. */
  result({ turn, id, name, arguments: values }) {
    try {
      return { id, output: this.carryOut(turn, name, values) };
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      return { id, output: error.message, failed: true };
    }
  }

  carryOut(turn, name, values) {
    if (name === "get_time") return this.time();
    if (name === "set_timer") return this.setTimer(values.seconds, values.label);
    if (name !== "end_conversation") throw new RangeError(`This page has no tool ${name}.`);
    this.lastTurn = turn;
    return "It ends after this answer. Say goodbye.";
  }

  /** In words that a model reads, whatever the page's language. */
  time() {
    const format = { dateStyle: "full", timeStyle: "short" };
    const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
    return `${this.now().toLocaleString("en-US", format)}, ${timeZone}`;
  }

  setTimer(seconds, label) {
    if (!(seconds >= 1 && seconds <= LONGEST_TIMER)) {
      throw new RangeError("A timer is for 1 second to 24 hours.");
    }
    if (this.timers >= MOST_TIMERS) throw new RangeError(`There are ${MOST_TIMERS} timers already.`);
    this.timers += 1;
    const what = typeof label === "string" ? label.slice(0, LONGEST_LABEL).trim() : "";
    this.later(() => {
      this.timers -= 1;
      this.ring(what ? t("The timer is up: {label}", { label: what }) : t("The timer is up."));
    }, 1000 * seconds);
    const until = new Date(this.now().getTime() + 1000 * seconds);
    const format = { timeStyle: seconds < 3600 ? "medium" : "short" };
    return `The timer is set and rings at ${until.toLocaleTimeString("en-US", format)}.`;
  }

  /** The reply of this turn is over. */
  replied(turn) {
    if (this.lastTurn === null || turn < this.lastTurn) return;
    this.lastTurn = null;
    this.hangUp();
  }

  /** The session is over, and its turns count no more. Timers go on. */
  reset() {
    this.lastTurn = null;
  }
}

/** Ring: a few short tones. Without sound the person has the notice. */
export function ringTone(context, volume) {
  if (!context) return;
  const gain = new GainNode(context, { gain: 0 });
  const tone = new OscillatorNode(context, { type: "triangle", frequency: 880 });
  tone.connect(gain).connect(context.destination);
  const start = context.currentTime;
  for (let beep = 0; beep < BEEPS; beep += 1) {
    const at = start + beep * 0.25 + Math.floor(beep / 3) * 0.5;
    gain.gain.setTargetAtTime(0.3 * volume, at, 0.01);
    gain.gain.setTargetAtTime(0, at + 0.14, 0.02);
  }
  tone.start();
  tone.stop(start + BEEPS * 0.25 + (BEEPS / 3) * 0.5);
}
