// The connection with sockets, a health check and a clock that the tests hold in their hands.

import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

import { serverAddress, tokenOf } from "../../web/address.js";
import { Connection, backoff } from "../../web/connection.js";
import { DEFAULTS, handshake, load, needsHandshake, save, storageKey, storageOf } from "../../web/settings.js";
import { mindWords, stages, stateNotice, stateWords } from "../../web/words.js";

class Socket {
  static made = [];
  constructor(url, protocols) {
    this.url = url;
    this.protocols = protocols;
    this.sent = [];
    this.bufferedAmount = 0;
    this.open = true;
    this.readyState = 1;
    Socket.made.push(this);
  }
  send(data) {
    this.sent.push(data);
  }
  close(code) {
    this.open = false;
    this.code = code;
  }
  gets(message) {
    this.onmessage({ data: JSON.stringify(message) });
  }
  ends(code = 1006, reason = "") {
    this.open = false;
    this.onclose({ code, reason });
  }
}

let health;
let told;
let connection;
let token;
const address = serverAddress("http://localhost:8000/");
const ticks = async () => {
  for (let i = 0; i < 20; i++) await Promise.resolve();
};
const pass = async (milliseconds) => {
  mock.timers.tick(milliseconds);
  await ticks();
};
const state = () => told.states.at(-1);
const last = () => Socket.made.at(-1);

beforeEach(() => {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  Socket.made = [];
  health = { status: 200, text: "ok" };
  token = "s3";
  told = { states: [], messages: [], sound: [], open: [], dropped: 0, forgotten: false, limits: 0 };
  connection = new Connection(
    address,
    () => ({ language: "en", token }),
    {
      onState: (value) => told.states.push(value),
      onMessage: (message) => told.messages.push(message),
      onSound: (message) => told.sound.push(message),
      onSoundState: (open) => told.open.push(open),
      onDropped: (forgotten) => {
        told.dropped++;
        told.forgotten = forgotten;
      },
      onTimeLimit: () => told.limits++,
    },
    {
      WebSocket: Socket,
      fetch: async () => {
        if (health === null) throw new TypeError("fetch failed");
        const { status, text } = health;
        return { status, text: async () => text, headers: new Headers({ "content-type": "text/plain" }) };
      },
    },
  );
});

async function ready() {
  connection.open();
  await ticks();
  const socket = last();
  socket.onopen();
  socket.gets({ message: "SERVER_READY", audio_key: "k 1" });
  connection.openSound();
  last().onopen();
  return { socket, audio: last() };
}

test("a look at the server takes none of its places", async () => {
  connection.check();
  await ticks();
  assert.deepEqual(state(), { name: "idle" });
  assert.deepEqual(Socket.made, []);
});

test("the handshake is sent, then the sound is asked for with the key", async () => {
  const { socket, audio } = await ready();
  assert.equal(socket.url, "ws://localhost:8000/transcription");
  const hello = JSON.parse(socket.sent[0]);
  assert.match(hello.uid, /^[0-9a-f]{32}$/);
  assert.equal(hello.language, "en");
  assert.equal(audio.url, "ws://localhost:8000/audio?key=k+1");
  assert.equal(state().name, "ready");
  assert.deepEqual(told.open, [true]);
});

test("the token is shown in a subprotocol, not in the address", async () => {
  token = "a (b)/ü";
  const { socket, audio } = await ready();
  const shown = ["whisperfusion", "whisperfusion-token.a%20%28b%29%2F%C3%BC"];
  assert.deepEqual([socket.protocols, audio.protocols], [shown, shown]);
  connection.close();
  token = "";
  assert.deepEqual((await ready()).audio.protocols, []);
});

test("while models load the page says so and asks again until it can connect", async () => {
  health = { status: 503, text: "loading the voice\n" };
  connection.open();
  await ticks();
  assert.deepEqual([state().name, state().reason], ["loading", "loading the voice"]);
  health = { status: 503, text: "loading the language model\n" };
  await pass(2000);
  assert.equal(state().reason, "loading the language model");
  health = { status: 200, text: "ok" };
  await pass(2000);
  last().onopen();
  assert.equal(Socket.made.length, 1);
});

test("a proxy in front of a server that is not up yet is no dead end", async () => {
  health = { status: 502, text: "" };
  connection.open();
  await ticks();
  assert.deepEqual([state().name, state().reason], ["loading", "the server is starting"]);
});

