// What the page says to the person about how things stand, in the page's language.

import { minutes, t } from "./texts.js";

/**
 * {text, tone} for a state of the connection; tone: calm, busy, good or bad. `doing`: what goes on
 * in a conversation: speaking, thinking, muted, listening or "".
 */
export function stateWords(state, doing, now) {
  switch (state.name) {
    case "idle":
      return { text: t("Ready when you are"), tone: "calm" };
    case "connecting":
      return { text: t("Connecting…"), tone: "busy" };
    case "loading":
      return { text: t("One moment: {reason}…", { reason: t(state.reason) }), tone: "busy" };
    case "ready":
      return { text: t(DOING[doing]), tone: "good" };
    case "full":
      return { text: `${t("All places are taken.")} ${again(state, now)}`, tone: "bad" };
    case "lost":
      return { text: `${t("No connection to the server.")} ${again(state, now)}`, tone: "bad" };
    case "refused":
      return { text: t("The server refused the connection"), tone: "bad" };
    default:
      throw new RangeError(`unknown state ${state.name}`);
  }
}

export const DOING = {
  speaking: "Speaking",
  thinking: "Thinking…",
  muted: "Muted",
  listening: "Listening",
  "": "Connected",
};

function again({ at }, now) {
  const seconds = Math.max(0, Math.ceil((at - now) / 1000));
  return seconds > 0 ? t("Next try in {seconds} s", { seconds }) : t("Trying again…");
}

/** A longer word on a state, or null. */
export function stateNotice(state) {
  if (state.name === "full") {
    return t(FULL, { minutes: minutes(Math.max(1, Math.ceil(state.minutes))) });
  }
  return state.name === "refused" ? t("The server says: {reason}", { reason: t(state.reason) }) : null;
}

export const FULL =
  "The server talks with as many people as it can. A place is free in {minutes} at the latest; this " +
  "page tries again by itself.";

/** What the server's own sentences are, as far as the page knows them in other languages. */
export const SERVER_WORDS = [
  ...["the voice", "the transcriber", "the language model"].flatMap((service) => [
    `starting ${service}`,
    `preparing ${service}`,
    `loading ${service}`,
    `${service} is being restarted`,
    `${service} does not answer`,
  ]),
  "the server is starting",
  "the server is stopping",
  "waiting for the server",
  "The server refused the connection.",
  'The "token" is missing or wrong; ask whoever runs this server.',
  "The server is overloaded; try again soon.",
  "The voice failed, so this reply is not spoken to its end.",
  "The speech recogniser failed on what you said. Please say it again.",
];

/** Below the big button: hands-free, and hold to talk. */
export const HINTS = {
  off: ["Press to talk", "Hold to talk"],
  asking: ["Allow the microphone…", "Allow the microphone…"],
  on: ["Listening: press to stop", "Hold to talk"],
  held: ["Listening", "Listening: let go when done"],
  muted: ["Muted: nothing is sent", "Muted: nothing is sent"],
  early: ["Not listening yet: waiting for the server", "Not listening yet: waiting for the server"],
};

export const MICROPHONE = {
  insecure:
    "This page may not use the microphone, because its address is neither https nor localhost. " +
    "Start the server with --tls and open the page with https. You can type meanwhile, and read the " +
    "answers.",
  refused:
    "The browser does not let this page use the microphone. Allow it in the settings beside the " +
    "page's address and press the button again. You can type meanwhile.",
  missing: "There is no microphone. Connect one and press the button again. You can type meanwhile.",
  busy: "Another program uses the microphone. Close it and press the button again.",
  failed: "The microphone could not be started. Press the button to try again.",
  gone: "The microphone was disconnected. Connect it and press the button again.",
};

export const TIME_LIMIT = {
  going: "The server's time limit was reached. Connected anew; the conversation goes on.",
  over: "The server's time limit was reached. The conversation is kept: go on when you like.",
};

export const SLOW = "The network is too slow for your voice: some of it was not sent.";

/** About the page's address on another device. */
export const ELSEWHERE = {
  open: "Point the camera of a phone in your network at the code, or open the address there.",
  closed:
    "Only this machine can reach the server. Start it with --host 0.0.0.0 --tls and open this again.",
  secret: "The address holds your access token: whoever has it may talk here.",
  insecure: "Without https a browser there gives the page no microphone: start the server with --tls.",
};

/** Of a turn whose connection was lost. */
export const BROKEN = "The connection broke before the answer was complete.";

/** What is said of speech that became no turn; `reason` as in docs/protocol.md. */
export function heldWords({ reason, text }) {
  if (reason === "echo") return t("That was its own voice");
  return t("Noticed “{text}”, and goes on", { text });
}

/** The language model's line in the header, from its event. */
export function mindWords({ name: file, coming, detail }) {
  const name = file.replace(/^\w+: /, "").replace(/\.gguf$/, ""); // "llama_cpp: Qwen.gguf"
  if (!coming) return name;
  const way = t("on its way: {model}", { model: coming });
  return `${name} · ${way}${detail ? ` (${detail})` : ""}`;
}

export function unvoicedWords(language) {
  return t(UNVOICED, { language });
}

export const UNVOICED =
  "There is no voice for {language} here: you can speak it, and the answers are shown as text.";

export const STAGES = [
  ["provisional_transcript", "transcribed"],
  ["commit", "turn over"],
  ["first_token", "first word"],
  ["first_sound", "first sound"],
];

/**
 * The timeline event as [{label, milliseconds}], in the order of time; what did not happen, or took
 * no time as what was typed, is left out.
 */
export function stages(timeline) {
  return STAGES.map(([name, label]) => ({ label: t(label), milliseconds: Math.round(timeline[name] ?? 0) }))
    .filter(({ milliseconds }) => milliseconds > 0)
    .sort((a, b) => a.milliseconds - b.milliseconds);
}
