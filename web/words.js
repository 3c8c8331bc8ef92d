// What the page says to the person about how things stand.

/**
 * {text, tone} for a state of the connection; tone: calm, busy, good or bad. `doing`: what goes on
 * in a conversation: speaking, thinking, listening or "".
 */
export function stateWords(state, doing, now) {
  switch (state.name) {
    case "idle":
      return { text: "Ready when you are", tone: "calm" };
    case "connecting":
      return { text: "Connecting…", tone: "busy" };
    case "loading":
      return { text: `One moment: ${state.reason}…`, tone: "busy" };
    case "ready":
      return { text: DOING[doing], tone: "good" };
    case "full":
      return { text: `All places are taken. ${again(state, now)}`, tone: "bad" };
    case "lost":
      return { text: `No connection to the server. ${again(state, now)}`, tone: "bad" };
    case "refused":
      return { text: "The server refused the connection", tone: "bad" };
    default:
      throw new RangeError(`unknown state ${state.name}`);
  }
}

const DOING = { speaking: "Speaking", thinking: "Thinking…", listening: "Listening", "": "Connected" };

function again({ at }, now) {
  const seconds = Math.max(0, Math.ceil((at - now) / 1000));
  return seconds > 0 ? `Next try in ${seconds} s` : "Trying again…";
}

/** A longer word on a state, or null. */
export function stateNotice(state) {
  if (state.name === "full") {
    const minutes = Math.max(1, Math.ceil(state.minutes));
    return `The server talks with as many people as it can. A place is free in ${minutes} ${
      minutes === 1 ? "minute" : "minutes"
    } at the latest; this page tries again by itself.`;
  }
  return state.name === "refused" ? `The server says: ${state.reason}` : null;
}

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

/** What is said of speech that became no turn; `reason` as in docs/protocol.md. */
export function heldWords({ reason, text }) {
  return reason === "echo" ? "That was its own voice" : `Noticed “${text}”, and goes on`;
}

/** The language model's line in the header, from its event. */
export function mindWords({ name: file, coming, detail }) {
  const name = file.replace(/^\w+: /, "").replace(/\.gguf$/, ""); // "llama_cpp: Qwen.gguf"
  return coming ? `${name} · on its way: ${coming}${detail ? ` (${detail})` : ""}` : name;
}

export function unvoicedWords(language) {
  return `There is no voice for ${language} here: you can speak it, and the answers are shown as text.`;
}

const STAGES = [
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
  return STAGES.map(([name, label]) => ({ label, milliseconds: Math.round(timeline[name] ?? 0) }))
    .filter(({ milliseconds }) => milliseconds > 0)
    .sort((a, b) => a.milliseconds - b.milliseconds);
}