test("a server that accepts but does not answer yet is loading", async () => {
  connection.open();
  await ticks();
  last().onopen();
  await pass(1500);
  assert.equal(state().name, "loading");
  last().gets({ message: "SERVER_READY", audio_key: "k" });
  assert.equal(state().name, "ready");
});

test("a lost connection comes back by itself, later and later", async () => {
  const { socket } = await ready();
  health = null;
  socket.ends();
  assert.equal(told.dropped, 1);
  const waits = [];
  for (let i = 0; i < 7; i++) {
    assert.equal(state().name, "lost");
    waits.push(state().at - Date.now());
    await pass(waits.at(-1));
  }
  assert.ok(waits[0] >= 375 && waits[0] <= 625, String(waits));
  assert.ok(waits.at(-1) >= 11250 && waits.at(-1) <= 18750, String(waits));
  health = { status: 200, text: "ok" };
  await pass(20000);
  last().onopen();
  last().gets({ message: "SERVER_READY", audio_key: "k" });
  assert.equal(state().name, "ready");
});

test("the wait is random, so that not all pages come back at once", () => {
  assert.equal(backoff(1, () => 0), 375);
  assert.equal(backoff(1, () => 0.5), 500);
  assert.equal(backoff(3, () => 0.5), 2000);
  assert.equal(backoff(50, () => 0.5), 15000);
});

test("a socket that hangs is given up", async () => {
  connection.open();
  await ticks();
  await pass(10000);
  assert.equal(state().name, "lost");
  assert.equal(Socket.made[0].open, false);
});

test("a full server is asked again, sooner than its longest stay", async () => {
  connection.open();
  await ticks();
  last().onopen();
  last().gets({ status: "WAIT", message: 3.5 });
  last().ends(1013);
  assert.equal(state().name, "full");
  assert.equal(state().minutes, 3.5);
  assert.match(stateWords(state(), "", Date.now()).text, /All places are taken. Next try in 20 s/);
  assert.match(stateNotice(state()), /4 minutes/);
  await pass(20000);
  assert.equal(Socket.made.length, 2);
});

test("a full server whose time is over is not asked without a pause", async () => {
  connection.open();
  await ticks();
  last().onopen();
  last().gets({ status: "WAIT", message: 0 });
  last().ends(1013);
  assert.equal(state().at - Date.now(), 1000);
});

test("a refused handshake is not tried again and again", async () => {
  connection.open();
  await ticks();
  last().onopen();
  last().gets({ status: "ERROR", message: "The token is wrong." });
  last().ends(1008);
  assert.deepEqual(state(), { name: "refused", reason: "The token is wrong." });
  await pass(100000);
  assert.equal(Socket.made.length, 1);
  connection.open();
  await ticks();
  assert.equal(Socket.made.length, 2);
});

test("at the time limit it goes on with a new session", async () => {
  const { socket, audio } = await ready();
  socket.gets({ message: "DISCONNECT" });
  socket.ends(1000);
  await ticks();
  assert.equal(told.limits, 1);
  assert.equal(told.dropped, 1);
  assert.equal(audio.open, false);
  assert.equal(last().url, address.transcription);
});

test("sound comes back while the session goes on", async () => {
  const { audio } = await ready();
  audio.ends();
  assert.equal(state().name, "ready");
  await pass(700);
  last().onopen();
  assert.deepEqual(told.open, [true, true]);
  last().ends();
  await pass(5000);
  assert.deepEqual(told.open, [true, true, false]);
  last().ends(1008);
  const count = Socket.made.length;
  await pass(60000);
  assert.equal(Socket.made.length, count);
});

test("each connection for sound names the key that came last", async () => {
  const { socket, audio } = await ready();
  socket.gets({ event: "audio_key", audio_key: "k 2" });
  assert.deepEqual(told.messages, []);
  audio.ends();
  await pass(700);
  assert.match(last().url, /key=k\+2/);
  socket.gets({ event: "audio_key", audio_key: "k 3" });
  last().ends(1008); // the key was taken by a connection that broke before it was open
  await pass(700);
  assert.match(last().url, /key=k\+3/);
  last().ends(1008);
  const count = Socket.made.length;
  await pass(60000);
  assert.equal(Socket.made.length, count);
});

test("sound goes on where its connection broke", async () => {
  const { audio } = await ready();
  audio.gets({ event: "reply_start", turn: 3, at: 0.5 });
  audio.onmessage({ data: new ArrayBuffer(4 * 2400) });
  audio.ends();
  await pass(700);
  const query = new URL(last().url).searchParams;
  assert.deepEqual([query.get("turn"), query.get("received")], ["3", "0.6000"]);
  last().onopen();
  last().gets({ event: "reply_end", turn: 3, spoken: "", interrupted: false });
  last().ends();
  await pass(700);
  assert.equal(new URL(last().url).searchParams.get("turn"), null);
});

async function lostWithAKey() {
  const made = await ready();
  made.socket.gets({ message: "SERVER_READY", audio_key: "k 1", resume_key: "r 1" });
  made.socket.ends();
  assert.equal(state().name, "lost");
  return made;
}

async function backWith(message) {
  await pass(700);
  const socket = last();
  socket.onopen();
  socket.gets({ message: "SERVER_READY", ...message });
  connection.openSound();
  return JSON.parse(socket.sent[0]);
}

test("a lost connection goes on with its session and its sound", async () => {
  const { audio } = await lostWithAKey();
  assert.deepEqual([told.dropped, audio.open, told.open], [0, true, [true]]);
  const hello = await backWith({ audio_key: "k 1", resume_key: "r 1", resumed: true, position: 2 });
  assert.equal(hello.resume, "r 1");
  assert.equal(state().name, "ready");
  assert.deepEqual([told.dropped, audio.open, told.open], [0, true, [true, true]]);
  assert.equal(Socket.made.length, 3);
  await pass(60000);
  assert.equal(told.dropped, 0);
});

test("a session that the server has forgotten is over", async () => {
  const { audio } = await lostWithAKey();
  await backWith({ audio_key: "k 2", resume_key: "r 2", resumed: false });
  assert.deepEqual([told.dropped, told.forgotten, audio.open], [1, true, false]);
  assert.match(last().url, /key=k\+2/);
});

test("a session is given up when no connection comes in time", async () => {
  const { audio } = await lostWithAKey();
  health = null;
  await pass(29000);
  assert.equal(told.dropped, 0);
  await pass(1001);
  assert.deepEqual([told.dropped, told.forgotten, audio.open], [1, false, false]);
  health = { status: 200, text: "ok" };
  await pass(20000);
  last().onopen();
  assert.equal(JSON.parse(last().sent[0]).resume, undefined);
});

test("who leaves, or wants another session, says so", async () => {
  const { socket } = await ready();
  socket.gets({ message: "SERVER_READY", audio_key: "k 1", resume_key: "r 1" });
  connection.renew();
  assert.deepEqual([socket.code, told.dropped], [1000, 1]);
  await ticks();
  last().onopen();
  assert.equal(JSON.parse(last().sent[0]).resume, undefined);
  const next = last();
  connection.close();
  assert.deepEqual([next.code, told.dropped], [1000, 2]);
});

test("what still comes from a connection that was left is ignored", async () => {
  const { socket, audio } = await ready();
  connection.close();
  socket.gets({ event: "speech_started", turn: 1 });
  audio.onmessage({ data: new ArrayBuffer(4) });
  socket.ends();
  audio.ends();
  await pass(60000);
  assert.deepEqual([told.messages, told.sound], [[], []]);
  assert.deepEqual(state(), { name: "idle" });
});

test("sound is not piled up for a network that cannot take it", async () => {
  const { socket } = await ready();
  assert.equal(connection.sendSound(new Int16Array(512)), true);
  socket.bufferedAmount = 400000;
  assert.equal(connection.sendSound(new Int16Array(512)), false);
  assert.equal(socket.sent.length, 2);
});

test("nothing is sent before the server is ready", async () => {
  connection.open();
  await ticks();
  assert.equal(connection.command("say", { text: "hi" }), false);
  assert.equal(connection.sendSound(new Int16Array(1)), false);
});

test("addresses: one origin, below a folder, and the two ports of a host", () => {
  assert.deepEqual(serverAddress("https://me.example/talk/?x=1#token=a"), {
    host: null,
    transcription: "wss://me.example/talk/transcription",
    audio: "wss://me.example/talk/audio",
    health: "https://me.example/talk/healthz",
  });
  assert.deepEqual(serverAddress("http://localhost:8000/?ws=box"), {
    host: "box",
    transcription: "ws://box:6006/",
    audio: "ws://box:8888/",
    health: null,
  });
  const secure = serverAddress("https://localhost/?ws=box&transcription_port=1&speech_port=2");
  assert.equal(secure.transcription, "wss://box:1/");
  assert.equal(secure.audio, "wss://box:2/");
  assert.equal(serverAddress("http://localhost/?ws=wss://box").audio, "wss://box:8888/");
  assert.equal(serverAddress("http://localhost/?ws=http://box:8000").audio, "ws://box:8888/");
  assert.equal(serverAddress("https://localhost/?ws=ws://box").audio, "wss://box:8888/");
  assert.equal(tokenOf("http://localhost/#token=a%20b"), "a b");
  assert.equal(tokenOf("http://localhost/"), "");
});

test("settings are kept, and bad ones are put right", () => {
  const kept = new Map();
  const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) };
  assert.deepEqual(load(storage, "k"), DEFAULTS);
  save(storage, "k", { ...DEFAULTS, volume: 0.5 });
  assert.equal(load(storage, "k").volume, 0.5);
  kept.set("k", '{"volume": "loud", "hold": true, "foreign": 1}');
  assert.deepEqual(load(storage, "k"), { ...DEFAULTS, hold: true });
  kept.set("k", "{broken");
  assert.deepEqual(load(storage, "k"), DEFAULTS);
});

test("a browser that forbids storage forgets, and works", () => {
  const forbidding = {
    get localStorage() {
      throw new DOMException("Access is denied for this document.", "SecurityError");
    },
  };
  const storage = storageOf(forbidding, "localStorage");
  assert.deepEqual(load(storage, "k"), DEFAULTS);
  save(storage, "k", { ...DEFAULTS, volume: 0.5 });
  assert.equal(load(storage, "k").volume, 0.5);
  assert.equal(storageOf({ localStorage: storage }, "localStorage"), storage);
});

test("a secret for one server is not kept under another's name", () => {
  assert.notEqual(storageKey(null), storageKey("box"));
  assert.notEqual(storageKey("box"), storageKey("bix"));
});

test("the handshake holds what was chosen and no more", () => {
  const fields = handshake({ ...DEFAULTS, language: "", reply: false, systemPrompt: " Be brief. " }, []);
  assert.equal(fields.language, null);
  assert.equal(fields.multilingual, true);
  assert.equal(fields.reply, false);
  assert.equal(fields.system_prompt, "Be brief.");
  assert.ok(!("voice" in fields) && !("token" in fields));
  assert.ok(!needsHandshake(DEFAULTS, { ...DEFAULTS, volume: 0, hold: true }));
  assert.ok(needsHandshake(DEFAULTS, { ...DEFAULTS, voice: "joe" }));
});

test("every state has words, and the timeline is in the order of time", () => {
  for (const name of ["idle", "connecting", "ready"]) {
    assert.ok(stateWords({ name }, "", 0).text.length > 3);
  }
  assert.match(stateWords({ name: "loading", reason: "loading the voice" }, "", 0).text, /loading the voice/);
  assert.match(stateWords({ name: "lost", at: 2900 }, "", 0).text, /Next try in 3 s/);
  assert.match(stateNotice({ name: "refused", reason: "No." }), /No\./);
  const timeline = { first_sound: null, first_clause: 1, commit: 300.4, provisional_transcript: 210.6, first_token: 250 };
  assert.deepEqual(stages(timeline), [
    { label: "transcribed", milliseconds: 211 },
    { label: "first word", milliseconds: 250 },
    { label: "turn over", milliseconds: 300 },
  ]);
  const typed = { provisional_transcript: 0, commit: 0, first_token: 59, first_sound: 120 };
  assert.deepEqual(stages(typed).map(({ label }) => label), ["first word", "first sound"]);
});

test("the model's line tells its name, and which one is on its way and how far", () => {
  assert.equal(mindWords({ name: "llama_cpp: small.gguf", coming: "", detail: "fast enough" }), "small");
  assert.equal(mindWords({ name: "small", coming: "large", detail: "40 %" }), "small · on its way: large (40 %)");
});

test("while it speaks, it does not say that it listens", () => {
  assert.equal(stateWords({ name: "ready" }, "speaking", 0).text, "Speaking");
  assert.equal(stateWords({ name: "ready" }, "listening", 0).text, "Listening");
});
